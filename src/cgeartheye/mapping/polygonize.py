"""A map of classes as polygons: simplified, without gaps or overlaps between neighbours.

The map is cut into strips of whole rows. In each, connected pixels of a class become a polygon,
and all polygons are simplified together (`shapely.coverage_simplify`: Visvalingam-Whyatt on the
shared edges), except along the cuts; there, polygons of two strips are then joined, and those that
are too small go to their neighbors. The map's pixels are held strip by strip, the simplified
polygons all at once: some 2 kB each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import shapes
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cgeartheye.geo.crs import GEOD
from cgeartheye.geo.reader import Bools, Bytes
from cgeartheye.mapping.blending import NODATA
from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.sieve import merge_small
from cgeartheye.mapping.smoothing import smooth_coverage

_STRIP = 2**24  # pixels
_TOLERANCE = 1.0  # pixels; steps of single pixels (their triangle has an area of 0.5) go

Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Polygons = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Shapes:
    """Polygons of one or more strips, in pixels.

    Attributes:
        polygons: `[N]`.
        classes: `[N]` values of the map.
        pixels: `[N]` how many the polygons were made of.
        confidence: `[N]` their sum over those pixels, percent.
    """

    polygons: Polygons
    classes: Ints
    pixels: Ints
    confidence: Reals


def polygonize(
    classes: RawRaster,
    confidence: RawRaster,
    left_out: Sequence[int] = (NODATA,),
    strip: int = _STRIP,
    tolerance: float = _TOLERANCE,
    least: int = 1,
    smooth: bool = False,
) -> Shapes:
    """Turn a map into polygons.

    Args:
        classes: the map, one band.
        confidence: percent, one band.
        left_out: values that get no polygons.
        strip: pixels that are held at a time.
        tolerance: in pixels; the square root of the area of triangles that are simplified away.
        least: pixels of the smallest area. Smaller ones go to their largest neighbor, of whatever
            class (see `sieve`), and get no polygon if they are alone between nodata.
        smooth: cut the polygons' corners.

    Returns:
        Polygons in pixels that cover all that is not left out and share their vertices with their
        neighbours.
    """
    parts: list[Shapes] = []
    pairs: list[Ints] = []
    neighbors: list[Ints] = []
    count, last = 0, None
    height = max(1, strip // classes.width)
    for top in range(0, classes.height, height):
        rows = top, min(top + height, classes.height)
        above, values, below = _with_neighbors(classes, rows)
        labels, number = _label(values)
        part = _polygonize_strip(
            labels, number, values, (above, below), confidence.read(rows), top, tolerance
        )
        if last is not None:
            joined = (above == values[0]) & ~np.isin(above, left_out)
            touching = np.stack([last[joined], labels[0][joined] + count], 1)
            pairs.append(np.unique(touching, axis=0))
            neighbors.append(_neighbors(np.stack([last, labels[0] + count])))
        if least > 1:
            neighbors.append(_neighbors(labels) + count)
        last = labels[-1] + count
        parts.append(part)
        count += number
    together = Shapes(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("polygons", "classes", "pixels", "confidence")
        )
    )
    met = np.concatenate(pairs) if pairs else np.zeros((0, 2), np.int64)
    beside = np.concatenate(neighbors) if least > 1 else None
    found = _join(together, met, left_out, beside, least)
    if not smooth:
        return found
    return replace(found, polygons=smooth_coverage(found.polygons, classes.height, classes.width))


def cells(
    classes: RawRaster,
    confidence: RawRaster,
    shape: tuple[int, int],
    cell: tuple[float, float],
    left_out: Sequence[int] = (NODATA,),
) -> Shapes:
    """Turn a map of cells into one rectangle each, cut at the scene's ends.

    Args:
        classes: of the cells.
        confidence: percent.
        shape: rows and columns of the scene.
        cell: rows and columns of the scene that a cell has.
        left_out: values that get no rectangles.
    """
    values = classes.read((0, classes.height))
    rows, columns = np.nonzero(~np.isin(values, left_out))
    boxes = shapely.box(
        columns * cell[1],
        rows * cell[0],
        np.minimum((columns + 1) * cell[1], shape[1]),
        np.minimum((rows + 1) * cell[0], shape[0]),
        ccw=False,
    )
    score = confidence.read((0, classes.height))[rows, columns].astype(float)
    found = values[rows, columns].astype(np.int64)
    return Shapes(boxes, found, np.ones(len(found), np.int64), score)


def frame_of(
    found: Shapes, names: Sequence[str], transform: Affine, crs: CRS | None, pixel: float
) -> geopandas.GeoDataFrame:
    """Return polygons on the map, with their class, area (m², geodesic) and mean confidence.

    Args:
        found: in pixels.
        names: of the classes.
        transform: from pixels to the map.
        crs: of the map; without one, areas are counted in pixels.
        pixel: m² of a pixel.
    """
    placed = shapely.transform(found.polygons, lambda xy: on_map(transform, xy))
    geometry = geopandas.GeoSeries(placed, crs=crs.to_wkt() if crs else None)
    if crs is None:
        area = shapely.area(found.polygons) * pixel
    else:
        # The area of a hole counts against that of its polygon if it runs the other way round.
        globe = shapely.orient_polygons(geometry.to_crs("EPSG:4326").to_numpy())
        area = np.array([GEOD.geometry_area_perimeter(polygon)[0] for polygon in globe])
    return geopandas.GeoDataFrame(
        {
            "class": pandas.Series([names[value] for value in found.classes], dtype="str"),
            "value": found.classes.astype(np.int32),
            "area_m2": np.asarray(area, float).round(3),
            "confidence": (found.confidence / np.maximum(found.pixels, 1) / 100).round(4),
        },
        geometry=geometry,
    )


def _with_neighbors(classes: RawRaster, rows: tuple[int, int]) -> tuple[Bytes, Bytes, Bytes]:
    """The row above, the rows, the row below; beyond the map nodata."""
    nothing = np.full(classes.width, NODATA, np.uint8)
    above = classes.read((rows[0] - 1, rows[0]))[0] if rows[0] else nothing
    below = classes.read((rows[1], rows[1] + 1))[0] if rows[1] < classes.height else nothing
    return above, classes.read(rows), below


def _label(values: Bytes) -> tuple[npt.NDArray[np.int32], int]:
    """Number the connected areas (by edges) of all classes and of nodata, from 0."""
    labels = np.zeros(values.shape, np.int32)
    count = 0
    for value in np.unique(values):
        inside = values == value
        own, number = ndimage.label(inside)
        labels[inside] = own[inside] + (count - 1)
        count += number
    return labels, count


def _polygonize_strip(
    labels: npt.NDArray[np.int32],
    count: int,
    values: Bytes,
    neighbors: tuple[Bytes, Bytes],
    confidence: Bytes,
    top: int,
    tolerance: float,
) -> Shapes:
    """Polygons of all areas of a strip, nodata too, by their number."""
    polygons = np.empty(count, object)
    for geometry, label in shapes(labels):
        polygons[int(label)] = shapely.geometry.shape(geometry)
    polygons = _with_junctions(polygons, _junctions(values, *neighbors))
    if tolerance:
        polygons = shapely.coverage_simplify(polygons, tolerance, simplify_boundary=False)
    flat = labels.ravel()
    pixels = np.bincount(flat, minlength=count)
    confidences = np.bincount(flat, weights=confidence.ravel(), minlength=count)
    first = np.zeros(count, np.int64)
    first[flat] = values.ravel()
    down = shapely.transform(polygons, lambda xy: xy + np.array([0, top]))
    return Shapes(down, first, pixels, confidences.astype(np.float64))


def _junctions(values: Bytes, above: Bytes, below: Bytes) -> Bools:
    """Which corners of pixels, `[H + 1, W + 1]`, all polygons that pass them must have as vertices.

    Those where three or more polygons meet, and along the strip's cuts every corner between
    two columns that differ in either strip.
    """
    padded = np.full((values.shape[0] + 2, values.shape[1] + 2), -1, np.int16)
    padded[1:-1, 1:-1] = values
    padded[0, 1:-1], padded[-1, 1:-1] = above, below
    across = padded[:, 1:] != padded[:, :-1]
    down = padded[1:] != padded[:-1]
    edges = across[1:].astype(np.uint8) + across[:-1] + down[:, 1:].astype(np.uint8) + down[:, :-1]
    found = edges >= 3
    for row in (0, -1):
        found[row] |= across[row] | across[1 if row == 0 else -2]
    return np.asarray(found)


def _with_junctions(polygons: Polygons, junctions: Bools) -> Polygons:
    """Give polygons along pixels' edges a vertex at each junction on their sides.

    GDAL leaves out vertices in a straight side, also where the other side of it has two
    neighbours.
    """
    _, flat, offsets = shapely.to_ragged_array(polygons)
    xy = flat.astype(np.int64)
    step = np.diff(xy, axis=0)
    # From the last vertex of a ring nothing leads on.
    ring_ends = offsets[0][1:] - 1
    length = np.append(np.abs(step).sum(1), 1)
    length[ring_ends] = 1
    first = np.concatenate([[0], np.cumsum(length)])
    owner = np.repeat(np.arange(len(xy)), length)
    along = np.arange(first[-1]) - first[owner]
    direction = np.append(np.sign(step), [[0, 0]], axis=0)
    points = xy[owner] + along[:, None] * direction[owner]
    keep = (along == 0) | junctions[points[:, 1], points[:, 0]]
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    new_rings = kept_before[first[offsets[0]]]
    return np.asarray(
        shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, points[keep].astype(float), (new_rings, offsets[1])
        )
    )


def _neighbors(labels: npt.NDArray[np.integer[Any]]) -> Ints:
    """Return which areas have an edge in common, as pairs of their numbers, `[M, 2]`."""
    found = []
    for one, other in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        differ = one != other
        found.append(np.stack([one[differ], other[differ]], 1))
    return np.unique(np.concatenate(found).astype(np.int64), axis=0)


def _join(
    found: Shapes, pairs: Ints, left_out: Sequence[int], neighbors: Ints | None, least: int
) -> Shapes:
    """Join polygons that continue over cuts, then small ones with others; leave some values out."""
    count = len(found.polygons)
    ones = np.ones(len(pairs), bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    number, group = connected_components(graph, directed=False)
    if neighbors is not None:
        sizes = np.bincount(group, weights=found.pixels, minlength=number).astype(np.int64)
        values = np.zeros(number, np.int64)
        values[group] = found.classes
        beside = group[neighbors].astype(np.int64)
        beside = beside[beside[:, 0] != beside[:, 1]]
        merged, merged_values = merge_small(sizes, values, beside, least, np.array([NODATA]))
        group, number = merged[group], len(merged_values)
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(number + 1))
    first = order[bounds[:-1]]
    polygons = found.polygons[first]
    for index in np.flatnonzero(np.diff(bounds) > 1):
        members = order[bounds[index] : bounds[index + 1]]
        polygons[index] = shapely.union_all(found.polygons[members])
    pixels = np.bincount(group, weights=found.pixels, minlength=number).astype(np.int64)
    confidence = np.bincount(group, weights=found.confidence, minlength=number).astype(np.float64)
    classes = found.classes[first] if neighbors is None else merged_values
    kept = ~np.isin(classes, left_out) & (pixels >= least)
    return Shapes(polygons[kept], classes[kept], pixels[kept], confidence[kept])


def on_map(transform: Affine, xy: Reals) -> Reals:
    """Move places `[..., 2]` from pixels to the map."""
    a, b, c, d, e, f = transform[:6]
    x, y = xy[..., 0], xy[..., 1]
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)
