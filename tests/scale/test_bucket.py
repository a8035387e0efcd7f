"""Blocks in a bucket: workers and drivers that share no folder make the map of one process."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

sys.path.append(str(Path(__file__).parents[1]))  # the toys

from tests import processes

import toy_runs
from cgeartheye.cli.main import main
from cgeartheye.commands import map as map_module
from cgeartheye.geo.remote import as_path
from cgeartheye.mapping import blocks as blocks_module
from cgeartheye.scale.block_store import BlockStore
from cgeartheye.scale.blocks import BlockMapper
from cgeartheye.utils.errors import UserError

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def land_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_runs.train_land(tmp_path_factory.mktemp("land"), epochs=12)


@pytest.fixture
def on_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Make this process one of a machine with folders of its own."""

    def move(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    return move


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def keys(bucket: Any, prefix: str) -> list[str]:
    return sorted(entry["path"] for page in bucket.list(prefix) for entry in page)


@pytest.mark.parametrize("task", ["land", "things"])
def test_parts_of_machines_of_their_own_are_one_map(
    bucket: Any,
    land_run: Path,
    tmp_path: Path,
    on_machine: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
) -> None:
    monkeypatch.setattr(blocks_module, "_FEWEST", 1)
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 170, 100)
    run = land_run if task == "land" else toy_runs.train_things(tmp_path / "things")
    form = "--vector-format", "geojson"
    assert command("map", run, scene, "--out", tmp_path / "whole", *form) == 0
    out = f"s3://{bucket.config['bucket']}/maps/a"
    words = "map", run, scene, "--out", out, *form
    on_machine("one")
    assert command(*words, "--part", "1/2") == 0
    assert "blocks are left to others" in capsys.readouterr().out
    found = keys(bucket, "maps/a")
    assert "maps/a/unfinished/plan.json" in found
    assert not list((tmp_path / "one").rglob("*.raw"))  # nothing of the whole map is here
    on_machine("two")
    assert command(*words, "--part", "0/2") == 0
    assert "all blocks are finished" in capsys.readouterr().out
    on_machine("three")
    assert command(*words) == 2  # an unfinished map is there
    assert command(*words, "--part", "0/2") == 0  # again: nothing is left to do
    with monkeypatch.context() as patch:
        patch.setattr("cgeartheye.mapping.pipeline.Mapper._predict", lambda *_: pytest.fail("anew"))
        assert command(*words, "--resume") == 0
    name = "map.tif" if task == "land" else "map.geojson"
    made = bytes(bucket.get(f"maps/a/{name}").bytes())
    assert made == (tmp_path / "whole" / name).read_bytes()
    if task == "land":
        with rasterio.open(tmp_path / "whole" / name) as file:
            assert len(np.unique(file.read())) > 1
    assert not keys(bucket, "maps/a/unfinished")
    assert {"maps/a/item.json", "maps/a/map.json"} <= set(keys(bucket, "maps/a"))
    assert json.loads(bytes(bucket.get("maps/a/item.json").bytes()))["id"] == "a"


def test_a_damaged_parcel_is_named(
    bucket: Any,
    land_run: Path,
    tmp_path: Path,
    on_machine: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks_module, "_FEWEST", 1)
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 120, 60)
    name = bucket.config["bucket"]
    out = as_path(f"s3://{name}/map")
    on_machine("worker")
    worker = BlockMapper(land_run, [scene], out, {}, [])
    blocks = list(worker.plan(2))
    for block in blocks:
        worker.map_block(block)
    on_machine("driver")
    other = BlockMapper(land_run, [scene], out, {"overlap": 0.5}, [])
    with pytest.raises(UserError, match=rf"s3://{name}/map was begun with overlap = .*, not 0.5"):
        other.plan(2)
    pixels = next(key for key in keys(bucket, "map") if key.endswith("classes.raw"))
    content = bytearray(bucket.get(pixels).bytes())
    content[0] ^= 1
    bucket.put(pixels, bytes(content))
    driver = BlockMapper(land_run, [scene], out, {}, [])
    with pytest.raises(UserError, match=r"classes\.raw is not what was written"):
        driver.begin(2, resume=True)
    # An entry that leads elsewhere.
    note = next(key for key in keys(bucket, "map") if key.endswith(f"{blocks[0][1]:08d}.json"))
    bucket.put(note, b'{"parcel": "../../x"}')
    with pytest.raises(UserError, match="is damaged: delete it"):
        driver.begin(2, resume=True)
    # The worker that is asked again maps it again only if the note is gone.
    bucket.delete(note)
    worker.map_block(blocks[0])
    for key in keys(bucket, "map"):
        if key.endswith(".json"):
            json.loads(bytes(bucket.get(key).bytes()))


