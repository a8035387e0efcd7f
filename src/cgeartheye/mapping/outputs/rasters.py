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
    counts, areas = _count(classes, job)
    mapped = int(counts[: len(names)].sum())
    whole = max(float(areas[: len(names)].sum()), 1e-12)
    legend = [
        LegendEntry(name, color, 100 * area / whole, area)
        for name, color, area in zip(names, job.colors, areas.tolist(), strict=False)
    ]
    pictures = small.pictures()
    drawn, sure = _shrunk(shown, *job.grid.shape), _sampled(planes["confidence"])
    if not job.grid.dense:
        drawn, sure = (_on_scene(cells, job, pictures[0].shape[:2]) for cells in (drawn, sure))
    write_preview(job, pictures, drawn, legend, sure)
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


def _count(
    classes: RawRaster, job: MapJob
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return how many pixels of the map have each value, and their area on the scene in km²."""
    scene, cell = job.scene, job.grid.cell
    # Cells at the lower and right end may stand out.
    heights = np.diff(np.minimum(np.arange(classes.height + 1) * cell[0], scene.height))
    widths = np.diff(np.minimum(np.arange(classes.width + 1) * cell[1], scene.width))
    step = max(1, 2**24 // classes.width)
    total, areas = np.zeros(256, np.int64), np.zeros(256)
    for top in range(0, classes.height, step):
        rows = classes.read((top, min(top + step, classes.height)))
        found = np.bincount(rows.ravel(), minlength=256)
        total += found
        if job.grid.dense:
            areas += found
            continue
        sizes = np.outer(heights[top : top + len(rows)], widths)
        areas += np.bincount(rows.ravel(), sizes.ravel(), minlength=256)
    return total, areas * (scene.ground[0] * scene.ground[1] / 1e6)


def _on_scene(
    cells: npt.NDArray[np.uint8], job: MapJob, shape: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """Cells as pixels of a picture of the scene, `shape`, beyond which they may stand out."""
    sides = (job.scene.height, job.scene.width)
    rows, columns = (
        ((np.arange(pixels) + 0.5) / pixels * side / (count * size) * few).astype(int)
        for pixels, side, count, size, few in zip(
            shape, sides, job.grid.shape, job.grid.cell, cells.shape, strict=True
        )
    )
    return cells[np.ix_(rows, columns)]


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
