"""Legends in the real QGIS, whose Python is that of the system."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
from toy_detector import ToyDetector, draw, scatter
from toy_map import Toy, picture, read, run_toy, write_scene

from cgeartheye.utils.errors import UserError

PYTHON = shutil.which("python3", path="/usr/bin:/bin")
PROGRAM = """
import json, os, sys
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from qgis.core import QgsApplication, QgsRasterLayer, QgsVectorLayer
app = QgsApplication([], False)
app.initQgis()
found = []
for path in sys.argv[1:]:
    if path.endswith(".tif"):
        layer = QgsRasterLayer(path)
        items = layer.renderer().legendSymbologyItems()
        legend = [[name, color.name(), color.alpha()] for name, color in items]
    else:
        layer = QgsVectorLayer(path, "map", "ogr")
        layer.loadDefaultStyle()
        items = layer.renderer().legendSymbolItems()
        legend = [[item.label(), item.symbol().color().name()] for item in items]
    found.append(legend)
print(json.dumps(found))
os._exit(0)  # it may not survive its own end
"""


class Land(Toy):
    classes = ("Background", 'field & <wood> "x"', "water")


def legends(*paths: Path) -> Any:
    try:
        done = subprocess.run(
            [PYTHON or "python3", "-c", PROGRAM, *map(str, paths)],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        if "No module named 'qgis'" in str(getattr(error, "stderr", error)):
            pytest.skip("QGIS is not installed")
        raise
    return json.loads(done.stdout)


def color(entry: dict[str, Any]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*entry["color"])


def test_qgis_lists_the_classes_and_no_others(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(60, 80))
    out = tmp_path / "map"
    facts = run_toy(scene, out, Land(), vector_format=("gpkg", "fgb"))
    shutil.copytree(out, tmp_path / "alone")
    (tmp_path / "alone/map.qml").unlink()
    found = legends(out / "map.tif", out / "map.gpkg", out / "map.fgb", tmp_path / "alone/map.gpkg")
    entries = facts["classes"]
    assert found[0] == [
        [entry["name"], color(entry), 255 * (entry["value"] > 0)] for entry in entries
    ]
    assert found[1] == [[entry["name"], color(entry)] for entry in entries[1:]]
    assert found[2] == found[3] == found[1]


def test_qgis_shows_objects_by_class(tmp_path: Path) -> None:
    boxes, labels = scatter(90, 90, 6, 12, True, 2)
    scene = write_scene(tmp_path / "scene.tif", draw(90, 90, boxes, labels))
    facts = run_toy(scene, tmp_path / "map", ToyDetector(oriented=True))
    (found,) = legends(tmp_path / "map/map.gpkg")
    assert found == [[entry["name"], color(entry)] for entry in facts["classes"]]


def test_the_style_is_xml_of_the_classes(tmp_path: Path) -> None:
    """It holds without QGIS too."""
    scene = write_scene(tmp_path / "scene.tif", picture(40, 50))
    run_toy(scene, tmp_path / "map", Land())
    style = ElementTree.parse(tmp_path / "map/map.qml")
    labels = [entry.get("label") for entry in style.iter("paletteEntry")]
    assert labels == list(Land.classes)


@pytest.mark.parametrize(("transparent", "clear"), [(None, 0), ("water", 2)])
def test_a_background_is_clear_and_has_no_polygons(
    tmp_path: Path, transparent: str | None, clear: int
) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(60, 80))
    out = tmp_path / "map"
    run_toy(scene, out, Land(), vector_format=("parquet",), transparent=transparent)
    frame = geopandas.read_parquet(out / "map.parquet")
    assert set(frame["value"]) == {0, 1, 2} - {clear}
    pixels = (read(out / "map.tif") != clear).sum()
    np.testing.assert_allclose(frame.area.sum(), pixels * 0.75**2, rtol=0.02)
    assert f'"clear":[{clear}]' in (out / "preview.html").read_text()


def test_min_area_is_in_square_metres(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(60, 80))
    for least, smooth in ((50.0, False), (50.0, True)):
        out = tmp_path / f"{smooth}"
        options = {"vector_format": ("parquet",), "min_area": least, "smooth": smooth}
        run_toy(scene, out, Toy(radius=0), **options)
        frame = geopandas.read_parquet(out / "map.parquet")
        # Outlines are simplified after areas are counted.
        assert frame.area_m2.min() > 0.8 * least
        np.testing.assert_allclose(frame.area_m2.sum(), 60 * 80 * 0.75**2 / 0.9996**2, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_area": -1.0, "vector_format": ("fgb",)}, "--min-area -1.0 is out of range"),
        ({"min_area": 5.0}, "for polygons: ask for them with --vector-format gpkg"),
        ({"transparent": "wood"}, "none of the model's classes: give one of red, green, blue"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(40, 50))
    with pytest.raises(UserError, match=message):
        run_toy(scene, tmp_path / "map", **options)


def test_geojson_needs_a_place_on_earth(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(40, 50), crs=None)
    with pytest.raises(UserError, match=r"has no CRS, so GeoJSON, .* --vector-format gpkg"):
        run_toy(scene, tmp_path / "map", vector_format=("geojson",), input_gsd=0.5)
    assert not (tmp_path / "map").exists()
