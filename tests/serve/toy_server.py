"""A server and a worker in threads of the tests, which spares a process of each its imports."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from cgeartheye.jobs.runner import Runner
from cgeartheye.jobs.store import JobStore
from cgeartheye.jobs.worker import Worker
from cgeartheye.serve.app import create_app
from cgeartheye.serve.settings import Settings


class InProcess:
    """Stands for the worker's other process; without it a test would import PyTorch again."""

    alive = ready = True

    def __init__(self) -> None:
        self._lines = io.StringIO()
        self._runner = Runner(self._lines)

    def send(self, request: dict[str, Any]) -> None:
        self._lines.truncate(0)
        self._lines.seek(0)
        self._runner.run(request)
        self._answers = [json.loads(line) for line in self._lines.getvalue().splitlines()]

    def answer(self, timeout: float) -> dict[str, Any] | None:
        return self._answers.pop(0) if self._answers else None

    def kill(self) -> None:
        self._answers = []


@contextmanager
def working(settings: Settings) -> Iterator[JobStore]:
    """Have jobs done by a worker in a thread."""
    store = JobStore(settings.store)
    worker = Worker(store, settings.jobs, settings.registry)
    worker._runner = InProcess()  # type: ignore[assignment]
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield store
    finally:
        worker.stop()
        thread.join()
        store.close()


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve at loopback from a thread; yield the address."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
