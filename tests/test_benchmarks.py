"""Benchmarks run, at a size that takes a second and measures nothing."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # they import each other

CASES = {
    "backbone_forward": "--device cpu --sizes tiny --repeats 1",
    "change_ban": "--size tiny --side 56 --batch 1 --turns 1",
    "frozen_memory": "--size tiny --image-size 28 --batch 2 --precision fp32 --device cpu "
    "--repeats 1",
    "jlssd_kmeans": "--points 600 --clusters 10 --iterations 2 --turns 1",
    "pretraining_losses": "--batch 4 --prototypes 64",
    "pretraining_views": "CHIPS --repeats 1",
}
SLOW = {"detection_step": "--side 112 --batch 1 --queries 20 --layers 1 --turns 1"}
NEEDS = {"pretraining_losses": "lightly"}
SMALLER: dict[str, dict[str, Any]] = {
    "backbone_forward": {"SIDES": (28,), "CPU_BATCH": {28: 1}},
    "change_ban": {"VIT_SIDE": 56},
    "pretraining_losses": {"REPEATS": 1},
    "pretraining_views": {"BATCH": 4},
}


@pytest.mark.parametrize(
    "name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_a_benchmark_prints_its_table(
    name: str, chips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    module = importlib.import_module(name)
    for constant, value in SMALLER.get(name, {}).items():
        monkeypatch.setattr(module, constant, value)
    monkeypatch.setattr(
        sys, "argv", [name, *(CASES | SLOW)[name].replace("CHIPS", str(chips)).split()]
    )
    module.main()
    assert "┃" in capsys.readouterr().out
