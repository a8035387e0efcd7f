"""From a scene to the polygons of an application of one's own, by clicks in a real browser."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from scipy.ndimage import binary_erosion
from toy_browser import CHROMIUM, opened, places_of, settled, start_server

from cgeartheye.synthetic import LAND_COVER, make_world, write_world

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

KINDS = {
    "green": ("field", "tree", "grass"),
    "water": ("water",),
    "built": ("bare", "road", "paved", "building"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(make_world(768, seed=3), folder)
    return folder


def truth_of(world: Path) -> np.ndarray:
    """Number of the kind of each pixel, of those above."""
    with rasterio.open(world / "land_cover_1.tif") as file:
        cover = file.read(1)
    numbers = [next(n for n, own in enumerate(KINDS.values()) if c in own) for c in LAND_COVER]
    return np.array([*numbers, *[255] * (256 - len(numbers))])[cover]


def sure_places(truth: np.ndarray, kind: int, count: int) -> list[tuple[float, float]]:
    """Shares of width and height of places far from each other, where all around is of a kind."""
    inside = binary_erosion(truth == kind, np.ones((29, 29)))
    places = np.argwhere(inside)
    chosen = [places[len(places) // 2]]
    while len(chosen) < count:
        distance = np.min([np.abs(places - one).max(-1) for one in chosen], axis=0)
        chosen.append(places[distance.argmax()])
    return [((column + 0.5) / 768, (row + 0.5) / 768) for row, column in chosen]


@pytest.mark.slow
def test_a_scene_becomes_an_application_of_ones_own(page: Any, world: Path, tmp_path: Path) -> None:
    """The server is killed in the middle; `CGEARTHEYE_SHOTS` names a folder for pictures."""
    truth, scene = truth_of(world), world / "images" / "1_autumn.tif"
    shots = os.environ.get("CGEARTHEYE_SHOTS")
    names = iter(range(100))

    def shot(name: str) -> None:
        if shots:
            settled(page)
            page.screenshot(path=Path(shots) / f"{next(names):02d}_{name}.png")

    folders = "--folder", tmp_path / "data", "--registry", tmp_path / "apps"
    options = [*folders, "--scenes", scene.parent]
    server, address = start_server("--port", "0", *options)
    began = time.monotonic()
    try:
        opened(page, address)
        page.get_by_role("radio", name="1_autumn.tif").check()
        page.get_by_role("button", name="Label", exact=True).click()
        page.get_by_role("button", name="Prepare the scene").click()
        field = page.get_by_label("Name of a class")
        for name in KINDS:
            field.fill(name)
            field.press("Enter")
        place = places_of(page, scene)
        shot("classes")
        for number, name in enumerate(KINDS):
            page.get_by_role("radio", name=name).check()
            for at in sure_places(truth, number, 5):
                page.mouse.click(*place(*at))
            labels_are(page, name, 5)
        shot("clicks")
        draw_box(page, place, "green", truth)
        shot("box")
        page.locator("#label-accuracy", has_text="%").wait_for()
        page.locator("#label-calibration", has_text="%").wait_for()
        before = label_counts(page)
        assert sum(before.values()) == 16

        # The server dies; another one at its place has all labels.
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        port = address.rstrip("/").rsplit(":", 1)[1]
        server, again = start_server("--port", port, *options)
        assert again == address
        opened(page, address)
        page.get_by_role("radio", name="1_autumn.tif").check()
        page.get_by_role("button", name="Label", exact=True).click()
        page.locator("#label-accuracy", has_text="%").wait_for()
        assert label_counts(page) == before
        shot("after_the_kill")

        answer_suggestions(page, truth, scene)
        assert sum(label_counts(page).values()) == 26
        shot("suggestions_answered")

        page.get_by_label("Name of the application").fill("Own cover")
        page.get_by_role("button", name="Make it an application").click()
        page.get_by_role("button", name="Jobs").click()
        page.locator(".row", has_text="Application made of labels").locator(
            ".status.successful"
        ).wait_for()
        shot("application")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        page.get_by_role("button", name="New map").click()
        page.get_by_role("radio", name="1_autumn.tif").check()
        page.locator(".card", has_text="Own cover").click()
        page.wait_for_selector("#run[aria-disabled=false]")
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_role("table", name="Legend").wait_for()
        shot("map")
        with page.expect_download() as downloading:
            page.get_by_role("link", name="Polygons (GeoPackage)").click()
        spent = time.monotonic() - began
        downloading.value.save_as(tmp_path / "map.gpkg")
    finally:
        server.terminate()
        server.wait(20)

    right = agreement(tmp_path / "map.gpkg", truth, scene)
    print(f"{spent:.0f} s; {right:.1%} of the scene's pixels are right")
    assert right > 0.7


def labels_are(page: Any, name: str, count: int) -> None:
    row = page.locator("#label-view .row", has_text=name)
    row.locator("small", has_text=f"{count} labels").wait_for()


def label_counts(page: Any) -> dict[str, int]:
    counts = {}
    for name in KINDS:
        text = page.locator("#label-view .row", has_text=name).locator("small").inner_text()
        counts[name] = int(text.split()[0])
    return counts


def draw_box(
    page: Any, place: Callable[[float, float], tuple[float, float]], name: str, truth: np.ndarray
) -> None:
    """Draw a box around a sixth place of a kind, from corner to corner."""
    across, down = sure_places(truth, list(KINDS).index(name), 6)[-1]
    page.get_by_role("radio", name=name).check()
    page.get_by_role("button", name="Box").click()
    half = 13 / 768
    page.mouse.click(*place(across - half, down - half))
    page.mouse.move(*place(across, down))
    page.mouse.click(*place(across + half, down + half))
    labels_are(page, name, 6)
    page.get_by_role("button", name="Point", exact=True).click()


def answer_suggestions(page: Any, truth: np.ndarray, scene: Path) -> None:
    """Answer each suggested place with what is there."""
    with page.expect_response("**/suggestions*") as asking:
        page.get_by_role("button", name="Where next?").click()
    places = [f["geometry"]["coordinates"] for f in asking.value.json()["features"]]
    assert len(places) == 10
    points = geopandas.GeoSeries.from_xy(*zip(*places, strict=True), crs=4326)
    with rasterio.open(scene) as file:
        points = points.to_crs(file.crs)
        pixels = [file.index(point.x, point.y) for point in points]
    for number, pixel in enumerate(pixels, 1):
        page.get_by_text(f"Place {number} of 10").wait_for()
        page.locator(f"[data-key=answer-{list(KINDS)[truth[pixel]]}]").click()
    page.get_by_role("button", name="Where next?").wait_for()


def agreement(polygons: Path, truth: np.ndarray, scene: Path) -> float:
    """Share of the scene's pixels where polygons have the kind that is there."""
    found = geopandas.read_file(polygons)
    with rasterio.open(scene) as file:
        found = found.to_crs(file.crs)
        shapes = zip(found.geometry, map(list(KINDS).index, found["class"]), strict=True)
        drawn = rasterize(shapes, file.shape, fill=255, transform=file.transform)
    return float((drawn == truth).mean())
