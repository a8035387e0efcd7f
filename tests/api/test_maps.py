"""Maps: the bytes of the command's, opened with the field's own libraries."""

import inspect
import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from toy_command import command
from toy_land import draw
from toy_things import draw_things

import cgeartheye as cge
from cgeartheye.api.messages import python_words
from toy_runs import write_scene


def test_a_map_of_pixels_is_that_of_the_command(land_run: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", draw(5, 120, 150)[0])
    command("map", land_run, scene, "--out", tmp_path / "a", "--overlap", 0.5)
    model = cge.load_model(land_run)
    result = cge.map_raster(
        model,
        scene,
        out=tmp_path / "b",
        overlap=0.5,
        vector_format=["parquet", "geojson"],
        probabilities=True,
        progress=False,
    )
    assert (tmp_path / "b" / "map.tif").read_bytes() == (tmp_path / "a" / "map.tif").read_bytes()
    with result.dataset() as raster, rasterio.open(scene) as source:
        assert (raster.crs, raster.transform, raster.shape) == (
            source.crs,
            source.transform,
            source.shape,
        )
        classes = raster.read(1)
    with result.probabilities() as deep:
        assert deep.count == 3
    polygons = result.polygons()
    assert polygons.crs.to_epsg() == 32650
    areas = polygons.groupby("class")["area_m2"].sum()
    for value, name in enumerate(model.classes):
        # On the map a metre is 1.0004 to 0.9996 metres on the ground.
        assert areas.get(name, 0) == pytest.approx((classes == value).sum() * 0.75**2, rel=1e-3)
    assert [path.name for path in result.vectors] == ["map.parquet", "map.geojson"]
    assert result.preview.is_file()

    again = cge.map_raster(
        land_run, scene, out=tmp_path / "a", overlap=0.5, resume=True, progress=False
    )
    assert again.info == cge.MapResult(tmp_path / "a").info
    with pytest.raises(cge.UserError, match="holds a map already"):
        cge.map_raster(model, scene, out=tmp_path / "a")
    with pytest.raises(cge.UserError, match="no polygons"):
        again.polygons()
    with pytest.raises(cge.UserError, match="probabilities=True"):
        again.probabilities()


def test_a_map_shows_itself_in_its_colors(land_run: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", draw(5, 60, 80)[0])
    result = cge.map_raster(land_run, scene, out=tmp_path / "map", progress=False)
    pixels, extent = result._picture()
    with result.dataset() as raster:
        palette, classes, bounds = raster.colormap(1), raster.read(1), raster.bounds
    assert extent == (bounds.left, bounds.right, bounds.bottom, bounds.top)
    assert (pixels == np.array([palette[n] for n in range(256)], np.uint8)[classes]).all()
    shown = result._repr_html_()
    assert all(name in shown for name in ("wood", "field", "water", "km²", "preview.html"))
    info = result.path / "map.json"
    assert '"color"' in info.read_text()
    info.write_text(info.read_text().replace('"color"', '"colour"'))  # as it was once written
    assert cge.MapResult(result.path).info == result.info
    axes = result.plot()
    assert axes.images[0].get_extent() == list(extent)


def test_change_between_two_dates(change_run: Path, tmp_path: Path) -> None:
    image = draw(5, 60, 80)[0]
    before = write_scene(tmp_path / "before.tif", image)
    after = write_scene(tmp_path / "after.tif", 255 - image)
    result = cge.map_raster(
        change_run,
        before,
        after=after,
        out=tmp_path / "map",
        vector_format="fgb",
        date_labels=("old", "new"),
        progress=False,
    )
    with result.dataset() as raster:
        changed = (raster.read(1) == 1).sum()
    assert result.polygons().area.sum() == pytest.approx(changed * 0.75**2)
    with pytest.raises(cge.UserError, match="two dates"):
        cge.map_raster(change_run, before, out=tmp_path / "other")


def test_objects(things_run: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", draw_things(5, 150, 200)[0])
    result = cge.map_raster(
        things_run, [scene], out=tmp_path / "map", score_threshold=0.1, progress=False
    )
    assert result.kind == "objects"
    objects = result.polygons()
    assert isinstance(objects, geopandas.GeoDataFrame)
    assert len(objects) == result.info["objects"]
    assert (objects["score"] >= 0.1).all()
    with pytest.raises(cge.UserError, match="one of objects: see polygons"):
        result.dataset()
    assert result.plot().get_title() == "map"
    assert "objects" in result._repr_html_()


def test_errors_name_arguments_as_a_call_has_them(land_run: Path, tmp_path: Path) -> None:
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 64, 64, 3, dtype="uint8") as file:
        file.write(np.zeros((3, 64, 64), np.uint8))
    words = "name it with crs=EPSG:CODE, or give the size of its pixels in metres with input_gsd= "
    with pytest.raises(cge.UserError, match=words):
        cge.map_raster(land_run, tmp_path / "a.tif", out=tmp_path / "map", progress=False)
    words = r"^set data\.workers=0, leave tta=True out$"
    with pytest.raises(cge.UserError, match=words), python_words():
        raise cge.UserError("set --set data.workers=0, leave --tta out")


def test_the_guide_has_the_arguments_of_map_raster() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"`map_raster` has the options of .*?: (.*?)\.", guide)
    arguments = set(inspect.signature(cge.map_raster).parameters)
    shown = {"model", "out", "vector_format", "resume", "progress"}  # beside the list
    assert set(re.findall(r"`(\w+)`", listed)) == arguments - shown


def test_a_folder_without_a_map(tmp_path: Path) -> None:
    with pytest.raises(cge.UserError, match="holds no finished map"):
        cge.MapResult(tmp_path)
