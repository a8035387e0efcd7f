"""The files of a finished map of classes: GeoTIFFs, polygons, a preview and `map.json`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling

from cgeartheye import __version__
from cgeartheye.geo.vector_writer import write_vectors
from cgeartheye.mapping import polygonize, thumbnail
from cgeartheye.mapping.blending import NODATA
from cgeartheye.mapping.geotiff import RasterStyle, RawRaster, write_geotiff
from cgeartheye.mapping.job import FACTS, MAP, PROBABILITIES, MapJob
from cgeartheye.mapping.outputs.stac import write_collection, write_item
from cgeartheye.mapping.outputs.tiles import write_tiles
from cgeartheye.mapping.preview.rasters import LegendEntry, write_preview
from cgeartheye.mapping.style import STYLE, style_qml
from cgeartheye.utils.io import write_json, write_text

_ROUNDING = 1e-6  # of a pixel: ten pixels are no less than their area


def finish_rasters(
    job: MapJob, planes: Mapping[str, RawRaster], small: thumbnail.Thumbnail
) -> dict[str, Any]:
    """Write all that a map consists of; the same planes give the same GeoTIFFs, to the byte.

    Args:
        job: the map.
        planes: `classes`, and `confidence` and `probabilities` where they are asked for.
        small: the scene, small.

    Returns:
        What `map.json` holds, which is written last.

    Raises:
        UserError: a file cannot be written.
    """
    names, classes = job.classes, planes["classes"]
    tags = {"GENERATOR": f"CGEarthEye {__version__}"}
    style = RasterStyle(job.transform, job.scene.crs, names, job.colors, tags)
    kind = "pixels" if job.grid.dense else "cells"
    what, tiles, shown = f"classes of {kind}", None, job.out / MAP
    if job.options.tiles:
        tiles, shown = write_tiles(job, planes, style, what), shown.with_suffix(".vrt")
    else:
        write_geotiff(classes, shown, style)
        if "probabilities" in planes:
            write_geotiff(planes["probabilities"], job.out / PROBABILITIES, style)
    qml = style_qml(job)
    write_text(job.out / STYLE, qml)
    if job.options.vector_format:
        _write_polygons(job, planes, qml)
    counts = _count(classes)
    mapped = int(counts[: len(names)].sum())
    legend = [
        LegendEntry(name, color, 100 * count / max(mapped, 1), count * job.pixel_area / 1e6)
        for name, color, count in zip(names, job.colors, counts.tolist(), strict=False)
    ]
    write_preview(
        job,
        small.pictures(),
        _shrunk(shown, *job.grid.shape),
        legend,
        _sampled(planes["confidence"]),
    )
    facts = {
        **job.describe(),
        "kind": kind,
        "nodata": NODATA,
        "mapped_pixels": mapped,
        "classes": [
            {"value": value, "name": e.name, "color": e.color, "pixels": count, "km2": e.area}
            for value, (e, count) in enumerate(zip(legend, counts.tolist(), strict=False))
        ],
    }
    if tiles is None:
        write_item(job, what)
    else:
        facts["tiles"] = len(tiles)
        write_collection(job, what, tiles)
    write_json(job.out / FACTS, facts)
    return facts


def _write_polygons(job: MapJob, planes: Mapping[str, RawRaster], qml: str) -> None:
    scene, grid, options = job.scene, job.grid, job.options
    classes, confidence = planes["classes"], planes["confidence"]
    left_out = (*job.clear, NODATA)
    if grid.dense:
        least = math.ceil((options.min_area or 0) / job.pixel_area - _ROUNDING)
        found = polygonize.polygonize(
            classes, confidence, left_out, least=least, smooth=options.smooth
        )
    else:
        shape = scene.height, scene.width
        found = polygonize.cells(classes, confidence, shape, grid.cell, left_out)
    pixel = scene.ground[0] * scene.ground[1]
    frame = polygonize.frame_of(found, job.classes, scene.transform, scene.crs, pixel)
    if scene.dates:
        frame = frame.assign(before=scene.dates[0], after=scene.dates[1])
    for ending in options.vector_format:
        write_vectors([frame], job.out / f"map.{ending}", job.work, qml)


def _count(classes: RawRaster) -> npt.NDArray[np.int64]:
    """Return the number of pixels of each value, `[256]`."""
    step = max(1, 2**24 // classes.width)
    total = np.zeros(256, np.int64)
    for top in range(0, classes.height, step):
        rows = classes.read((top, min(top + step, classes.height)))
        total += np.bincount(rows.ravel(), minlength=256)
    return total


def _sampled(confidence: RawRaster) -> npt.NDArray[np.uint8]:
    """The confidence of the pixels in the middles of the preview's."""
    height, width = confidence.height, confidence.width
    factor = max(1.0, max(height, width) / thumbnail.PREVIEW_SIDE)
    shape = max(1, round(height / factor)), max(1, round(width / factor))
    rows, columns = (
        ((np.arange(few) + 0.5) * side / few).astype(int)
        for few, side in zip(shape, (height, width), strict=True)
    )
    return np.stack([confidence.read((row, row + 1))[0, columns] for row in rows.tolist()])


def _shrunk(path: Path, rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """The map at the size of the preview."""
    factor = max(1.0, max(rows, columns) / thumbnail.PREVIEW_SIDE)
    shape = max(1, round(rows / factor)), max(1, round(columns / factor))
    with rasterio.open(path) as file:
        return np.asarray(file.read(1, out_shape=shape, resampling=Resampling.mode))