def test_a_bucket_that_vanishes_loses_nothing(
    bucket: Any,
    land_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from urllib.request import Request, urlopen

    name = bucket.config["bucket"]
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 120, 60)
    out = f"s3://{name}/map"
    address = f"{os.environ['AWS_ENDPOINT_URL']}/{name}"
    finish = map_module.map_with

    def vanish(*given: Any) -> dict[str, Any]:
        urlopen(Request(address, method="DELETE")).close()
        return finish(*given)

    with monkeypatch.context() as patch:
        patch.setattr(map_module, "map_with", vanish)
        assert command("map", land_run, scene, "--out", out) == 2
    assert f"there is no bucket {name}" in " ".join(capsys.readouterr().err.split())
    assert command("map", land_run, scene, "--out", out, "--part", "0/1") == 2
    assert f"there is no bucket {name}" in " ".join(capsys.readouterr().err.split())
    urlopen(Request(address, method="PUT")).close()
    monkeypatch.setattr("cgeartheye.mapping.pipeline.Mapper._predict", lambda *_: pytest.fail("x"))
    assert command("map", land_run, scene, "--out", out, "--resume") == 0
    assert "map/map.json" in keys(bucket, "map")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_losses_of_worker_and_driver_leave_the_bytes_of_one_process(
    bucket: Any,
    land_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_machine: Callable[[str], None],
) -> None:
    pytest.importorskip("ray", reason="pip install 'cgeartheye[ray]'")
    from ray.cluster_utils import Cluster

    scene = toy_runs.land_scene(tmp_path / "scene.tif", 1200, 400)
    out = f"s3://{bucket.config['bucket']}/map"
    monkeypatch.setattr(blocks_module, "_FEWEST", 3)
    on_machine("planner")
    assert len(list(BlockMapper(land_run, [scene], as_path(out), {}, []).plan(2))) > 5
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    own = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    own |= {"PYTHONPATH": str(SOURCE)}
    words = ["-m", "cgeartheye", "map", land_run, scene, "--out", out, "--resume"]
    words += ["--cluster", made.address, "--workers", "2"]
    limit = time.monotonic() + 400
    store = BlockStore(as_path(out))
    try:
        driver = processes.start(words, XDG_CACHE_HOME=str(tmp_path / "first"), **own)

        def wait_for(count: int) -> None:
            while sum(key.count("/") == 2 for key in keys(bucket, "map")) <= count:
                assert driver.is_alive()
                assert time.monotonic() < limit
                time.sleep(0.05)

        wait_for(1)
        os.kill(processes.block_mappers()[0], signal.SIGKILL)  # Ray starts another
        wait_for(3)
        driver.kill()
        driver.join()
        while processes.block_mappers():  # those of the lost driver end with it
            assert time.monotonic() < limit
            time.sleep(0.1)
        assert store.begun()
        # The driver's machine is gone too.
        processes.run(words, XDG_CACHE_HOME=str(tmp_path / "second"), **own)
    finally:
        made.shutdown()
    assert command("map", land_run, scene, "--out", tmp_path / "whole") == 0
    made_map = bytes(bucket.get("map/map.tif").bytes())
    assert made_map == (tmp_path / "whole" / "map.tif").read_bytes()
    assert not keys(bucket, "map/unfinished")
