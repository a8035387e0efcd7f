import io
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # the toys

from toy_browser import CHROMIUM, PATIENCE, SOFTWARE_GL

import toy_runs
from cgeartheye.apps.publish import publish
from cgeartheye.apps.registry import Registry
from cgeartheye.jobs import worker as worker_module
from cgeartheye.jobs.runner import Runner
from cgeartheye.jobs.store import JobStore
from cgeartheye.jobs.worker import Worker
from cgeartheye.serve.app import create_app
from cgeartheye.serve.settings import Settings


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Applications of land, of change and of things."""
    folder = tmp_path_factory.mktemp("registry")
    for name, train in (
        ("Land", toy_runs.train_land),
        ("Change", toy_runs.train_change),
        ("Things", toy_runs.train_things),
    ):
        publish(train(tmp_path_factory.mktemp(name)), name, registry=folder)
    return Registry(folder)


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene that fits, one that is too coarse, and a file that is no raster."""
    folder = tmp_path_factory.mktemp("scenes")
    toy_runs.land_scene(folder / "fine.tif")
    toy_runs.land_scene(folder / "coarse.tif", gsd=5)
    (folder / "broken.tif").write_text("nothing")
    return folder


@pytest.fixture
def settings(registry: Registry, scene_folder: Path, tmp_path: Path) -> Settings:
    return Settings(tmp_path / "data", registry, (scene_folder,))


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as made:
        yield made


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


@pytest.fixture
def work_off(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Does all jobs that wait."""
    monkeypatch.setattr(worker_module, "_Runner", InProcess)

    def work() -> None:
        store = JobStore(settings.store)
        worker = Worker(store, settings.jobs, settings.registry)
        thread = threading.Thread(target=worker.run)
        thread.start()
        while store.count("accepted") or store.count("running"):
            thread.join(0.05)
        worker.stop()
        thread.join()
        store.close()

    return work


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    """A server at loopback, in a thread."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(SOFTWARE_GL))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that must not fail, and must not ask anybody but its server."""
    context = browser.new_context(viewport={"width": 1000, "height": 700}, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    asked: set[str] = set()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.add(request.url))
    yield page
    assert not errors
    home = re.match("https?://[^/]+/", page.url)
    assert home
    foreign = [url for url in asked if not url.startswith((home[0], "data:", f"blob:{home[0]}"))]
    assert not foreign
    context.close()
