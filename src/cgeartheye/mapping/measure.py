"""Objects as polygons on the map, with their size and heading on the ground."""

from collections.abc import Sequence
from typing import NamedTuple

import geopandas
import numpy as np
import pandas
import shapely
import torch

from cgeartheye.boxes import Detections, corners_of, from_horizontal
from cgeartheye.geo.crs import GEOD, WGS84, transformer
from cgeartheye.geo.pair import AnyScene
from cgeartheye.inference.windows import Grid
from cgeartheye.mapping.polygonize import Reals, on_map


class Size(NamedTuple):
    """Sizes of objects on the ground, and their headings.

    Attributes:
        length: metres along the longer axis, `[n]`.
        width: metres along the other.
        heading: of the longer axis, degrees clockwise from true north, 0..180; none if the scene
            is not georeferenced.
    """

    length: Reals
    width: Reals
    heading: Reals | None


def frame_of(
    preds: Detections, names: Sequence[str], scene: AnyScene, grid: Grid
) -> geopandas.GeoDataFrame:
    """Return objects as polygons on the map, with their class, score and size on the ground.

    Args:
        preds: in pixels of the model's grid.
        names: of the classes.
        scene: that was mapped.
        grid: it was mapped with.
    """
    corners = corners_on_scene(preds, grid)
    size = measure(corners, scene)
    labels = preds.labels.numpy()
    columns = {
        "class": pandas.Series([names[label] for label in labels], dtype="str"),
        "value": labels.astype(np.int32),
        "score": preds.scores.double().numpy().round(4),
        "length_m": size.length.round(3),
        "width_m": size.width.round(3),
    }
    if size.heading is not None and preds.boxes.shape[1] == 5:
        columns["heading"] = size.heading.round(2) % 180
    polygons = shapely.orient_polygons(shapely.polygons(on_map(scene.transform, corners)))
    crs = scene.crs.to_wkt() if scene.crs else None
    return geopandas.GeoDataFrame(columns, geometry=geopandas.GeoSeries(polygons, crs=crs))


def corners_on_scene(preds: Detections, grid: Grid) -> Reals:
    """Return the corners of boxes in pixels of the scene, `[n, 4, 2]`, one after the other."""
    boxes = preds.boxes if preds.boxes.shape[1] == 5 else from_horizontal(preds.boxes)
    scale = grid.columns.scene / grid.columns.model, grid.rows.scene / grid.rows.model
    return np.asarray(corners_of(boxes) * torch.tensor(scale, dtype=torch.float64))


def measure(corners: Reals, scene: AnyScene) -> Size:
    """Measure objects on the ground, along geodesics between the middles of opposite sides.

    Args:
        corners: in pixels of the scene, `[n, 4, 2]`, one after the other.
        scene: that contains them.
    """
    centers = (corners + np.roll(corners, -1, axis=1)) / 2  # 0 and 2, and 1 and 3, are opposite
    if scene.crs is None:
        steps = (centers[:, 2:] - centers[:, :2]) * scene.ground
        sides = np.hypot(steps[..., 0], steps[..., 1])
        return Size(sides.max(axis=1), sides.min(axis=1), None)
    to_globe = transformer(scene.crs, WGS84)
    lon, lat = to_globe.transform(*np.moveaxis(on_map(scene.transform, centers), -1, 0))
    azimuths, _, sides = GEOD.inv(lon[:, :2], lat[:, :2], lon[:, 2:], lat[:, 2:])
    across = sides[:, 0] > sides[:, 1]
    heading = np.where(across, azimuths[:, 0], azimuths[:, 1]) % 180
    return Size(sides.max(axis=1), sides.min(axis=1), heading)
