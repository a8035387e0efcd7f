"""The mosaic of a season, and what it shows at a place on that place's own grid."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from cgeartheye.geo.crs import WGS84, utm_epsg
from cgeartheye.geo.georeference import georeference_of
from cgeartheye.geo.raster_writer import GDAL_ERRORS
from cgeartheye.geo.reader import Bools, Bytes, Scene, open_scene
from cgeartheye.geo.vrt import find_rasters
from cgeartheye.geo.warp import PixelGrid, pixel_grid_at, turn_of, turns, warp_to
from cgeartheye.jlssd.sampling.rasters import is_of_gdal
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

_NAMED = 5  # of the rasters that cannot be used


class ChipGrid(NamedTuple):
    """The pixels of a chip.

    Attributes:
        crs: `EPSG:32650`, the UTM zone of the place or, at the poles, UPS.
        left: of the first column, metres; a multiple of the size of a pixel, like `top`, so that
            mosaics in that system and of that size are not resampled.
        top: of the first row.
        gsd: m/px.
        size: pixels a side.
    """

    crs: str
    left: float
    top: float
    gsd: float
    size: int

    @property
    def grid(self) -> PixelGrid:
        """Its pixels on the map."""
        place = Affine(self.gsd, 0, self.left, 0, -self.gsd, self.top)
        return PixelGrid(place, CRS.from_user_input(self.crs))


def chip_grid_at(lon: float, lat: float, size: int, gsd: float) -> ChipGrid:
    """Return the pixels around a place: for all seasons the same.

    Args:
        lon: degrees.
        lat: degrees.
        size: pixels a side.
        gsd: m/px.
    """
    crs = f"EPSG:{utm_epsg(lon, lat)}"
    x, y = PixelGrid(Affine.identity(), WGS84).to(
        PixelGrid(Affine.identity(), CRS.from_user_input(crs)), np.array([lon]), np.array([lat])
    )
    left, top = (round(float(v[0]) / gsd + s * size / 2) * gsd for v, s in ((x, -1), (y, 1)))
    return ChipGrid(crs, left, top, gsd, size)


@dataclass(frozen=True)
class Mosaic:
    """The pictures of a season.

    Attributes:
        season: its name.
        name: of its first file, for messages.
        layers: files on one grid, by grid; where several have data, the last is seen.
        stretches: of each layer, values that become 0 and 255; none for 8 bits.
        bands: counted from 1, that are red, green and blue.
    """

    season: str
    name: str
    layers: tuple[tuple[Path, ...], ...]
    stretches: tuple[tuple[float, float] | None, ...]
    bands: tuple[int, int, int]

    def look(self, chip_grid: ChipGrid) -> tuple[Bytes, Bools] | None:
        """Return pixels uint8 `[size, size, 3]` and which have data; none if it is elsewhere.

        Raises:
            UserError: it cannot be read.
        """
        pixels = np.zeros((3, chip_grid.size, chip_grid.size), np.uint8)
        valid = np.zeros((chip_grid.size, chip_grid.size), bool)
        reached = False
        for scene in self._scenes:
            if valid.all() or not _reaches(scene, chip_grid):
                continue
            reached = True
            onto = warp_to(scene, chip_grid.grid, (chip_grid.size / 2, chip_grid.size / 2))
            more, there = onto.read((0, chip_grid.size), (0, chip_grid.size))
            fresh = there & ~valid
            pixels[:, fresh] = more[:, fresh]
            valid |= there
        return (np.ascontiguousarray(pixels.transpose(1, 2, 0)), valid) if reached else None

    @cached_property
    def _scenes(self) -> list[Scene]:
        layers = zip(self.layers, self.stretches, strict=True)
        return [open_scene(files, self.bands, stretch) for files, stretch in reversed(list(layers))]


def open_mosaic(
    season: str, inputs: Sequence[str], folder: Path, bands: tuple[int, int, int] = (1, 2, 3)
) -> Mosaic:
    """Look at the rasters of a season.

    Args:
        season: its name.
        inputs: files, folders, or any paths of GDAL. They need not be in one CRS.
        folder: where the way to a path of GDAL is kept, as a small virtual raster.
        bands: counted from 1, that are red, green and blue.

    Raises:
        UserError: rasters that are missing, cannot be opened, or have no CRS.
    """
    paths: list[Path] = []
    for number, path in enumerate(inputs):
        if is_of_gdal(path):
            paths.append(_linked(path, folder / f"{season}-{number}.vrt"))
        else:
            paths += find_rasters([Path(path)])
    layers: dict[object, list[Path]] = {}
    problems: list[str] = []
    for one in paths:
        try:
            layers.setdefault(_grid_of(one), []).append(one)
        except UserError as error:
            problems.append(str(error))
    if problems:
        many = f"of {len(paths):,} rasters of {season} {len(problems):,} cannot be used: "
        named = "; ".join(problems[:_NAMED]) + ("; ..." if len(problems) > _NAMED else "")
        raise UserError(many * (len(problems) > 1) + named)
    scenes = [open_scene(files, bands) for files in layers.values()]
    return Mosaic(
        season,
        inputs[0] if len(inputs) == 1 else f"{inputs[0]} and {len(inputs) - 1} more",
        tuple(tuple(files) for files in layers.values()),
        tuple(scene.stretch for scene in scenes),
        bands,
    )


def _linked(path: str, link: Path) -> Path:
    """Write a virtual raster that leads to a path of GDAL, for those who take files."""
    try:
        file = rasterio.open(path)
    except RasterioError as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"{path} cannot be opened as a raster: {reason}") from error
    with file, replacing(link, errors=GDAL_ERRORS) as temporary:
        rasterio.shutil.copy(file, temporary, driver="VRT")
    return link


def _grid_of(path: Path) -> object:
    """Return the properties that files of one layer share."""
    try:
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(path) as file,
        ):
            transform, crs = georeference_of(file)
            if crs is None:
                raise UserError(
                    f"{path} has no CRS, so no place on Earth: name it with "
                    "gdal_edit.py -a_srs EPSG:CODE"
                )
            a, b, _, d, e, _ = transform[:6]
            # Rounded more finely than pixels of one mosaic may differ.
            return crs.to_wkt(), file.dtypes, *(f"{step:.8g}" for step in (a, b, d, e))
    except (RasterioError, OSError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"{path} cannot be opened as a raster: {reason}") from error


def _reaches(scene: Scene, chip_grid: ChipGrid) -> bool:
    """Return whether a scene's rectangle holds any of a lattice of places of the chip."""
    x, y = np.meshgrid(*[np.linspace(0, chip_grid.size, 9)] * 2)
    x, y = chip_grid.grid.to(pixel_grid_at(scene), x.ravel(), y.ravel())
    across = [(x + shift >= 0) & (x + shift <= scene.width) for shift in turns(turn_of(scene))]
    return bool((np.any(across, axis=0) & (y >= 0) & (y <= scene.height)).any())
