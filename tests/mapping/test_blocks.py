"""A map in blocks, in any order and by several hands, has the bytes of one that is made at once."""

import itertools
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from toy_detector import ToyDetector, draw, scatter
from toy_map import Toy, ToyCells, content, picture, write_scene

from cgeartheye.mapping import blocks as blocks_module
from cgeartheye.mapping.blocks import plan_blocks, unfinished_blocks
from cgeartheye.mapping.options import Options
from cgeartheye.mapping.run import map_block, map_scene, plan_map
from cgeartheye.utils.errors import UserError

MODEL = {"path": "toy"}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: content(path) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", ["pixels", "cells", "objects"])
@pytest.mark.parametrize("height", [1, 2, 5])
def test_blocks_are_the_map(
    tmp_path: Path, kind: str, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {"pixels": Toy, "cells": ToyCells, "objects": ToyDetector}
    options = Options(vector_format=("geojson",), probabilities=kind == "pixels")
    scene = write_scene(tmp_path / "scene.tif", picture(300, 170))
    if kind == "objects":
        boxes, labels = scatter(300, 170, 90, 14, False, 5)
        scene = write_scene(scene, draw(300, 170, boxes, labels))
    whole = tmp_path / "whole"
    map_scene(made[kind](), [scene], whole, MODEL, options)

    monkeypatch.setattr(blocks_module, "_FEWEST", height)
    out = tmp_path / "blocks"
    job = plan_map(made[kind](), [scene], out, MODEL, options)
    planned = list(plan_blocks(job, workers=3))
    assert planned[0][0] == 0
    assert planned[-1][1] == job.rows
    assert all(a[1] == b[0] for a, b in itertools.pairwise(planned))
    order = random.Random(height).sample(planned, len(planned))
    for number, block in enumerate(order):
        assert set(unfinished_blocks(job)) == set(order[number:])
        # Each by a process that has opened everything anew.
        own = plan_map(made[kind](), [scene], out, MODEL, options)
        map_block(own, made[kind](), block)
    # Another number of workers goes on with the same plan.
    assert list(plan_blocks(job, workers=1)) == planned
    last = made[kind]()
    map_scene(last, [scene], out, MODEL, options, resume=True)
    assert files_of(out) == files_of(whole)


def test_what_is_left_is_mapped_by_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "_FEWEST", 2)
    scene = write_scene(tmp_path / "scene.tif", picture(300, 100))
    map_scene(Toy(), [scene], tmp_path / "whole", MODEL)
    job = plan_map(Toy(), [scene], tmp_path / "map", MODEL)
    planned = list(plan_blocks(job, workers=4))
    map_block(job, Toy(), planned[2])
    # A block that was lost in the middle: its ledger is there, and some of its rows.
    map_block(job, Toy(), planned[1])
    ledger = blocks_module.block_folder(job, planned[1]) / "ledger.sqlite"
    shutil.copy(blocks_module.block_folder(job, planned[2]) / "ledger.sqlite", ledger)
    with pytest.raises(UserError, match="begun with block"):
        map_scene(Toy(), [scene], tmp_path / "map", MODEL, resume=True)
    ledger.unlink()
    map_scene(Toy(), [scene], tmp_path / "map", MODEL, resume=True)
    assert files_of(tmp_path / "map") == files_of(tmp_path / "whole")


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(60, 60))
    job = plan_map(Toy(), [scene], tmp_path / "map", MODEL)
    plan_blocks(job, workers=2)
    plan = job.work / "blocks" / "plan.json"
    whole = plan.read_text()
    for text in ("{", whole.replace("2", "0"), whole.replace("2", '"two"'), "[]", "{}"):
        plan.write_text(text)
        with pytest.raises(UserError, match=r"plan\.json is damaged"):
            unfinished_blocks(job)


def test_the_work_of_a_block_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block predicts its own windows, and of those before it one row that overlaps."""
    monkeypatch.setattr(blocks_module, "_FEWEST", 4)
    scene = write_scene(tmp_path / "scene.tif", picture(600, 28))
    job = plan_map(Toy(), [scene], tmp_path / "map", MODEL, Options(batch_size=1))
    planned = list(plan_blocks(job, workers=4))
    toy = Toy()
    for block in planned:
        map_block(job, toy, block)
    assert toy.calls <= job.rows + len(planned) - 1
