"""Indexes of scenes: a STAC ItemCollection, or a GeoParquet file, and the order of a mosaic.

A GeoParquet index has the columns of stac-geoparquet (`assets`, `datetime`, `eo:cloud_cover`), or a
`location` as gdaltindex writes it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgeartheye.geo.remote import as_path, is_remote
from cgeartheye.utils.errors import UserError

ORDERS = ("recent", "clear", "first")
"""Which scene is seen where several have data: the latest, the least cloudy, or the first named."""

_INDEXES = {".json", ".geojson", ".parquet"}
_RASTERS = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff")
_NO_DATA_ROLES = {"thumbnail", "overview", "metadata"}


@dataclass(frozen=True)
class _Entry:
    path: Path
    datetime: str | None = None
    cloud_cover: float | None = None


def scenes_of(inputs: Sequence[Path], order: str | None = None) -> list[Path]:
    """Return scenes, with the entries of indexes in their place, in the order of a mosaic.

    Of a mosaic the last that has data is seen; see `vrt.build_mosaic_vrt`.

    Args:
        inputs: scenes, folders, and indexes of scenes.
        order: of `ORDERS`; none: as they are named.

    Raises:
        UserError: an unknown order, an index that is none or is empty, or an entry without what
            the order needs.
    """
    if order is not None and order not in ORDERS:
        raise UserError(f"--order {order} is unknown: give one of {', '.join(ORDERS)}")
    entries = [entry for path in inputs for entry in _entries(path)]
    if order == "first":
        entries.reverse()
    elif order == "recent":
        entries.sort(key=lambda one: _needed(one, one.datetime, "datetime", order))
    elif order == "clear":
        entries.sort(key=lambda one: -_needed(one, one.cloud_cover, "eo:cloud_cover", order))
    return [entry.path for entry in entries]


def _needed(entry: _Entry, value: Any, name: str, order: str) -> Any:
    if value is None:
        raise UserError(
            f"--order {order} needs the {name} of every scene, which {entry.path.name} lacks: name "
            "an index that has it, or leave --order out"
        )
    return value


def _entries(path: Path) -> list[_Entry]:
    if is_remote(path) or path.suffix.lower() not in _INDEXES:
        return [_Entry(path)]
    try:
        rows = _of_parquet(path) if path.suffix.lower() == ".parquet" else _of_json(path)
        found = [_entry(row, path) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path} cannot be read as an index of scenes: {reason}") from error
    if not found:
        raise UserError(f"{path} is an index without scenes")
    return found


def _of_json(path: Path) -> list[dict[str, Any]]:
    """Return the Items of an ItemCollection, flat: properties beside the assets."""
    read = json.loads(path.read_bytes())
    if read.get("type") not in ("FeatureCollection", "Feature"):
        raise UserError(f"{path} is no STAC ItemCollection")
    items = read["features"] if read["type"] == "FeatureCollection" else [read]
    return [{"id": one.get("id"), "assets": one["assets"], **one["properties"]} for one in items]


def _of_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    wanted = ("id", "assets", "location", "datetime", "eo:cloud_cover")
    names = pyarrow.parquet.read_schema(path).names
    table = pyarrow.parquet.read_table(path, columns=[name for name in wanted if name in names])
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _entry(row: Mapping[str, Any], index: Path) -> _Entry:
    where = row["location"] if row.get("location") else _href(row["assets"], row.get("id"), index)
    path = as_path(where)
    if not is_remote(path) and not path.is_absolute():
        path = index.parent / path
    when, cloud = row.get("datetime"), row.get("eo:cloud_cover")
    text = when if when is None or isinstance(when, str) else when.isoformat()
    return _Entry(path, text, None if cloud is None else float(cloud))


def _href(assets: Mapping[str, Any], item: object, index: Path) -> str:
    """Return where an Item's pixels are: its first asset of data that is a raster."""
    for asset in assets.values():
        if asset is None:
            continue  # of another row of the table
        roles = set(asset.get("roles") or ())
        if str(asset.get("type", "")).startswith(_RASTERS) and not roles & _NO_DATA_ROLES:
            return str(asset["href"])
    raise UserError(f"{index}: item {item} has no asset that is a raster with data")
