"""The page in a real browser: scenes, applications, jobs."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from toy_browser import CHROMIUM, color_at, drop, opened, places_of, served, settled
from toy_server import serving, working

import toy_runs
from cgeartheye.apps.registry import Registry
from cgeartheye.serve.auth import add_token
from cgeartheye.serve.settings import Settings

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@pytest.fixture(scope="module")
def address(
    registry: Registry, scene_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server and its worker, in threads: processes of their own would import all again."""
    settings = Settings(tmp_path_factory.mktemp("data"), registry, (scene_folder,))
    with serving(settings) as at, working(settings):
        yield f"{at}/"


def test_from_a_dropped_file_to_a_map(page: Any, address: str, tmp_path: Path) -> None:
    opened(page, address)
    dropped = toy_runs.land_scene(tmp_path / "scene.tif", 224, 336)
    drop(page, dropped, "<i>dropped.tif")
    # A name is text, whatever is in it; the dropped scene is the chosen one.
    page.locator(".row.chosen", has_text="<i>dropped.tif").wait_for()
    page.locator(".card", has_text="Land").click()
    settled(page)

    place = places_of(page, dropped)
    page.get_by_role("button", name="Rectangle").click()
    page.mouse.click(*place(0.25, 0.25))
    page.mouse.move(*place(0.5, 0.5))
    page.mouse.click(*place(0.75, 0.75))
    # A quarter of 336 x 224 pixels of 0.75 m.
    page.locator("#estimate", has_text="0.01").wait_for()
    assert page.evaluate("window.cgeartheye.state.estimate.square_km") == pytest.approx(
        336 * 224 * 0.75**2 / 1e6 / 4, rel=0.05
    )

    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("table", name="Legend").wait_for()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Map (COG)").click()
    result = tmp_path / "map.tif"
    downloading.value.save_as(result)
    with rasterio.open(result) as file, rasterio.open(dropped) as scene:
        assert file.driver == "GTiff"
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.transform == scene.transform
        assert file.crs == scene.crs
        classes, colors = file.read(1), file.colormap(1)
    assert (classes[:50] == 255).all()
    inside = classes[60:164, 90:246]
    assert (inside != 255).all()
    shares = [(inside == value).mean() for value in range(3)]
    shown = page.locator("tbody td:nth-child(2)").all_inner_texts()
    assert [float(text.rstrip("%")) for text in shown] == pytest.approx(
        [100 * share for share in shares], abs=3
    )

    page.locator("[data-key=opacity]").press("End")
    row, column = far_from_borders(classes)
    place = places_of(page, dropped)
    seen = color_at(page, place((column + 0.5) / 336, (row + 0.5) / 224))
    assert seen == pytest.approx(colors[int(classes[row, column])][:3], abs=2)
    # Outside of the area the scene is seen: not one of the classes' colors.
    outside = color_at(page, place(0.1, 0.1))
    assert all(max(np.abs(np.subtract(outside, colors[v][:3]))) > 30 for v in range(3))

    page.mouse.click(*place((column + 0.5) / 336, (row + 0.5) / 224))
    popup = page.locator(".popup")
    popup.wait_for()
    assert ("wood", "field", "water")[classes[row, column]] in popup.inner_text()
    assert re.search(r"Confidence\s+\d+%", popup.inner_text())

    # A class can be left out: then the scene is seen there too.
    page.get_by_role("checkbox", name=("wood", "field", "water")[classes[row, column]]).uncheck()
    page.get_by_label("Close popup").click()
    bare = color_at(page, place((column + 0.5) / 336, (row + 0.5) / 224))
    assert max(np.abs(np.subtract(bare, seen))) > 30

    # The address brings somebody else to the same result.
    shared = page.url
    page.goto("about:blank")
    opened(page, shared)
    page.get_by_role("table", name="Legend").wait_for()


def far_from_borders(classes: np.ndarray) -> tuple[int, int]:
    """Return a pixel around which all are of its class."""
    side = 9
    windows = np.lib.stride_tricks.sliding_window_view(classes, (side, side))
    same = (windows == windows[:, :, :1, :1]).all((2, 3)) & (windows[:, :, 0, 0] != 255)
    rows, columns = np.nonzero(same)
    middle = len(rows) // 2
    return int(rows[middle]) + side // 2, int(columns[middle]) + side // 2


