"""Vector files of any length, written table by table."""

import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import geopandas
import pyarrow
import pyogrio
import shapely
from pyarrow import parquet
from pyogrio.errors import DataSourceError

from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import json_text

FORMATS = {"gpkg": "GPKG", "parquet": "", "geojson": "GeoJSON", "fgb": "FlatGeobuf"}
"""Endings, and the drivers of those that GDAL writes."""


def write_vectors(frames: Iterable[geopandas.GeoDataFrame], path: Path, folder: Path) -> None:
    """Write polygons in the format of the file's ending; whole or not at all.

    Args:
        frames: at least one, of the same columns and reference system; one is held at a time.
        path: where to. GeoJSON is in longitude and latitude (RFC 7946).
        folder: on the same disk, for the unfinished file.

    Raises:
        UserError: it cannot be written.
    """
    unfinished = folder / path.name
    unfinished.unlink(missing_ok=True)
    coming = iter(frames)
    if path.suffix == ".geojson":
        coming = map(_for_geojson, coming)
    first = next(coming)
    tables = map(_table, chain([first], coming))
    try:
        if path.suffix == ".parquet":
            _write_parquet(first, tables, unfinished)
        else:
            _write_by_gdal(first, tables, unfinished)
        os.replace(unfinished, path)
    except (DataSourceError, OSError) as error:
        raise UserError(f"cannot write {path}: {error}") from error


def _for_geojson(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """Place polygons by longitude and latitude, their outer rings counter-clockwise."""
    placed = frame.to_crs("EPSG:4326") if frame.crs else frame
    return placed.set_geometry(shapely.orient_polygons(placed.geometry.to_numpy()), crs=placed.crs)


def _table(frame: geopandas.GeoDataFrame) -> pyarrow.Table:
    """Columns as they are, and the geometry as WKB."""
    attributes = frame.drop(columns="geometry")
    table = pyarrow.Table.from_pandas(attributes, preserve_index=False).replace_schema_metadata()
    shapes = pyarrow.array(shapely.to_wkb(frame.geometry.to_numpy()), pyarrow.binary())
    return table.append_column("geometry", shapes)


def _write_parquet(
    first: geopandas.GeoDataFrame, tables: Iterator[pyarrow.Table], path: Path
) -> None:
    """Write GeoParquet 1.0 (geoparquet.org), a row group a table."""
    geometry: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": [],  # not named: those of later tables are not known
        "crs": first.crs.to_json_dict() if first.crs else None,
    }
    facts = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    head = next(tables)
    schema = head.schema.with_metadata({"geo": json_text(facts)})
    with parquet.ParquetWriter(path, schema) as file:
        for table in chain([head], tables):
            file.write_table(table.cast(schema))


def _write_by_gdal(
    first: geopandas.GeoDataFrame, tables: Iterator[pyarrow.Table], path: Path
) -> None:
    head = next(tables)
    batches = (batch for table in chain([head], tables) for batch in table.to_batches())
    code = first.crs.to_epsg() if first.crs else None
    crs = f"EPSG:{code}" if code else first.crs and first.crs.to_wkt()
    with warnings.catch_warnings(action="ignore"):  # a scene may be on no map
        pyogrio.write_arrow(
            pyarrow.RecordBatchReader.from_batches(head.schema, batches),
            path,
            driver=FORMATS[path.suffix[1:]],
            geometry_name="geometry",
            geometry_type="Polygon" if (first.geom_type == "Polygon").all() else "Unknown",
            crs=crs,
            **({"layer": "map"} if path.suffix == ".gpkg" else {}),
        )
