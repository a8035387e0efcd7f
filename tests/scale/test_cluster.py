"""Ray: two nodes on this machine; a worker and then the driver are killed, and resumed."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # the toys

from tests import processes

import toy_runs
from cgeartheye.cli.main import main
from cgeartheye.mapping import blocks as blocks_module
from cgeartheye.scale.blocks import BlockMapper
from cgeartheye.scale.cluster import map_on_cluster
from cgeartheye.utils.errors import UserError

ray = pytest.importorskip("ray", reason="pip install 'cgeartheye[ray]'")
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two nodes of a core each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made.address
    made.shutdown()


def finished_rows(out: Path) -> int:
    """Return in how many blocks a row may be finished: those that have a ledger."""
    return len(list(out.glob("unfinished/blocks/*/ledger.sqlite")))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_losses_leave_the_bytes_of_one_process(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "land").mkdir()
    land = toy_runs.train_land(tmp_path / "land")
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 1000, 500)
    out = tmp_path / "map"
    command = ["-m", "cgeartheye", "map", land, scene, "--out", out]
    command += ["--cluster", cluster, "--resume", "--workers"]
    # Small blocks, so that there are some to lose; whoever maps takes the plan that is there.
    monkeypatch.setattr(blocks_module, "_FEWEST", 3)
    assert BlockMapper(land, [scene], out, {}, []).begin(2, resume=False) > 5
    # One worker: what is mapped after its loss was mapped by another that Ray has started.
    driver = processes.start([*command, "1"], PYTHONPATH=str(SOURCE))
    limit = time.monotonic() + 500

    def wait_for(count: int) -> None:
        while finished_rows(out) < count:
            assert driver.is_alive()
            assert time.monotonic() < limit
            time.sleep(0.05)

    wait_for(1)
    (mapper,) = processes.block_mappers()
    os.kill(mapper, signal.SIGKILL)
    wait_for(3)
    driver.kill()
    driver.join()
    assert not (out / "map.tif").exists()
    while processes.block_mappers():  # those of the lost driver end with it
        assert time.monotonic() < limit
        time.sleep(0.1)
    processes.run([*command, "2"], PYTHONPATH=str(SOURCE))
    with pytest.raises(SystemExit, match="0"):
        main(["map", str(land), str(scene), "--out", str(tmp_path / "whole")])
    assert (out / "map.tif").read_bytes() == (tmp_path / "whole" / "map.tif").read_bytes()
    assert not (out / "unfinished").exists()


def test_an_address_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        map_on_cluster("127.0.0.1:1", 1, tmp_path, [tmp_path / "a.tif"], tmp_path / "map", {}, [])
