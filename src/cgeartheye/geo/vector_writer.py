"""Vector files of any length, written table by table, read back before they have their name."""

import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pyarrow
import pyogrio
import shapely
from pyarrow import parquet
from pyogrio.errors import DataLayerError, DataSourceError
from shapely.affinity import translate

from cgeartheye.utils.io import json_text, replacing

FORMATS = {"gpkg": "GPKG", "parquet": "", "geojson": "GeoJSON", "fgb": "FlatGeobuf"}
"""Endings, and the drivers of those that GDAL writes."""

# As QGIS makes it; it looks for the style of a layer there.
_TABLE = """CREATE TABLE layer_styles (
id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT,
styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))"""

_WORLD = shapely.box(-180, -90, 180, 90)
_WIDE = 1e7  # m, a quarter of the equator

_ERRORS = (DataLayerError, DataSourceError, pyarrow.ArrowException, sqlite3.DatabaseError)


def write_vectors(
    frames: Iterable[geopandas.GeoDataFrame], path: Path, folder: Path | None = None, qml: str = ""
) -> None:
    """Write polygons in the format of the file's ending; whole or not at all.

    Args:
        frames: at least one, of the same columns and CRS; one is held at a time. A
            geometry may be none.
        path: where to. GeoJSON is in longitude and latitude (RFC 7946).
        folder: on the same disk, for the unfinished file; none: that of `path`.
        qml: style of QGIS that a GeoPackage holds as its layer's.

    Raises:
        UserError: it cannot be written.
    """
    coming = iter(frames)
    ending = path.suffix[1:].lower()
    if ending == "geojson":
        coming = map(_for_geojson, coming)
    first = next(coming)
    count = 0

    def tables() -> Iterator[pyarrow.Table]:
        nonlocal count
        for frame in chain([first], coming):
            count += len(frame)
            yield _table(frame)

    with replacing(path, folder, _ERRORS) as unfinished:
        unfinished.unlink()  # GDAL would look into what it is to write
        if ending == "parquet":
            _write_parquet(first, tables(), unfinished)
        else:
            _write_by_gdal(first, tables(), unfinished, path.stem, FORMATS[ending])
        if qml and ending == "gpkg":
            _add_style(unfinished, qml)
        _check(unfinished, count)


def _for_geojson(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """Place polygons by longitude and latitude, their outer rings counter-clockwise."""
    placed = frame.to_crs("EPSG:4326") if frame.crs else frame
    shapes = placed.geometry.to_numpy()
    if frame.crs:
        # A few kilometres that were projected have vertices on both sides of the world.
        sizes = frame.geometry.bounds
        limit = 0 if frame.crs.is_geographic else _WIDE
        narrow = (sizes.maxx - sizes.minx < limit).to_numpy()
        shapes = _cut_at_antimeridian(shapes, narrow)
    return placed.set_geometry(shapely.orient_polygons(shapes), crs=placed.crs)


def _cut_at_antimeridian(
    shapes: npt.NDArray[np.object_], narrow: npt.NDArray[np.bool_]
) -> npt.NDArray[np.object_]:
    """Cut polygons that cross the antimeridian in two (RFC 7946, 3.1.9).

    Args:
        shapes: in longitude and latitude; those of a scene that goes on beyond 180 degrees do too.
        narrow: which are not as wide as they seem if they reach from one side to the other.
    """
    west, _, east, _ = shapely.bounds(shapes).T
    torn = (east - west > 180) & narrow
    cut = shapes.copy()
    cut[torn] = shapely.transform(shapes[torn], lambda xy: xy + [360, 0] * (xy[:, :1] < 0))
    across = torn | (east > 180) | (west < -180)
    cut[across] = [_both_sides(shape) for shape in cut[across]]
    return cut


def _both_sides(shape: shapely.Geometry) -> shapely.Geometry:
    turned = (translate(shapely.make_valid(shape), turn) for turn in (-360, 0, 360))
    pieces = shapely.get_parts([one.intersection(_WORLD) for one in turned])
    return shapely.union_all(pieces[shapely.area(pieces) > 0])


def _table(frame: geopandas.GeoDataFrame) -> pyarrow.Table:
    """Columns as they are, and the geometry as WKB."""
    attributes = frame.drop(columns="geometry")
    table = pyarrow.Table.from_pandas(attributes, preserve_index=False).replace_schema_metadata()
    for number, field in enumerate(table.schema):
        if pyarrow.types.is_null(field.type):  # GDAL has no such type
            text = field.with_type(pyarrow.string())
            table = table.set_column(number, text, table.column(number).cast(pyarrow.string()))
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
    first: geopandas.GeoDataFrame,
    tables: Iterator[pyarrow.Table],
    path: Path,
    layer: str,
    driver: str,
) -> None:
    head = next(tables)
    batches = (batch for table in chain([head], tables) for batch in table.to_batches())
    code = first.crs.to_epsg() if first.crs else None
    crs = f"EPSG:{code}" if code else first.crs and first.crs.to_wkt()
    with warnings.catch_warnings(action="ignore"):  # a scene may not be georeferenced
        pyogrio.write_arrow(
            pyarrow.RecordBatchReader.from_batches(head.schema, batches),
            path,
            layer=layer,
            driver=driver,
            geometry_name="geometry",
            # Later tables of GeoJSON may have what is cut in two.
            geometry_type="Polygon"
            if driver != "GeoJSON" and (first.geom_type == "Polygon").all()
            else "Unknown",
            crs=crs,
        )


def _add_style(geopackage: Path, qml: str) -> None:
    """Put a style of QGIS into a GeoPackage of one layer."""
    with closing(sqlite3.connect(geopackage)) as database, database:
        database.execute(_TABLE)
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, styleName, styleQML, useAsDefault, description, owner) "
            "SELECT '', '', table_name, column_name, 'classes', ?, 1, '', '' "
            "FROM gpkg_geometry_columns",
            (qml,),
        )
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', 0)"
        )


def _check(path: Path, count: int) -> None:
    """Read a file from end to end: some writers report no error if the disk was briefly full.

    Raises:
        OSError: it has not all the rows.
    """
    if path.suffix == ".parquet":
        with parquet.ParquetFile(path) as file:
            found = sum(batch.num_rows for batch in file.iter_batches())
    else:
        with (
            warnings.catch_warnings(action="ignore"),
            pyogrio.open_arrow(path, use_pyarrow=True, layer=0) as (_, reader),
        ):
            found = sum(batch.num_rows for batch in reader)
    if path.suffix == ".gpkg":
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
            (state,) = database.execute("PRAGMA integrity_check").fetchone()
        if state != "ok":
            raise OSError(f"what was written is damaged ({state})")
    if found != count:
        raise OSError(f"of {count:,} rows {found:,} can be read back")
