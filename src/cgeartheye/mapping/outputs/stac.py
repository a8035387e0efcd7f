"""STAC of what is mapped: an Item of a map, and of its tiles a Collection with an Item each.

Fields are those of STAC 1.1 and of the extensions projection, raster, classification and
processing. That of models (MLM) describes models, and requires of an Item that it be one: a map
names the model that made it, and links to its card where it has one.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cgeartheye import __version__
from cgeartheye.geo.crs import WGS84
from cgeartheye.geo.pair import PairScene, day_of, is_day
from cgeartheye.geo.remote import address_of, is_remote
from cgeartheye.mapping.blending import NODATA
from cgeartheye.mapping.job import FACTS, MAP, PREVIEW, PROBABILITIES, MapJob
from cgeartheye.mapping.polygonize import on_map
from cgeartheye.mapping.style import STYLE
from cgeartheye.utils.io import write_json
from cgeartheye.utils.stac import class_objects, now

ITEM, COLLECTION = "item.json", "collection.json"

_VERSIONS = {"proj": "projection/v2.0.0", "raster": "raster/v2.0.0"}
_VERSIONS |= {"classification": "classification/v2.0.0", "processing": "processing/v1.2.0"}
_EXTENSIONS = {
    prefix: f"https://stac-extensions.github.io/{version}/schema.json"
    for prefix, version in _VERSIONS.items()
}
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
# Of the files of a map: name of the asset, media type, roles.
_FILES = {
    MAP: ("map", _COG, ["data"]),
    PROBABILITIES: ("probabilities", _COG, ["data"]),
    "map.vrt": ("map", "application/xml", ["data"]),
    "probabilities.vrt": ("probabilities", "application/xml", ["data"]),
    "map.gpkg": ("polygons", "application/geopackage+sqlite3", ["data"]),
    "map.parquet": ("polygons_parquet", "application/vnd.apache.parquet", ["data"]),
    "map.geojson": ("polygons_geojson", "application/geo+json", ["data"]),
    "map.fgb": ("polygons_flatgeobuf", "application/vnd.flatgeobuf", ["data"]),
    STYLE: ("style", "application/xml", ["metadata"]),
    FACTS: ("facts", "application/json", ["metadata"]),
    PREVIEW: ("preview", "text/html", ["overview"]),
}
_SIDE = 16  # points of a side of a footprint, which is bent in longitude and latitude


def write_item(job: MapJob, what: str) -> None:
    """Write the Item of a map that is finished but for `map.json`, which is written last.

    Args:
        job: the map.
        what: it shows, for the lineage: "classes of pixels", say.

    Raises:
        UserError: it cannot be written.
    """
    whole = Window(0, 0, job.grid.shape[1], job.grid.shape[0])
    item = item_of(job, job.out.resolve().name, whole, what, times_of(job))
    names = [name for name in _FILES if (job.out / name).is_file() or name == FACTS]
    assets = {_FILES[name][0]: asset_of(job, name, whole) for name in names}
    declare(item, assets, links_to_sources(job))
    write_json(job.out / ITEM, item)


def write_collection(job: MapJob, what: str, tiles: Sequence[str]) -> None:
    """Write the Collection of a map's tiles, whose Items are written.

    Args:
        job: the map.
        what: it shows.
        tiles: ids of their Items, which are in `tiles/`.

    Raises:
        UserError: it cannot be written.
    """
    whole = Window(0, 0, job.grid.shape[1], job.grid.shape[0])
    item = item_of(job, job.out.resolve().name, whole, what, times_of(job))
    facts = item["properties"]
    names = [name for name in _FILES if (job.out / name).is_file() or name == FACTS]
    rasters = [MAP, PROBABILITIES] if job.options.probabilities else [MAP]
    definitions = {
        _FILES[name][0]: {
            key: value
            for key, value in asset_of(job, name, whole).items()
            if not key.startswith(("href", "proj:"))
        }
        for name in rasters
    }
    day = facts["datetime"]
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [_EXTENSIONS["raster"], _EXTENSIONS["classification"]],
        "id": item["id"],
        "title": facts["title"],
        "description": facts["processing:lineage"],
        "license": "other",
        "extent": {
            "spatial": {"bbox": [item["bbox"]]},
            "temporal": {
                "interval": [[facts.get("start_datetime", day), facts.get("end_datetime", day)]]
            },
        },
        "summaries": {name: [facts[name]] for name in ("gsd", "proj:code") if facts[name]},
        "item_assets": definitions,
        "assets": {_FILES[name][0]: _plain_asset(name) for name in names},
        "links": [
            {"rel": "root", "href": f"./{COLLECTION}", "type": "application/json"},
            *(
                {
                    "rel": "item",
                    "href": f"./tiles/{tile}.json",
                    "type": "application/geo+json",
                }
                for tile in tiles
            ),
            *links_to_sources(job),
        ],
    }
    write_json(job.out / COLLECTION, collection)


def item_of(
    job: MapJob, name: str, part: Window, what: str, times: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an Item without assets and links.

    Args:
        job: the map.
        name: id of the Item.
        part: of the map, in its pixels.
        what: it shows.
        times: of `times_of`.
    """
    scene, model = job.scene, _model(job)
    properties: dict[str, Any] = {
        **times,
        "title": f"{scene.title}: {what} by {model.get('name', 'a model')}",
        "gsd": float(np.sqrt(job.pixel_area)),
        "processing:level": "L4",
        "processing:software": {"cgeartheye": __version__},
        "processing:lineage": f"{what} that {model.get('name', 'a model')} finds in {scene.name}",
        "cgeartheye:model": model,
    }
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": None,
        "properties": properties,
    }
    if scene.crs is not None:
        ground = footprint(job, part)
        item |= {"geometry": shapely.geometry.mapping(ground), "bbox": list(ground.bounds)}
        properties |= _projection(job, part)
    return item


