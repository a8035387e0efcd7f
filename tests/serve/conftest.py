import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # the toys

from toy_browser import CHROMIUM, PATIENCE, SOFTWARE_GL
from toy_server import serving, working

import toy_runs
from cgeartheye.apps.publish import publish
from cgeartheye.apps.registry import Registry
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


@pytest.fixture
def work_off(settings: Settings) -> Callable[[], None]:
    """Does all jobs that wait."""

    def work() -> None:
        with working(settings) as store:
            while store.count("accepted") or store.count("running"):
                time.sleep(0.02)

    return work


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    """A server at loopback, in a thread."""
    with serving(settings) as at:
        yield at


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
    # Software draws the maps: fewer pixels, and no frames of a motion.
    size = {"width": 900, "height": 600}
    context = browser.new_context(viewport=size, locale="en-GB", reduced_motion="reduce")
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
