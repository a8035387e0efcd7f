"""Errors of Ray are sentences; no memory is really exhausted for it."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cgeartheye.scale.actors import Cluster, _sentences, connected
from cgeartheye.scale.blocks import BlockMapper
from cgeartheye.utils.errors import UserError

ray = pytest.importorskip("ray", reason="pip install 'cgeartheye[ray]'")
RAY = Path(sys.executable).with_name("ray")
SOURCE = Path(__file__).parents[2] / "src"


def test_a_worker_that_ray_ends_for_lack_of_memory() -> None:
    from ray.exceptions import OutOfMemoryError

    with pytest.raises(UserError, match="its machine ran out of memory: start fewer"), _sentences():
        raise OutOfMemoryError("Task was killed due to the node running low on memory.")


def test_a_worker_that_is_lost_again_and_again() -> None:
    from ray.exceptions import ActorDiedError, RayActorError, WorkerCrashedError

    for error in (RayActorError(), ActorDiedError(), WorkerCrashedError()):
        with pytest.raises(UserError, match=r"was lost .* times on one task"), _sentences():
            raise error


@pytest.mark.parametrize("kind", [MemoryError, "torch"])
def test_a_block_that_memory_does_not_suffice_for_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    import torch

    error = torch.OutOfMemoryError if kind == "torch" else kind

    def fail(*_: object) -> None:
        raise error

    mapper = object.__new__(BlockMapper)
    mapper._store, mapper.job, mapper.predictor = None, None, None  # type: ignore[assignment]
    monkeypatch.setattr("cgeartheye.scale.blocks.map_block", fail)
    with pytest.raises(UserError, match=r"rows of windows 4-9: a worker is out of memory: give"):
        mapper.map_block((4, 10))


def test_what_an_actor_raises_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the cluster, which is ours, reports nothing to anybody."""
    from ray._common.usage.usage_lib import usage_stats_enabled

    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    assert usage_stats_enabled()

    class Worker:
        """Does what a task says; of no module, or its process would import all of this one."""

        def do(self, task: Any) -> Any:
            if task == "mistake":
                raise UserError("scene.tif is damaged")
            return task

    with connected("local") as cluster:
        assert not usage_stats_enabled()
        results = cluster.work(Worker, (), "do", [1, "mistake", 2], 1, on_gpu=False)
        with pytest.raises(UserError, match=r"scene\.tif is damaged"):
            list(results)


@pytest.mark.parametrize(
    ("machines", "count", "cores"),
    [((16,), 8, 2), ((1, 1), 1, 1), ((8, 8, 8, 8), 2, 8), ((8, 8, 8, 8), 5, 4), ((2, 0), 5, 0)],
)
def test_machines_have_room_for_all_processes(
    machines: tuple[int, ...], count: int, cores: int
) -> None:
    lost = {"Alive": False, "Resources": {"CPU": 64.0}}
    nodes = [
        lost,
        *({"Alive": True, "Resources": {"CPU": float(n)} if n else {}} for n in machines),
    ]
    stand_in = SimpleNamespace(
        cluster_resources=lambda: {"CPU": float(sum(machines))}, nodes=lambda: nodes
    )
    assert Cluster(stand_in).share(count, on_gpu=False) == (cores, 0)


@pytest.mark.parametrize(
    ("gpus", "count", "part"), [(2, 1, 1), (2, 2, 1), (2, 3, 0.5), (1, 4, 0.25)]
)
def test_processes_share_gpus_where_there_are_more_of_them(
    gpus: int, count: int, part: float
) -> None:
    stand_in = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": float(gpus)})
    assert Cluster(stand_in).share(count, on_gpu=True) == (0, part)


def test_an_address_that_does_not_answer() -> None:
    started = time.monotonic()
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "127.0.0.1:port"):
        with pytest.raises(UserError, match=f"no Ray cluster answers at {address}: start one"):
            connected(address).__enter__()
    assert time.monotonic() - started < 60


def test_a_machine_on_which_ray_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(UserError, match=r"Ray does not start on this machine \(The current node"):
        connected("local").__enter__()


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--cluster needs Ray: pip install"):
        connected("local").__enter__()


@pytest.mark.parametrize("asks", [True, False])
def test_a_token_is_sent_where_it_is_asked_for(
    asks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)

    def connect(address: str) -> None:
        if asks:
            raise ray.exceptions.AuthenticationError("the token is missing")

    monkeypatch.setattr("ray._raylet.GcsClient", connect)
    seen = []
    monkeypatch.setattr(ray, "init", lambda **_: seen.append(os.environ.get("RAY_AUTH_MODE")))
    monkeypatch.setattr(ray, "cluster_resources", dict)
    server = socket.create_server(("127.0.0.1", 0))
    with server, connected(f"127.0.0.1:{server.getsockname()[1]}"):
        pass
    assert seen == ["token" if asks else None]
    assert "RAY_AUTH_MODE" not in os.environ  # the next cluster may want another


def test_a_port_of_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own error is of no kind that Python knows."""

    def connect(address: str) -> None:
        raise ray.exceptions.RpcError("Timed out while waiting for GCS to become available.")

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr("ray._raylet.GcsClient", connect)
    server = socket.create_server(("127.0.0.1", 0))
    with server, pytest.raises(UserError, match="no Ray cluster answers"):
        connected(f"127.0.0.1:{server.getsockname()[1]}").__enter__()


@pytest.mark.slow  # the same with Ray's own servers
@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_a_token_goes_to_a_cluster_that_asks_for_it(mode: str, tmp_path: Path) -> None:
    """Ray's server asks for the user's token if one was there at its start; no client sends it."""
    home = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(SOURCE)}
    home = {name: value for name, value in home.items() if not name.startswith("RAY_")}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("0" * 64)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--port {port} --num-cpus 1 --include-dashboard false --disable-usage-stats --block"
    folder = tempfile.mkdtemp(prefix="ray")  # paths of sockets are short
    command = [RAY, "start", "--head", *options.split(), "--temp-dir", folder]
    server = subprocess.Popen(
        command, env={**home, "RAY_AUTH_MODE": mode}, stdout=subprocess.DEVNULL
    )
    code = (
        "from cgeartheye.scale.actors import connected\n"
        "class Adder:\n"
        "    def add(self, number): return number + 1\n"
        f"with connected('127.0.0.1:{port}') as cluster:\n"
        "    print(list(cluster.work(Adder, (), 'add', [1], 1, on_gpu=False)))"
    )
    try:
        _wait_for(port)
        client = [sys.executable, "-c", code]
        result = subprocess.run(client, env=home, capture_output=True, text=True, timeout=120)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
    assert "[2]" in result.stdout, result.stderr
    assert ("asks for a token" in result.stdout + result.stderr) == (mode == "token")


def _wait_for(port: int) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
