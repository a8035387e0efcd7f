"""Parts of an array of jobs, by the command line."""

import shutil
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1]))  # the toys

import block_scheduler

import toy_runs
from cgeartheye.cli.main import main
from cgeartheye.commands.map import map_scenes
from cgeartheye.mapping import blocks as blocks_module
from cgeartheye.mapping.blocks import LEDGER, block_folder, plan_blocks, unfinished_blocks
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.scale import plan as plan_module
from cgeartheye.scale.actors import in_turn
from cgeartheye.scale.blocks import BlockMapper, array_place
from cgeartheye.utils.errors import UserError


@pytest.fixture(scope="module")
def land_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_runs.train_land(tmp_path_factory.mktemp("land"))


def run(*words: object) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([str(word) for word in words])


def test_the_parts_of_an_array_are_one_map(
    land_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(blocks_module, "_FEWEST", 1)
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 300, 100)
    run("map", land_run, scene, "--out", tmp_path / "whole")
    parts = "map", land_run, scene, "--out", tmp_path / "map"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    run(*parts, "--part", "array")
    assert "blocks are left to others" in capsys.readouterr().out
    run(*parts, "--part", "0/2")
    assert "all blocks are finished" in capsys.readouterr().out
    run(*parts, "--resume")
    whole, made = (tmp_path / name / "map.tif" for name in ("whole", "map"))
    assert made.read_bytes() == whole.read_bytes()


def test_a_part_looks_at_what_the_folder_holds(
    land_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(blocks_module, "_FEWEST", 1)
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 300, 100)
    parts = "map", land_run, scene, "--out", tmp_path / "map"
    run(*parts, "--part", "0/2")
    # Of another map.
    with pytest.raises(SystemExit, match="2"):
        main([str(word) for word in (*parts, "--part", "1/2", "--overlap", "0.6")])
    assert "was begun with overlap" in capsys.readouterr().err
    # While another part is in the middle of its block.
    job = BlockMapper(land_run, [scene], tmp_path / "map", {}, []).job
    *before, block = unfinished_blocks(job)
    folder = block_folder(job, block)
    folder.mkdir(parents=True, exist_ok=True)
    held = Ledger(folder / LEDGER, {**job.settings, "block": list(block)})
    run(*parts, "--part", "0/2")
    assert f"{len(before) + 1} blocks are left to others" in capsys.readouterr().out
    held.close()
    # When the map is made.
    run(*parts, "--part", "1/2")
    run(*parts, "--resume")
    run(*parts, "--part", "1/2")
    assert not (tmp_path / "map" / "unfinished").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(land_run: Path, tmp_path: Path) -> None:
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 100, 100)
    with pytest.raises(UserError, match="there is no device 'cuda:0' here"):
        BlockMapper(land_run, [scene], tmp_path / "map", {}, ["training.device=cuda"])


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "array", "1/"])
def test_places_that_are_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="is no part: give K/N"):
        array_place(text)


def test_an_indexed_job_of_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    monkeypatch.delenv("SLURM_ARRAY_TASK_COUNT", raising=False)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    monkeypatch.setenv("JOB_COMPLETIONS", "5")
    assert array_place("array") == (0, 5)


def test_a_plan_is_measured(
    land_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_module, "_SECONDS", 0.2)
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 400, 150)
    made = plan_module.plan(land_run, [scene], {}, [], hours=1e-4)
    rows, columns = (1 + -(-(side - 56) // 51) for side in (400, 150))  # 5 px overlap
    assert made.windows == rows * columns
    assert made.square_km == pytest.approx(400 * 150 * 0.75**2 / 1e6, rel=2e-3)
    assert made.disk_bytes == 2 * 400 * 150
    assert made.bound == "inference"
    assert sum(made.shares.values()) == pytest.approx(1)
    assert made.machines is not None
    assert made.machines >= made.seconds / (1e-4 * 3600)
    run("plan", land_run, scene, "--hours", 2)
    out = capsys.readouterr().out
    assert "bound by" in out
    assert "machines for 2 h" in out
    assert list(tmp_path.iterdir()) == [scene]
    small = toy_runs.land_scene(tmp_path / "small.tif", 40, 40)  # one row of windows
    assert plan_module.plan(land_run, [small], {}, []).seconds > 1e-3
    with pytest.raises(UserError, match="--hours 0 is out of range"):
        plan_module.plan(land_run, [scene], {}, [], hours=0)


def test_the_drivers_memory_does_not_grow_with_the_number_of_blocks(tmp_path: Path) -> None:
    peaks = []
    for number, count in enumerate((1_000, 30_000)):
        folder = tmp_path / str(number)
        stand_in = SimpleNamespace(rows=12 * count, work=folder, out=folder, settings={})
        job = cast(MapJob, stand_in)
        plan_blocks(job, count // 10)
        pool, done = block_scheduler.StandIns(64), 0
        tracemalloc.start()
        for _ in in_turn(pool, lambda _, block: block, unfinished_blocks(job)):
            done += 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert done > 0.9 * count
        (plan,) = (tmp_path / str(number)).rglob("*.json")
        assert plan.stat().st_size < 100
    assert peaks[1] < 1.5 * peaks[0] < 200_000


def test_a_plan_needs_no_room_for_the_map(
    land_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene = toy_runs.land_scene(tmp_path / "scene.tif")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert plan_module.plan(land_run, [scene], {}, []).seconds > 0
    assert "on a larger one with --out" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="No space left"):
        map_scenes(land_run, [scene], tmp_path / "map", {}, [])
