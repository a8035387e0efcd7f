"""A small country: its regions, land cover and elevation, and a design of it by a script."""

import sys
from pathlib import Path
from typing import NamedTuple

import geopandas
import numpy as np
import shapely
from affine import Affine
from earth import centers, ground, patches, write

from cgeartheye.jlssd.sampling.design import Inputs, make_design
from cgeartheye.jlssd.sampling.result import SamplingPlan


class Country(NamedTuple):
    """Files of a country and what they hold."""

    regions: Path
    cover: Path
    height: Path
    shapes: dict[str, shapely.Geometry]
    values: np.ndarray
    heights: np.ndarray
    place: Affine
    height_place: Affine

    @property
    def inputs(self) -> Inputs:
        return Inputs(self.regions, (str(self.cover),), (str(self.height),))


def make_country(folder: Path, west: float = 12.0, crs: int = 4326) -> Country:
    """Four regions: two that share a border, one without land cover, one without a cell.

    The elevation lacks a part, the land cover another, and it has a value without a class.
    """
    place = Affine(0.002, 0, west, 0, -0.0015, 47.5)
    height_place = Affine(0.004, 0, west, 0, -0.003, 47.5)
    values = patches(11, 340, 360, side=7)
    values[30:60, 200:260], values[200:205, 60:90] = 0, 99
    lon, lat = centers((170, 180), height_place, 4326)
    heights = ground(lon, lat).astype(np.int16)
    heights[90:110, 20:50] = -9999
    shapes = {
        "Upper": shapely.box(west + 0.05, 47.25, west + 0.66, 47.44),
        "Lower": shapely.Point(west + 0.3, 47.1).buffer(0.16),
        "Afar": shapely.box(west + 4, 47.0, west + 4.05, 47.03),
        "Tiny": shapely.box(west + 0.3, 47.2, west + 0.3001, 47.2001),
    }
    frame = geopandas.GeoDataFrame({"Name": list(shapes)}, geometry=list(shapes.values()), crs=4326)
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_crs(crs).to_file(folder / "regions.gpkg")
    return Country(
        folder / "regions.gpkg",
        write(folder / "cover.tif", values, place, 4326, nodata=0),
        write(folder / "height.tif", heights, height_place, 4326, nodata=-9999),
        shapes,
        values,
        heights,
        place,
        height_place,
    )


if __name__ == "__main__":
    from cgeartheye.jlssd.sampling import cells

    cells._ROWS, cells._COLUMNS = 8, 24  # many blocks, so that a kill meets some unfinished
    regions, cover, height, out = sys.argv[1:]
    make_design(
        Inputs(Path(regions), (cover,), (height,)),
        SamplingPlan(300, 150.0, 5),
        Path(out),
        workers=1,
    )
