"""Worker: claims jobs, has them done by a process of their own, and keeps their leases.

The worker itself imports no PyTorch and does no work, so it answers while a window is computed; the
process beside it (`runner`) has the models. Killed, it takes that process with it; the lease runs
out, and another worker finishes the map with the same bytes.
"""

import contextlib
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cgeartheye.apps.registry import Registry
from cgeartheye.geo.remote import address_of
from cgeartheye.jobs.store import Job, JobStore
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.events import log_event
from cgeartheye.utils.io import folder_bytes, write_json

LEASE = 15.0  # seconds without a beat after which a worker is taken for dead
BEAT, POLL = 1.0, 0.2  # seconds between two beats, and between two looks for work


class Worker:
    """Works on the jobs of a store, one at a time."""

    def __init__(
        self,
        store: JobStore,
        folder: Path,
        registry: Registry,
        lease: float = LEASE,
        cluster: str | None = None,
    ) -> None:
        """Take a place to work at.

        Args:
            store: of the jobs.
            folder: that has a folder for each job, which all workers share.
            registry: of the applications.
            lease: seconds that a silent worker is waited for.
            cluster: address of a Ray cluster that makes the maps, or `local`; none: the process
                beside this one does.
        """
        self._cluster = cluster
        self._store, self._folder, self._registry, self._lease = store, folder, registry, lease
        self.name = f"{platform.node()}-{os.getpid()}"
        self._runner: _Runner | None = None
        self._stop = threading.Event()

    def stop(self) -> None:
        """End `run` soon; a job that it works on is offered to others."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop`."""
        try:
            while not self._stop.is_set():
                runner = self._ready_runner()
                job = self._claimed() if runner else None
                if job is None:
                    self._stop.wait(POLL)
                elif runner:
                    self._work(job, runner)
        finally:
            if self._runner:
                self._runner.kill()

    def _ready_runner(self) -> "_Runner | None":
        """Return a process that can begin at once; none yet: PyTorch takes seconds to import.

        A job is only claimed when there is one: until then others may take it.
        """
        if self._runner is None or not self._runner.alive:
            if self._runner and not self._runner.ready:
                log_event("process does not start", worker=self.name)
                self._stop.wait(5)
            self._runner = _Runner()
        return self._runner if self._runner.ready else None

    def _claimed(self) -> Job | None:
        try:
            return self._store.claim(self.name, self._lease)
        except UserError as error:
            log_event("store away", worker=self.name, message=str(error))
            self._stop.wait(5)
            return None

    def _work(self, job: Job, runner: "_Runner") -> None:
        log_event("job begun", worker=self.name, job=job.id, app=job.app, attempt=job.attempt)
        try:
            runner.send(self._request(job))
        except UserError as error:
            self._store.finish(job, "failed", str(error), disk_bytes=0)
            return
        done = total = 0
        next_beat = 0.0
        while True:
            answer = runner.answer(timeout=POLL)
            if answer is None and not runner.alive:
                log_event("process lost", worker=self.name, job=job.id, attempt=job.attempt)
                self._store.lose(job)
                return
            if answer and "ended" in answer:
                message = self._without_paths(job, answer["message"])
                self._store.beat(job, self._lease, done, total)
                size = folder_bytes(self._folder / job.id)
                self._store.finish(job, answer["ended"], message, size)
                log_event("job ended", worker=self.name, job=job.id, status=answer["ended"])
                return
            if answer:
                done, total = answer["done"], answer["total"]
            if self._stop.is_set():
                runner.kill()
                self._store.finish(job, "accepted")
                return
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + BEAT
                if not self._goes_on(job, done, total):
                    runner.kill()
                    self._drop(job)
                    return

    def _goes_on(self, job: Job, done: int, total: int) -> bool:
        # A database that does not answer is no reason to stop: the lease shows in time.
        with contextlib.suppress(UserError):
            return self._store.beat(job, self._lease, done, total)
        return True

    def _drop(self, job: Job) -> None:
        """End a job that was cancelled; one that another worker has by now is left to it."""
        if self._store.finish(job, "dismissed", disk_bytes=0):
            shutil.rmtree(self._folder / job.id, ignore_errors=True)

    def _request(self, job: Job) -> dict[str, Any]:
        folder = self._folder / job.id
        folder.mkdir(parents=True, exist_ok=True)
        kind = job.request.get("kind")
        if kind:  # what the request holds is all there is to know
            more = {"registry": str(self._registry.folder)}
            return {**job.request, **more, "out": str(folder / "map")}
        options = dict(job.request.get("options", {}))
        if job.request.get("area"):
            area = folder / "area.geojson"
            write_json(area, {"type": "Feature", "properties": {}, "geometry": job.request["area"]})
            options["aoi"] = str(area)
        return {
            "kind": "map",
            "model": str(self._registry.path(job.app)),
            "scenes": job.request["scenes"],
            "after": job.request.get("after"),
            "options": options,
            "out": str(folder / "map"),
            "cluster": self._cluster,
        }

    def _without_paths(self, job: Job, message: str) -> str:
        """Leave of paths on this machine, and of addresses, their last names."""
        paths = [*job.request["scenes"], *(job.request.get("after") or ())]
        for path in paths:
            message = message.replace(address_of(Path(path)), _last_name(path))
        for path in (*paths, str(self._folder / job.id / "map"), str(self._folder / job.id)):
            message = message.replace(path, _last_name(path))
        return message.replace(str(self._folder), "")


def _last_name(path: str) -> str:
    return address_of(Path(path)).partition("?")[0].rsplit("/", 1)[-1]


class _Runner:
    """The process with the models.

    Attributes:
        ready: whether it has imported what it needs.
    """

    ready = False

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cgeartheye.jobs.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # an interrupt of the terminal is for the worker to handle
        )
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it shows in `alive`
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def answer(self, timeout: float) -> dict[str, Any] | None:
        """Return the next answer; none if there is none in so many seconds."""
        try:
            return self._answers.get(timeout=timeout)
        except queue.Empty:
            return None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "ready" in answer:
                self.ready = True
            else:
                self._answers.put(answer)
