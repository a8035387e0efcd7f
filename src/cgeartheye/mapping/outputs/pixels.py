"""What a finished map is handed on as: GeoTIFFs, polygons, a preview and `map.json`."""

import colorsys
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import Resampling

from cgeartheye import __version__
from cgeartheye.geo.pair import AnyScene
from cgeartheye.geo.reader import Bytes
from cgeartheye.geo.vector_writer import write_vectors
from cgeartheye.inference.windows import Grid
from cgeartheye.mapping import polygonize
from cgeartheye.mapping.blending import NODATA
from cgeartheye.mapping.geotiff import RGB, RasterStyle, RawRaster, write_geotiff
from cgeartheye.mapping.preview.pixels import Entry, write_preview
from cgeartheye.mapping.sinks.writer import PREVIEW_SIDE
from cgeartheye.utils.io import write_text

MAP, PROBABILITIES, PREVIEW, FACTS = "map.tif", "probabilities.tif", "preview.html", "map.json"

# Colours that differ in hue and in lightness, for classes that have none of their own.
_COLORS: tuple[RGB, ...] = (
    (66, 133, 244),
    (46, 125, 50),
    (251, 192, 45),
    (211, 47, 47),
    (142, 68, 173),
    (255, 138, 101),
    (0, 172, 193),
    (141, 110, 99),
    (174, 213, 129),
    (240, 98, 146),
    (96, 125, 139),
    (57, 73, 171),
)


_UNCHANGED: RGB = (189, 189, 189)


def colors_of(count: int, change: bool = False) -> list[RGB]:
    """Return so many distinct colours; for change grey, red and then others."""
    if change:
        return [_UNCHANGED, *colors_of(count + 2)[3:]]
    colors = list(_COLORS[:count])
    for n in range(count - len(colors)):
        red, green, blue = colorsys.hsv_to_rgb(n * 0.618 % 1, 0.75, 0.8)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colors


def finish(
    out: Path,
    planes: Mapping[str, RawRaster],
    scene: AnyScene,
    grid: Grid,
    names: Sequence[str],
    colors: Sequence[RGB],
    vectors: Sequence[str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write all that a map consists of; the same planes give the same GeoTIFFs, to the byte.

    Args:
        out: the folder.
        planes: `classes`, `confidence`, `scene`, and `probabilities` if asked for.
        scene: that was mapped.
        grid: it was mapped with.
        names: of the classes.
        colors: of the classes.
        vectors: endings of the files of polygons.
        settings: all that the map depends on.

    Returns:
        What `map.json` holds, which is written last.

    Raises:
        UserError: a file cannot be written.
    """
    rows, columns = grid.shape
    cell = grid.cell
    transform = scene.transform @ Affine.scale(cell[1], cell[0])
    classes = planes["classes"]
    tags = {"GENERATOR": f"CGEarthEye {__version__}"}
    look = RasterStyle(transform, scene.crs, names, colors, tags)
    write_geotiff(classes, out / MAP, look)
    if "probabilities" in planes:
        write_geotiff(planes["probabilities"], out / PROBABILITIES, look)
    if vectors:
        _write_polygons(out, planes, scene, grid, names, vectors)
    counts = _count(classes)
    pixel = scene.ground[0] * scene.ground[1] * cell[0] * cell[1]
    mapped = int(counts[: len(names)].sum())
    legend = [
        Entry(name, color, 100 * count / max(mapped, 1), count * pixel / 1e6)
        for name, color, count in zip(names, colors, counts.tolist(), strict=False)
    ]
    place = (scene.transform, scene.crs.to_string()) if scene.crs else None
    write_preview(
        out / PREVIEW,
        scene.title,
        pictures(planes["scene"]),
        scene.dates,
        _shrunk(out / MAP, rows, columns),
        legend,
        place,
        (scene.height, scene.width),
        (rows * cell[0], columns * cell[1]),
    )
    facts = {
        **facts_of(scene, grid, settings),
        "kind": "pixels" if grid.dense else "cells",
        "nodata": NODATA,
        "mapped_pixels": mapped,
        "classes": [
            {"value": value, "name": e.name, "colour": e.color, "pixels": count, "km2": e.area}
            for value, (e, count) in enumerate(zip(legend, counts.tolist(), strict=False))
        ],
    }
    write_text(out / FACTS, json.dumps(facts, indent=1, ensure_ascii=False))
    return facts


def facts_of(scene: AnyScene, grid: Grid, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `map.json` says of every kind of map."""
    return {
        "format": 1,
        "cgeartheye": __version__,
        "settings": settings,
        "scene": {
            "width": scene.width,
            "height": scene.height,
            "crs": scene.crs.to_string() if scene.crs else None,
            "transform": list(scene.transform[:6]),
            "metres_a_pixel": scene.ground,
            **scene.facts,
        },
        "model_grid": {
            "rows": grid.rows.model,
            "columns": grid.columns.model,
            "resampled": grid.resampled,
            "metres_a_pixel": grid.meters(scene.ground),
            "windows": len(grid.starts) * sum(len(band.starts) for band in grid.bands),
        },
    }


def _write_polygons(
    out: Path,
    planes: Mapping[str, RawRaster],
    scene: AnyScene,
    grid: Grid,
    names: Sequence[str],
    endings: Sequence[str],
) -> None:
    classes, confidence = planes["classes"], planes["confidence"]
    left_out = (NODATA, 0) if scene.dates else (NODATA,)  # 0: nothing has changed
    if grid.dense:
        found = polygonize.polygonize(classes, confidence, left_out)
    else:
        shape = scene.height, scene.width
        found = polygonize.cells(classes, confidence, shape, grid.cell, left_out)
    pixel = scene.ground[0] * scene.ground[1]
    frame = polygonize.frame_of(found, names, scene.transform, scene.crs, pixel)
    if scene.dates:
        frame = frame.assign(before=scene.dates[0], after=scene.dates[1])
    for ending in endings:
        write_vectors([frame], out / f"map.{ending}", classes.path.parent)


def _count(classes: RawRaster) -> npt.NDArray[np.int64]:
    """How many pixels each value has, `[256]`."""
    step = max(1, 2**24 // classes.width)
    total = np.zeros(256, np.int64)
    for top in range(0, classes.height, step):
        rows = classes.read((top, min(top + step, classes.height)))
        total += np.bincount(rows.ravel(), minlength=256)
    return total


def pictures(scene: RawRaster) -> list[Bytes]:
    """Return the small picture of each date, `[H, W, 3]`."""
    bands = [scene.read((0, scene.height), band) for band in range(scene.bands)]
    return [np.stack(bands[i : i + 3], axis=-1) for i in range(0, len(bands), 3)]


def _shrunk(path: Path, rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """The map at the size of the preview."""
    factor = max(1.0, max(rows, columns) / PREVIEW_SIDE)
    shape = max(1, round(rows / factor)), max(1, round(columns / factor))
    with rasterio.open(path) as file:
        return np.asarray(file.read(1, out_shape=shape, resampling=Resampling.mode))
