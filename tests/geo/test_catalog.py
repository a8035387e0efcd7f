"""Indexes of scenes give the scenes in the order that is asked for."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import rasterio
from affine import Affine

from cgeartheye.geo.catalog import scenes_of
from cgeartheye.geo.reader import open_scene
from cgeartheye.geo.remote import as_path
from cgeartheye.utils.errors import UserError

# Name, day, clouds: of one place, each of one value.
SCENES = (("a", "2025-03-01", 40.0), ("b", "2025-05-01", 10.0), ("c", "2025-01-01", 0.5))


def items(folder: Path) -> list[dict[str, Any]]:
    for number, (name, _, _) in enumerate(SCENES):
        place = Affine(1, 0, 500_000, 0, -1, 4_400_000)
        with rasterio.open(
            folder / f"{name}.tif", "w", "GTiff", 8, 8, 3, "EPSG:32650", place, "uint8"
        ) as file:
            file.write(np.full((3, 8, 8), 10 * (number + 1), np.uint8))
    return [
        {
            "type": "Feature",
            "id": name,
            "properties": {"datetime": f"{day}T00:00:00Z", "eo:cloud_cover": cloud},
            "assets": {
                "thumbnail": {"href": "t.tif", "type": "image/tiff", "roles": ["thumbnail"]},
                "visual": {"href": f"./{name}.tif", "type": "image/tiff; application=geotiff"},
            },
        }
        for name, day, cloud in SCENES
    ]


def as_json(folder: Path) -> Path:
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items(folder)}))
    return path


def as_stac_parquet(folder: Path) -> Path:
    rows = [
        {
            "id": one["id"],
            "assets": one["assets"],
            "datetime": datetime.fromisoformat(one["properties"]["datetime"]).astimezone(UTC),
            "eo:cloud_cover": one["properties"]["eo:cloud_cover"],
        }
        for one in items(folder)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "items.parquet")
    return folder / "items.parquet"


def as_tile_index(folder: Path) -> Path:
    rows = [
        {
            "location": str(folder / f"{one['id']}.tif"),
            "datetime": one["properties"]["datetime"],
            "eo:cloud_cover": one["properties"]["eo:cloud_cover"],
        }
        for one in items(folder)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "index.parquet")
    return folder / "index.parquet"


@pytest.mark.parametrize("index", [as_json, as_stac_parquet, as_tile_index])
def test_the_scene_that_is_seen_is_the_one_of_the_order(tmp_path: Path, index: Any) -> None:
    path = index(tmp_path)
    # Of a mosaic the last is on top.
    for order, seen in ((None, 30), ("recent", 20), ("clear", 30), ("first", 10)):
        scene = open_scene(scenes_of([path], order))
        assert (scene.read((0, 8), (0, 8))[0] == seen).all(), order


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "other.json").write_text('{"type": "Topology"}')
    (tmp_path / "half.json").write_text('{"type": ')
    (tmp_path / "half.parquet").write_bytes(b"PAR1")
    bare = {"id": "x", "properties": {}, "assets": {}}
    (tmp_path / "bare.json").write_text(
        json.dumps({"type": "FeatureCollection", "features": [bare]})
    )
    for name, words in (
        ("empty.json", "an index without scenes"),
        ("other.json", "no STAC ItemCollection"),
        ("half.json", "cannot be read as an index"),
        ("half.parquet", "cannot be read as an index"),
        ("gone.json", "No such file"),
        ("bare.json", "item x has no asset that is a raster"),
    ):
        with pytest.raises(UserError, match=words):
            scenes_of([tmp_path / name])
    with pytest.raises(UserError, match=r"the datetime of every scene, which scene\.tif lacks"):
        scenes_of([tmp_path / "scene.tif"], "recent")
    with pytest.raises(UserError, match="--order newest is unknown"):
        scenes_of([tmp_path / "scene.tif"], "newest")


def test_addresses_and_files_stay_as_they_are(tmp_path: Path) -> None:
    given = [tmp_path / "a.tif", as_path("s3://bucket/items.json"), tmp_path]
    assert scenes_of(given) == given
    assert scenes_of(given, "first") == given[::-1]
