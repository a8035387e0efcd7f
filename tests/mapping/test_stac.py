"""STAC of maps: an Item, and of tiles a Collection; checked by pystac and by the extensions' rules.

pystac has the schemas of STAC itself; those of the extensions would be fetched.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pystac.validation
import rasterio
import shapely
from affine import Affine
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from rasterio.crs import CRS
from rasterio.warp import transform_geom
from toy_detector import ToyDetector, draw, scatter
from toy_map import UTM, ToyCells, picture, run_toy, write_scene

CORE = "https://schemas.stacspec.org/v1.1.0/{0}-spec/json-schema/{0}.json"


def read_checked(path: Path) -> Any:
    """Read an Item or a Collection that the schema of STAC allows, each file of which is there."""
    content = json.loads(path.read_text())
    made = pystac.read_file(str(path))
    pystac.validation.JsonSchemaSTACValidator()._validate_from_uri(
        content | {"stac_extensions": []},
        made.STAC_OBJECT_TYPE,
        CORE.format(made.STAC_OBJECT_TYPE.lower().replace("feature", "item")),
    )
    assert isinstance(made, pystac.Item | pystac.Collection)
    for asset in made.assets.values():
        assert (path.parent / asset.href).is_file()
    return made


def check_extensions(content: dict[str, Any]) -> None:
    """Check what the schemas of the extensions demand of the fields that are there."""
    declared = {uri.split("/")[-3] for uri in content["stac_extensions"]}
    for asset in content["assets"].values():
        prefixes = {key.split(":")[0] for key in [*asset, *content["properties"]] if ":" in key}
        names = {"proj": "projection"}
        assert {names.get(one, one) for one in prefixes} - {"cgeartheye"} <= declared
        for one in asset.get("classification:classes", []):
            assert isinstance(one["value"], int)
            assert re.fullmatch("[0-9A-Za-z_-]+", one["name"])
            assert re.fullmatch("[0-9A-F]{6}", one["color_hint"])
        assert asset.get("raster:sampling", "area") == "area"
        assert asset.get("raster:spatial_resolution", 1) > 0
    properties = content["properties"]
    assert all(isinstance(version, str) for version in properties["processing:software"].values())
    assert len(properties.get("proj:transform", range(6))) == 6


def test_the_item_of_a_map_is_where_the_map_is(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "town_20230714.tif", picture(60, 90))
    run_toy(scene, tmp_path / "map", probabilities=True, vector_format=("gpkg", "geojson"))
    item = read_checked(tmp_path / "map" / "item.json")
    content = json.loads((tmp_path / "map" / "item.json").read_text())
    check_extensions(content)
    assert item.datetime is not None
    assert item.datetime.date().isoformat() == "2023-07-14"
    assert set(item.assets) == {
        *("map", "probabilities", "polygons", "polygons_geojson", "style", "facts", "preview")
    }
    with rasterio.open(tmp_path / "map" / "map.tif") as file:
        place = ProjectionExtension.ext(item.assets["map"])
        assert Affine(*place.transform) == file.transform
        assert place.shape == [file.height, file.width]
        assert CRS.from_string(item.properties["proj:code"]) == file.crs
        np.testing.assert_allclose(item.properties["proj:bbox"], file.bounds)
        ring = shapely.geometry.shape(
            transform_geom(file.crs, "EPSG:4326", shapely.box(*file.bounds).__geo_interface__)
        )
        assert item.assets["map"].extra_fields["nodata"] == file.nodata
        colors = file.colormap(1)
    ground = shapely.geometry.shape(item.geometry)
    assert ground.symmetric_difference(ring).area < 1e-5 * ring.area
    assert item.bbox == list(ground.bounds)
    for one in ClassificationExtension.ext(item.assets["map"]).classes or []:
        assert tuple(bytes.fromhex(str(one.color_hint))) == colors[one.value][:3]
    bands = [band["name"] for band in content["assets"]["probabilities"]["bands"]]
    assert bands == ["red", "green", "blue"]
    assert [link.href for link in item.links if link.rel == "derived_from"] == [scene.as_uri()]


def test_two_dates_are_an_interval(tmp_path: Path) -> None:
    first = write_scene(tmp_path / "b_20240301.tif", picture(60, 60))
    second = write_scene(tmp_path / "a_20230714.tif", picture(60, 60, 1))
    run_toy(second, tmp_path / "map", after=first)
    item = read_checked(tmp_path / "map" / "item.json")
    assert item.datetime is None
    assert item.properties["start_datetime"].startswith("2023-07-14")
    assert item.properties["end_datetime"].startswith("2024-03-01")
    assert sum(link.rel == "derived_from" for link in item.links) == 2


def test_a_scene_without_a_crs_and_a_day_has_an_item_too(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(40, 40), Affine.identity(), None)
    run_toy(scene, tmp_path / "map", input_gsd=0.5)
    item = read_checked(tmp_path / "map" / "item.json")
    assert item.geometry is None
    assert item.datetime is not None
    assert item.properties["created"] == item.properties["datetime"]
    assert not any(name.startswith("proj:") for name in item.properties)


def test_items_of_cells_and_of_objects(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(50, 70))
    run_toy(scene, tmp_path / "cells", ToyCells())
    content = json.loads((tmp_path / "cells" / "item.json").read_text())
    check_extensions(content)
    read_checked(tmp_path / "cells" / "item.json")
    outline = shapely.geometry.shape(content["geometry"])
    with rasterio.open(scene) as file:  # the cells reach beyond it
        box = transform_geom(UTM, "EPSG:4326", shapely.box(*file.bounds).__geo_interface__)
    assert outline.symmetric_difference(shapely.geometry.shape(box)).area < 1e-5 * outline.area
    assert content["assets"]["map"]["proj:shape"] == [2, 3]
    boxes, labels = scatter(100, 100, 20, 12, True, 2)
    scene = write_scene(scene, draw(100, 100, boxes, labels))
    run_toy(scene, tmp_path / "objects", ToyDetector(oriented=True, max_object_size=17))
    content = json.loads((tmp_path / "objects" / "item.json").read_text())
    check_extensions(content)
    assert set(content["assets"]) == {"polygons", "style", "facts", "preview"}
    assert not any("raster" in uri for uri in content["stac_extensions"])


def test_tiles_are_a_collection(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "town_20230714.tif", picture(120, 150))
    run_toy(scene, tmp_path / "map", tiles=50, probabilities=True)
    collection = read_checked(tmp_path / "map" / "collection.json")
    items = list(collection.get_items())
    assert len(items) == len(list((tmp_path / "map" / "tiles").glob("*.json"))) > 3
    for one in items:
        item = read_checked(Path(one.self_href))
        check_extensions(json.loads(Path(one.self_href).read_text()))
        with rasterio.open(Path(one.self_href).parent / item.assets["map"].href) as file:
            assert Affine(*ProjectionExtension.ext(item.assets["map"]).transform) == file.transform
            np.testing.assert_allclose(item.properties["proj:bbox"], file.bounds)
        assert item.collection_id == collection.id
        assert set(item.assets) == {"map", "probabilities"} == set(collection.item_assets)
    whole = shapely.box(*collection.extent.spatial.bboxes[0])
    assert whole.buffer(1e-9).contains(shapely.union_all([shapely.box(*i.bbox) for i in items]))
    assert {"map", "probabilities", "facts", "preview", "style"} == set(collection.assets)
