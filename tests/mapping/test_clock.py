"""Time of stages, and that it reaches map.json."""

import json
import time
from pathlib import Path

import pytest
from toy_map import Toy, picture, run_toy, write_scene

from cgeartheye.mapping.clock import STAGES, Clock


def test_time_within_another_stage_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock()
    with clock.measure("blending"):
        now += 1
        for _ in range(2):
            with clock.measure("inference"):
                now += 3
        now += 1
    with clock.measure("writing"):
        now += 2
    shares = clock.describe()["shares"]
    assert shares == {
        "reading": 0.0,
        "resampling": 0.0,
        "inference": 0.6,
        "blending": 0.2,
        "writing": 0.2,
    }


def test_a_map_records_the_time_of_its_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(60, 80))
    run_toy(scene, tmp_path / "map", Toy(gsd=1.5))
    timing = json.loads((tmp_path / "map/map.json").read_text())["time"]
    assert list(timing["shares"]) == list(STAGES)
    assert sum(timing["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert timing["shares"]["resampling"] > 0
    assert "time: reading" in capsys.readouterr().out
