"""The files of a finished embedding: a zarr group or GeoParquet, a picture, STAC and `map.json`."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas
import shapely
from rasterio.windows import Window

from cgeartheye.embeddings.store import (
    CHUNK,
    FEATURES,
    Projection,
    attributes_of,
    write_embedding,
)
from cgeartheye.geo.pair import day_of
from cgeartheye.geo.reader import Bools, Bytes, Scene
from cgeartheye.geo.vector_writer import write_vectors
from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.job import FACTS, MapJob
from cgeartheye.mapping.outputs.stac import ITEM, footprint, links_to_sources
from cgeartheye.mapping.polygonize import on_map
from cgeartheye.mapping.thumbnail import Thumbnail
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_image, write_json

CELLS, PICTURE = "cells.parquet", "preview.jpg"

# A proposal of 2026: github.com/geo-embeddings/embeddings-stac-specification.
_EMBEDDING = "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json"
_CELL_ROWS = 64  # that are held at a time


def finish_patches(
    job: MapJob,
    vectors: RawRaster,
    valid: RawRaster,
    dtype: np.dtype[Any],
    projection: Projection,
    small: Thumbnail,
) -> dict[str, Any]:
    """Write the vectors of patches as a zarr group; the same planes give the same bytes.

    Args:
        job: the embedding.
        vectors: a row of bytes for each row of patches.
        valid: 1 where a patch has data.
        dtype: of the numbers in `vectors`.
        projection: that made them.
        small: the scene, small.

    Returns:
        What `map.json` holds, which is written last.

    Raises:
        UserError: a file cannot be written.
    """
    width = projection.basis.shape[1]
    unfinished = job.work / FEATURES
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write_zarr(job, unfinished, vectors, valid, dtype, projection)
        shutil.rmtree(job.out / FEATURES, ignore_errors=True)
        os.replace(unfinished, job.out / FEATURES)
    except OSError as error:
        raise UserError(
            f"cannot write {job.out / FEATURES} ({error.strerror}): make room, then go on with "
            "--resume"
        ) from error
    _write_picture(job, vectors, dtype, width, valid, small)
    return _finish(job, "patches", FEATURES, "application/vnd+zarr", width, dtype.name, valid)


def finish_cells(
    job: MapJob, vectors: RawRaster, valid: RawRaster, small: Thumbnail
) -> dict[str, Any]:
    """Write the class tokens of cells as GeoParquet; see `finish_patches`.

    Args:
        job: the embedding.
        vectors: a row of bytes for each row of cells.
        valid: 1 where a cell has data.
        small: the scene, small.

    Raises:
        UserError: a file cannot be written.
    """
    width = vectors.width // valid.width // 4
    write_vectors(_frames(job, vectors, valid, width), job.out / CELLS, job.work)
    _write_picture(job, vectors, np.dtype("float32"), width, valid, small)
    kind = "application/vnd.apache.parquet"
    return _finish(job, "vectors of cells", CELLS, kind, width, "float32", valid)


def _finish(
    job: MapJob, kind: str, name: str, media: str, width: int, dtype: str, valid: RawRaster
) -> dict[str, Any]:
    count = int(sum(valid.read((row, row + 1)).sum() for row in range(valid.height)))
    facts = {
        **job.describe(),
        "kind": kind,
        "date": _day(job),
        "mapped_pixels": count,
        "vectors": {"file": name, "shape": job.grid.shape, "width": width, "dtype": dtype},
        "transform": list(job.transform[:6]),
    }
    _write_stac(job, name, media, width, dtype)
    write_json(job.out / FACTS, facts)
    return facts


def _write_zarr(
    job: MapJob,
    path: Path,
    vectors: RawRaster,
    valid: RawRaster,
    dtype: np.dtype[Any],
    projection: Projection,
) -> None:
    rows, columns = job.grid.shape

    def chunks() -> Iterator[tuple[slice, npt.NDArray[Any], Bools]]:
        for top in range(0, rows, CHUNK):
            span = top, min(top + CHUNK, rows)
            some = vectors.read(span).view(dtype).reshape(span[1] - top, columns, -1)
            yield slice(*span), some, valid.read(span) > 0

    attributes = attributes_of(
        job.transform,
        job.scene.crs,
        job.grid.shape,
        job.scene.transform,
        (job.scene.height, job.scene.width),
        date=_day(job),
        gsd=job.grid.meters(job.scene.ground)[0],
        model=job.settings["model"],
    )
    write_embedding(path, job.grid.shape, dtype.name, chunks(), projection, attributes)


def _frames(
    job: MapJob, vectors: RawRaster, valid: RawRaster, width: int
) -> Iterator[geopandas.GeoDataFrame]:
    scene, cell = job.scene, job.grid.cell
    day, model = _day(job), job.settings["model"]
    gsd = job.grid.meters(scene.ground)[0]
    for top in range(0, valid.height, _CELL_ROWS):
        span = top, min(top + _CELL_ROWS, valid.height)
        rows, columns = np.nonzero(valid.read(span))
        values = vectors.read(span).view(np.float32).reshape(-1, valid.width, width)
        boxes = shapely.box(
            columns * cell[1],
            (rows + top) * cell[0],
            np.minimum((columns + 1) * cell[1], scene.width),
            np.minimum((rows + top + 1) * cell[0], scene.height),
            ccw=False,
        )
        placed = shapely.transform(boxes, lambda xy: on_map(scene.transform, xy))
        yield geopandas.GeoDataFrame(
            {
                "vector": pandas.Series(list(values[rows, columns]), dtype=object),
                "date": pandas.Series([day] * len(rows), dtype="str"),
                "gsd": np.full(len(rows), gsd),
                "weights": pandas.Series([model["backbone"]] * len(rows), dtype="str"),
            },
            geometry=geopandas.GeoSeries(placed, crs=scene.crs.to_wkt() if scene.crs else None),
        )


def _write_picture(
    job: MapJob,
    vectors: RawRaster,
    dtype: np.dtype[Any],
    width: int,
    valid: RawRaster,
    small: Thumbnail,
) -> None:
    """Write the scene and, beside it, three numbers of each vector as red, green and blue."""
    from PIL import Image

    picture = small.pictures()[0]
    step = max(1, max(valid.height, valid.width) // 1000)
    colors, known = [], []
    for row in range(0, valid.height, step):
        span = row, row + 1
        values = vectors.read(span).view(dtype).reshape(valid.width, width)
        colors.append(values[::step, :3].astype(np.float32))
        known.append(valid.read(span)[0, ::step] > 0)
    shades = _stretched(np.stack(colors), np.stack(known))
    size = picture.shape[1], picture.shape[0]
    side = np.asarray(Image.fromarray(shades).resize(size, Image.Resampling.NEAREST))
    both = Image.fromarray(np.concatenate([picture, side], axis=1))
    write_image(job.out / PICTURE, both, quality=85)


def _stretched(values: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]) -> Bytes:
    """Vectors' first numbers `[h, w, 3]` from their 2nd to 98th percentile as 0..255."""
    if values.shape[-1] < 3:
        values = np.repeat(values[..., :1], 3, axis=-1)
    if not known.any():
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(values[known], (2, 98), axis=0)
    shades = ((values - low) / np.maximum(high - low, 1e-9) * 255).clip(0, 255)
    return np.asarray(shades * known[..., None], np.uint8)