def declare(item: dict[str, Any], assets: dict[str, Any], links: list[dict[str, Any]]) -> None:
    """Put assets and links into an Item, and name the extensions whose fields it has.

    Args:
        item: of `item_of`.
        assets: by name.
        links: of the Item.
    """
    item["assets"], item["links"] = assets, links
    fields = [*item["properties"], *(field for asset in assets.values() for field in asset)]
    item["stac_extensions"] = [
        schema
        for prefix, schema in _EXTENSIONS.items()
        if any(field.startswith(f"{prefix}:") for field in fields)
    ]


def footprint(job: MapJob, part: Window) -> Any:
    """Return where a part of a map is, a polygon of shapely's in longitude and latitude.

    Args:
        job: the map, whose scene has a CRS.
        part: of the map, in its pixels.
    """
    scene, (rows, columns) = job.scene, job.grid.cell
    assert scene.crs is not None
    rectangle = shapely.box(
        part.col_off * columns,
        part.row_off * rows,
        min((part.col_off + part.width) * columns, scene.width),  # cells may be cut
        min((part.row_off + part.height) * rows, scene.height),
    )
    longest = max(part.width * columns, part.height * rows)
    outline = shapely.segmentize(rectangle, longest / _SIDE)
    ring = shapely.transform(outline, lambda xy: on_map(scene.transform, xy))
    placed = geopandas.GeoSeries([ring], crs=scene.crs.to_wkt()).to_crs(WGS84.to_wkt())
    return shapely.orient_polygons(placed.to_numpy())[0]


def asset_of(job: MapJob, name: str, part: Window) -> dict[str, Any]:
    """Return the asset of a file of a map; of a raster with its bands.

    Args:
        job: the map.
        name: of the file; of a tile that of the whole map's.
        part: of the map, in its pixels.
    """
    asset = _plain_asset(name)
    if name not in (MAP, PROBABILITIES):
        return asset
    asset |= {
        "data_type": "uint8",
        "nodata": NODATA,
        "raster:spatial_resolution": float(np.sqrt(job.pixel_area)),
        "raster:sampling": "area",
    }
    if name == MAP:
        asset["classification:classes"] = class_objects(job.classes, job.colors)
    else:
        asset["bands"] = [{"name": name, "unit": "%"} for name in job.classes]
    if job.scene.crs is not None:
        shape = _projection(job, part)
        asset |= {key: shape[key] for key in ("proj:shape", "proj:transform")}
    return asset


def links_to_sources(job: MapJob) -> list[dict[str, Any]]:
    """Return links to the scenes that a map is made of, and to the card of its model."""
    scene = job.scene
    dates = (scene.before, scene.after.scene) if isinstance(scene, PairScene) else (scene,)
    links = [
        {
            "rel": "derived_from",
            "href": address_of(path) if is_remote(path) else path.resolve().as_uri(),
        }
        for one in dates
        for path in one.files
    ]
    card = Path(str(job.settings["model"].get("path", ""))).parent / "application.json"
    if card.is_file():
        kind = "application/geo+json"
        links.append({"rel": "derived_from", "href": card.resolve().as_uri(), "type": kind})
    return links


def _plain_asset(name: str) -> dict[str, Any]:
    _, kind, roles = _FILES[name]
    return {"href": f"./{name}", "type": kind, "roles": roles}


def _projection(job: MapJob, part: Window) -> dict[str, Any]:
    """Return the fields of the projection extension of a part of a map."""
    crs = job.scene.crs
    assert crs is not None
    code = crs.to_authority()
    place = job.transform @ Affine.translation(float(part.col_off), float(part.row_off))
    corners = np.array(
        [(x, y) for x in (0.0, float(part.width)) for y in (0.0, float(part.height))]
    )
    corners = on_map(place, corners)
    fields = {
        "proj:code": ":".join(code) if code else None,
        "proj:shape": [int(part.height), int(part.width)],
        "proj:transform": list(place[:6]),
        "proj:bbox": [*corners.min(0).tolist(), *corners.max(0).tolist()],
    }
    return fields if code else {**fields, "proj:wkt2": crs.to_wkt(version="WKT2_2019")}


def times_of(job: MapJob) -> dict[str, Any]:
    """Return when the ground was seen; where no day is known, when the map was made."""
    scene, made = job.scene, now()
    days: tuple[str | None, ...] = scene.dates
    if not isinstance(scene, PairScene):
        with contextlib.suppress(RasterioError):  # it may be gone by now
            days = (day_of(scene),)
    known = sorted(f"{day}T00:00:00Z" for day in days if day and is_day(day))
    if len(known) == 2:
        times = {"datetime": None, "start_datetime": known[0], "end_datetime": known[1]}
    else:
        times = {"datetime": known[0] if len(known) == len(days) == 1 else made}
    return {**times, "created": made}


def _model(job: MapJob) -> dict[str, Any]:
    """Return what identifies the model, without its place on this machine."""
    facts = dict(job.settings["model"])
    path = Path(str(facts.pop("path", "")))
    name = path.parent.name if path.suffix else path.name
    return {"name": name, **facts} if name else facts
