"""Workers as processes: killed, cancelled, and taken over by others.

They and the processes beside them are forked from one that has imported PyTorch already; those of
the commands are tested with the page.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # the toys

from tests import processes

import toy_runs
from cgeartheye.apps.publish import publish
from cgeartheye.apps.registry import Registry
from cgeartheye.cli.main import main
from cgeartheye.jobs.store import Job, JobStore

CODE = """
import multiprocessing, os, sys
from pathlib import Path
from cgeartheye.apps.registry import Registry
from cgeartheye.jobs import runner, worker
from cgeartheye.jobs.store import JobStore
from cgeartheye.jobs.worker import Worker

class Forked:
    def __init__(self, command, **_):
        assert command == [sys.executable, "-m", "cgeartheye.jobs.runner"]
        given, answers = os.pipe(), os.pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=self._run, args=(given, answers)
        )
        self._process.start()
        os.close(given[0])
        os.close(answers[1])
        self.stdin, self.stdout = os.fdopen(given[1], "w"), os.fdopen(answers[0])
        self.kill, self.wait = self._process.kill, self._process.join

    def _run(self, given, answers):
        os.setsid()
        os.dup2(given[0], 0)
        os.dup2(answers[1], 1)
        for end in (*given, *answers):
            os.close(end)
        runner.main()

    def poll(self):
        return self._process.exitcode

worker.subprocess.Popen = Forked
store, folder, registry, cluster = sys.argv[1:]
place = JobStore(store), Path(folder), Registry(Path(registry))
Worker(*place, lease=3.0, cluster=cluster or None).run()
"""
Start = Callable[..., BaseProcess]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    publish(toy_runs.train_land(tmp_path_factory.mktemp("land")), "Land", registry=folder)
    return Registry(folder)


@pytest.fixture
def start(registry: Registry, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker."""
    started: list[BaseProcess] = []

    def begin(cluster: str = "") -> BaseProcess:
        arguments = [tmp_path / "jobs.sqlite", tmp_path / "jobs", registry.folder, cluster]
        started.append(processes.start(["-c", CODE, *arguments]))
        return started[-1]

    yield begin
    for worker in started:
        worker.kill()
        worker.join()


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def runners_of(process: BaseProcess) -> list[int]:
    """Return the processes that a worker has started."""
    worker = process.pid
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    found = {int(child) for child in children}
    for task in Path(f"/proc/{worker}/task").iterdir():  # a thread may have started them
        found |= {int(child) for child in (task / "children").read_text().split()}
    return sorted(found)


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_killed_workers_leave_the_bytes_of_one(
    registry: Registry, start: Start, tmp_path: Path
) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 1000, 700)
    request = {"scenes": [str(scene)], "after": None, "options": {"vector_format": ["geojson"]}}
    job = store.submit("land", request, "ann")

    def state() -> Job:
        found = store.get(job.id)
        assert found is not None
        return found

    def written(since: int) -> bool:
        """Whether rows were: the job's row in the store learns of them later."""
        ledgers = (tmp_path / "jobs" / job.id).rglob("ledger.sqlite*")
        return any(one.stat().st_mtime_ns > since for one in ledgers)

    # The worker dies in the middle, and takes the process with the model along.
    first = start()
    wait_until(lambda: written(0))
    (runner,) = runners_of(first)
    first.kill()
    first.join()
    wait_until(lambda: is_gone(runner))
    assert state().status == "running"
    # The process with the model dies: the worker starts another and goes on.
    second, before = start(), time.time_ns()
    wait_until(lambda: state().attempt == 2 and written(before))
    os.kill(runners_of(second)[0], signal.SIGKILL)
    wait_until(lambda: state().status in ("successful", "failed"))
    assert (state().status, state().message) == ("successful", "")
    assert state().attempt == 3
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                *["map", "--vector-format", "geojson", "--out"],
                str(tmp_path / "whole"),
                str(registry.path("land")),
                str(scene),
            ]
        )
    for name in ("map.tif", "map.geojson"):
        made = tmp_path / "jobs" / job.id / "map" / name
        assert made.read_bytes() == (tmp_path / "whole" / name).read_bytes()

    # Cancelling ends a job within a second or two, and leaves nothing of it.
    large = toy_runs.land_scene(tmp_path / "large.tif", 2000, 2000)  # not done in a moment
    other = store.submit("land", request | {"scenes": [str(large)]}, "ann")
    wait_until(lambda: (store.get(other.id) or job).done > 0)
    store.cancel(other.id)
    wait_until(lambda: (store.get(other.id) or job).status == "dismissed")
    wait_until(lambda: not (tmp_path / "jobs" / other.id).exists())
    store.close()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.slow  # each process of Ray imports the package
def test_a_job_by_ray_has_the_bytes_of_one_process(
    registry: Registry, start: Start, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="pip install 'cgeartheye[ray]'")
    store = JobStore(tmp_path / "jobs.sqlite")
    scene = toy_runs.land_scene(tmp_path / "scene.tif", 1000, 700)
    request = {"scenes": [str(scene)], "after": None, "options": {"vector_format": ["geojson"]}}
    job = store.submit("land", request, "ann")

    def state(of: Job = job) -> Job:
        found = store.get(of.id)
        assert found is not None
        return found

    start("local")
    wait_until(lambda: state().status in ("successful", "failed"), 300)
    assert (state().status, state().message) == ("successful", "")
    assert state().done == state().total > 0
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                *["map", "--vector-format", "geojson", "--out"],
                str(tmp_path / "whole"),
                str(registry.path("land")),
                str(scene),
            ]
        )
    for name in ("map.tif", "map.geojson"):
        made = tmp_path / "jobs" / job.id / "map" / name
        assert made.read_bytes() == (tmp_path / "whole" / name).read_bytes()

    # One that is cancelled leaves neither files nor processes.
    large = toy_runs.land_scene(tmp_path / "large.tif", 4000, 2000)
    other = store.submit("land", request | {"scenes": [str(large)]}, "ann")
    wait_until(lambda: state(other).done > 0, 300)
    store.cancel(other.id)
    wait_until(lambda: state(other).status == "dismissed")
    wait_until(lambda: not (processes.block_mappers() or (tmp_path / "jobs" / other.id).exists()))
    store.close()