def _write_stac(job: MapJob, name: str, media: str, width: int, dtype: str) -> None:
    """Write a STAC Item; without a CRS or a date there is none, which STAC has no place for."""
    scene, day, grid = job.scene, _day(job), job.grid
    assert isinstance(scene, Scene)
    if scene.crs is None or day is None:
        return
    whole = Window(0, 0, grid.shape[1], grid.shape[0])
    globe = footprint(job, whole)
    cell = grid.cell
    properties: dict[str, Any] = {
        "datetime": f"{day}T00:00:00Z",
        "gsd": cell[1] * scene.ground[0],
        "cgeartheye:type": "pixel" if name == FEATURES else "chip",
        "cgeartheye:dimensions": width,
        "cgeartheye:model": job.settings["model"],
        "emb:runtime_parameters": {
            "window": grid.window,
            "overlap": grid.overlap,
            "bands": list(scene.facts["bands"]),
            "gsd": grid.meters(scene.ground)[0],
        },
    }
    if dtype != "float32":
        properties["emb:quantization"] = {
            "method": "principal components; mean, basis and scale are arrays of the zarr group",
            "original_dtype": "float32",
            "quantized_dtype": dtype,
        }
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",  # that of the extension's schema
        "stac_extensions": [_EMBEDDING],
        "id": job.out.resolve().name,
        "bbox": list(globe.bounds),
        "geometry": shapely.geometry.mapping(globe),
        "properties": properties,
        "links": [link | {"rel": "emb:source-data"} for link in links_to_sources(job)],
        "assets": {
            "embeddings": {
                "href": f"./{name}",
                "type": media,
                "roles": ["data"],
                "data_type": dtype,
            },
            "preview": {"href": f"./{PICTURE}", "type": "image/jpeg", "roles": ["overview"]},
        },
    }
    write_json(job.out / ITEM, item)


def _day(job: MapJob) -> str | None:
    assert isinstance(job.scene, Scene)
    return day_of(job.scene)