def tab_to(page: Any, selector: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab does not lead to {selector}")


def arrow_to(page: Any, field: str, wanted: str) -> None:
    for _ in range(6):
        page.keyboard.press("ArrowDown")
        if page.evaluate(f"window.cgeartheye.{field}") == wanted:
            return
    pytest.fail(f"the arrows do not lead to {wanted}")


def test_a_scene_is_mapped_by_keyboard_alone(page: Any, address: str) -> None:
    opened(page, address)
    tab_to(page, "input[name=scene]")
    arrow_to(page, "state.scene?.label", "fine.tif")
    tab_to(page, "input[name=app]")
    arrow_to(page, "state.app?.title", "Land")
    tab_to(page, "#area [aria-pressed=true]")
    page.wait_for_selector("#run[aria-disabled=false]")
    tab_to(page, "#run")
    page.keyboard.press("Enter")
    page.get_by_role("table", name="Legend").wait_for()
    # It is told to those who do not see it.
    assert page.locator("#live").inner_text() == "The map is done."


def test_what_does_not_fit_says_why(page: Any, address: str) -> None:
    opened(page, address)
    page.get_by_role("radio", name="coarse.tif").check()
    why = page.locator(".card.refused", has_text="Land").locator(".why")
    why.wait_for()
    assert "5.00 m/px" in why.inner_text()
    assert page.get_by_role("radio", name="Land").is_disabled()
    # Nor does the operator's file that is no raster: it is listed, with its reason.
    page.get_by_text("Files that cannot be mapped: 1").click()
    page.locator("#scenes li", has_text="broken.tif").wait_for()
    page.get_by_role("button", name="切换到中文").click()
    page.get_by_text("无法制图的文件：1 个").wait_for()
    page.locator(".why", has_text="5.00 米/像素").first.wait_for()
    assert page.locator("html").get_attribute("lang") == "zh-CN"


def test_the_heading_has_room_for_the_number_of_jobs_and_a_card_for_its_part(
    page: Any, address: str
) -> None:
    opened(page, address)
    page.evaluate(
        "() => Object.assign(document.querySelector('#active'), "
        "{ hidden: false, textContent: '12' })"
    )
    header, language = page.locator("header").bounding_box(), page.locator("#language")
    for _ in ("English", "Chinese"):
        box = language.bounding_box()
        assert box["x"] + box["width"] <= header["x"] + header["width"]
        language.click()
    page.locator(".card", has_text="Land").get_by_text("(validation part)").wait_for()


def test_a_file_that_is_no_scene_is_refused_in_a_sentence(
    page: Any, address: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no raster")
    opened(page, address)
    drop(page, tmp_path / "notes.txt", "notes.txt")
    page.get_by_role("alert").filter(has_text="send a GeoTIFF").wait_for()


def test_a_token_is_asked_for_and_kept(
    page: Any, registry: Registry, scene_folder: Path, tmp_path: Path
) -> None:
    """Of the command, in processes of its own; its worker does a job for the token."""
    token = add_token(tmp_path / "tokens", "ann", "run")
    options = ("--registry", registry.folder, "--folder", tmp_path / "data")
    options += ("--scenes", scene_folder)
    with served(*options, "--token-file", tmp_path / "tokens") as place:
        page.goto(place)
        page.get_by_role("textbox", name="Token").fill("a wrong one")
        page.get_by_role("button", name="Enter").click()
        page.get_by_text("this token is not known").wait_for()
        page.get_by_role("textbox", name="Token").fill(token)
        page.get_by_role("button", name="Enter").click()
        page.get_by_role("radio", name="fine.tif").wait_for()
        page.reload()
        page.get_by_role("radio", name="fine.tif").check()
        assert token not in page.evaluate("document.cookie")
        page.locator(".card", has_text="Land").click()
        page.wait_for_selector("#run[aria-disabled=false]")
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_role("table", name="Legend").wait_for()


def test_a_mosaic_is_mapped_with_options(page: Any, address: str, tmp_path: Path) -> None:
    opened(page, address)
    drop(page, toy_runs.land_scene(tmp_path / "scene.tif", 112, 168), "beside.tif")
    page.locator(".row.chosen", has_text="beside.tif").wait_for()
    # What has another pixel size cannot be added.
    assert page.get_by_role("checkbox", name="Add coarse.tif").count() == 0
    page.get_by_role("checkbox", name="Add fine.tif").first.check()
    page.locator(".card", has_text="Land").click()
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Smallest polygon").fill("40")
    page.get_by_label("Cut the corners").check()
    page.get_by_label("GeoParquet").check()
    page.wait_for_selector("#run[aria-disabled=false]")
    with page.expect_request("**/execution") as asking:
        page.get_by_role("button", name="Run", exact=True).click()
    inputs = asking.value.post_data_json["inputs"]
    assert len(inputs["scene"]) == 2
    assert inputs["options"] == {
        "min_area": 40,
        "smooth": True,
        "vector_format": ["gpkg", "parquet", "geojson"],
    }
    page.get_by_role("table", name="Legend").wait_for()
    page.get_by_role("link", name="Polygons (GeoParquet)").wait_for()


def violations(page: Any) -> list[str]:
    """Return what axe-core, of Deque, finds wrong with the page as it is now."""
    axe = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    source = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page.evaluate(source)
    found = page.evaluate("axe.run(document)")["violations"]
    return [f"{one['id']}: {node['target']}" for one in found for node in one["nodes"]]


def test_every_state_of_the_page_is_accessible(page: Any, address: str) -> None:
    found: dict[str, list[str]] = {}
    opened(page, address)
    found["begun"] = violations(page)
    page.get_by_role("radio", name="fine.tif").check()
    page.locator(".card", has_text="Land").click()
    page.get_by_text("Options", exact=True).click()
    page.wait_for_selector("#run[aria-disabled=false]")
    found["chosen"] = violations(page)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("table", name="Legend").wait_for()
    found["done"] = violations(page)
    page.locator("[data-view=jobs]").click()
    page.locator("#job-list button").first.wait_for()
    found["jobs"] = violations(page)
    page.get_by_role("button", name="切换到中文").click()
    found["Chinese"] = violations(page)
    page.goto(f"{address}docs")
    page.locator("summary").first.wait_for()
    found["API"] = violations(page)
    assert not {state: wrong for state, wrong in found.items() if wrong}


def test_the_list_of_the_api_has_every_operation(page: Any, address: str) -> None:
    page.goto(f"{address}docs")
    page.locator("summary").first.wait_for()
    described = page.request.get(f"{address}openapi.json").json()["paths"]
    methods = ("get", "post", "put", "delete")
    count = sum(method in methods for path in described.values() for method in path)
    assert page.locator("summary").count() == count


def test_a_few_clicks_make_a_map(page: Any, address: str, scene_folder: Path) -> None:
    opened(page, address)
    page.get_by_role("radio", name="fine.tif").check()
    page.get_by_role("button", name="Label", exact=True).click()
    page.get_by_role("button", name="Prepare the scene").click()
    name = page.get_by_label("Name of a class")
    for text in ("left", "right"):
        name.fill(text)
        name.press("Enter")
    place = places_of(page, scene_folder / "fine.tif")
    bare = color_at(page, place(0.2, 0.5))
    page.get_by_role("radio", name="left").check()
    page.mouse.click(*place(0.12, 0.5))
    page.locator(".row", has_text="left").locator("small", has_text="1 labels").wait_for()
    page.get_by_role("radio", name="right").check()
    page.mouse.click(*place(0.88, 0.5))
    # Both classes have a share of the map by now, and its colors lie over the scene.
    for text in ("left", "right"):
        page.locator(".row", has_text=text).locator("small", has_text="%").wait_for()
    page.locator("[data-key=label-opacity]").press("End")
    page.locator("[data-key=label-opacity]").press("End")
    seen = color_at(page, place(0.2, 0.5))
    assert max(np.abs(np.subtract(bare, seen))) > 20

    page.get_by_role("button", name="Where next?").click()
    page.get_by_text("Place 1 of 10").wait_for()
    page.locator("[data-key=answer-left]").click()
    page.get_by_text("Place 2 of 10").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator(".row", has_text="left").locator("small", has_text="2 labels").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.locator(".row", has_text="left").locator("small", has_text="1 labels").wait_for()

    # They are on the server: a page that is opened anew has them.
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.get_by_role("radio", name="fine.tif").check()
    page.get_by_role("button", name="Label", exact=True).click()
    page.locator(".row", has_text="right").locator("small", has_text="1 labels").wait_for()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Labels (GeoPackage)").click()
    assert len(geopandas.read_file(downloading.value.path())) == 2

    page.get_by_role("button", name="More like this").click()
    settled(page)
    page.mouse.click(*place(0.5, 0.5))
    page.locator("[data-key=found-1]").wait_for()


def label_dropped(page: Any, address: str, path: Path) -> Callable[[float, float], Any]:
    """Upload a scene and prepare it for labels; return where places of it are."""
    opened(page, address)
    drop(page, path, path.name)
    page.locator(".row.chosen", has_text=path.name).wait_for()
    page.get_by_role("button", name="Label", exact=True).click()
    page.get_by_role("button", name="Prepare the scene").click()
    name = page.get_by_label("Name of a class")
    for text in ("wood", "water"):
        name.fill(text)
        name.press("Enter")
    settled(page)
    return places_of(page, path)


def wait_for_labels(page: Any, name: str, count: int) -> None:
    row = page.locator("#label-view .row", has_text=name)
    row.locator("small", has_text=f"{count} labels").wait_for()


def test_shapes_are_drawn_by_mouse_and_by_keyboard(page: Any, address: str, tmp_path: Path) -> None:
    place = label_dropped(page, address, toy_runs.land_scene(tmp_path / "shapes.tif", 112, 168))
    page.get_by_role("radio", name="wood").check()
    page.get_by_role("button", name="Polygon").click()
    for at in ((0.1, 0.1), (0.3, 0.1), (0.2, 0.4)):
        page.mouse.click(*place(*at))
    page.keyboard.press("Enter")
    wait_for_labels(page, "wood", 1)
    page.get_by_role("radio", name="water").check()
    page.get_by_role("button", name="Scribble").click()
    page.mouse.move(*place(0.6, 0.6))
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(*place(0.6 + 0.03 * step, 0.6 + 0.02 * (step % 2)))
    page.mouse.up()
    wait_for_labels(page, "water", 1)

    # A box without a pointer: the space bar clicks in the middle of the map, which arrows move.
    page.get_by_role("button", name="Box").click()
    page.evaluate("window.cgeartheye.map.zoomTo(20, { duration: 0 })")
    tab_to(page, ".maplibregl-canvas")
    begin = page.evaluate("window.cgeartheye.map.getCenter().toArray()")
    page.keyboard.press(" ")
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
        settled(page)
    page.keyboard.press(" ")
    wait_for_labels(page, "water", 2)
    end = page.evaluate("window.cgeartheye.map.getCenter().toArray()")

    page.get_by_label("Color of wood").fill("#ff00aa")
    limit = time.monotonic() + 20
    while (features := labels_of(page, address))[0]["properties"]["color"] != "#ff00aa":
        assert time.monotonic() < limit
        page.wait_for_timeout(100)
    kinds = [(one["geometry"]["type"], one["properties"]["class"]) for one in features]
    assert kinds == [("Polygon", "wood"), ("LineString", "water"), ("Polygon", "water")]
    assert len(features[1]["geometry"]["coordinates"]) > 4
    ring = np.array(features[2]["geometry"]["coordinates"][0])
    assert ring.min(0) == pytest.approx(np.minimum(begin, end), abs=1e-6)
    assert ring.max(0) == pytest.approx(np.maximum(begin, end), abs=1e-6)

    page.keyboard.press("Control+z")  # the color, and then the box
    page.keyboard.press("Control+z")
    wait_for_labels(page, "water", 1)


def test_labels_that_were_changed_elsewhere_are_shown(
    page: Any, address: str, tmp_path: Path
) -> None:
    """In another tab, as here, or by a correction: none are lost."""
    place = label_dropped(page, address, toy_runs.land_scene(tmp_path / "tabs.tif", 112, 168))
    page.get_by_role("radio", name="wood").check()
    with page.expect_response("**/labels"):
        page.mouse.click(*place(0.2, 0.5))
    features = labels_of(page, address)
    other = {**features[0], "properties": {"class": "water"}}
    data = {"type": "FeatureCollection", "features": [*features, other]}
    assert page.request.put(labels_at(page, address), data=data).ok
    page.mouse.click(*place(0.8, 0.5))
    page.get_by_text("The labels were changed elsewhere").wait_for()
    for name in ("wood", "water"):
        wait_for_labels(page, name, 1)
    with page.expect_response("**/labels"):
        page.mouse.click(*place(0.8, 0.5))
    wait_for_labels(page, "wood", 2)
    kept = [one["properties"]["class"] for one in labels_of(page, address)]
    assert sorted(kept) == ["water", "wood", "wood"]


def labels_at(page: Any, address: str) -> str:
    jobs = page.request.get(f"{address}jobs").json()["jobs"]
    job = next(one["jobID"] for one in jobs if one["processID"] == "embed")
    return f"{address}embeddings/{job}/labels"


def labels_of(page: Any, address: str) -> list[dict[str, Any]]:
    answer = page.request.get(labels_at(page, address)).json()
    found: list[dict[str, Any]] = answer["labels"]["features"]
    return found


def test_a_map_is_corrected(page: Any, address: str, tmp_path: Path) -> None:
    opened(page, address)
    dropped = toy_runs.land_scene(tmp_path / "wrong.tif", 112, 168)
    drop(page, dropped, "wrong.tif")
    page.locator(".row.chosen", has_text="wrong.tif").wait_for()
    page.locator(".card", has_text="Land").click()
    page.wait_for_selector("#run[aria-disabled=false]")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Click the map for a polygon's class").wait_for()
    settled(page)
    place = places_of(page, dropped)
    page.mouse.click(*place(0.5, 0.5))
    known = page.locator(".popup strong").inner_text()
    page.locator(".answers").get_by_role("button", name="not this").click()
    page.get_by_text("1 corrections are kept").wait_for()

    # On a phone all of a popup is seen, wherever the polygon is.
    size = page.viewport_size
    page.set_viewport_size({"width": 390, "height": 740})
    stage = page.locator("#stage").bounding_box()
    for y in (stage["y"] + stage["height"] - 15, stage["y"] + stage["height"] / 2):
        page.mouse.click(stage["x"] + stage["width"] / 2, y)
        settled(page)
        box = page.locator(".maplibregl-popup").bounding_box()
        assert box["y"] >= stage["y"]
        assert box["y"] + box["height"] <= stage["y"] + stage["height"]
        page.locator(".maplibregl-popup-close-button").click()
    page.set_viewport_size(size)

    page.get_by_label("An area that is drawn is").select_option("water")
    page.locator("#correct").get_by_role("button", name="Box").click()
    page.mouse.click(*place(0.2, 0.2))
    page.mouse.move(*place(0.3, 0.3))
    page.mouse.click(*place(0.4, 0.4))
    page.get_by_text("2 corrections are kept").wait_for()
    assert not violations(page)

    job = page.evaluate("window.cgeartheye.state.job.jobID")
    found = page.request.get(f"{address}jobs/{job}/corrections").json()["features"]
    assert [one["properties"]["class"] for one in found] == [f"not {known}", "water"]
    assert {one["properties"]["source"] for one in found} == {f"correction of land, job {job}"}
    page.locator("#correct").get_by_role("button", name="Undo").click()
    page.get_by_text("1 corrections are kept").wait_for()

    # They are labels of the scene by now.
    page.get_by_role("button", name="Go on to Label").click()
    page.get_by_role("button", name="Prepare the scene").click()
    page.get_by_label("Name of a class").wait_for()
    kept = labels_of(page, address)
    assert [one["properties"]["class"] for one in kept] == [f"not {known}"]
    assert not violations(page)
