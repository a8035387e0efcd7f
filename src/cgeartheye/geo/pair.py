"""Two dates of the same ground as one scene of six channels, on the grid of the first."""

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from cgeartheye.geo.coregister import Registration, find_shift
from cgeartheye.geo.reader import Bools, Bytes, Scene, Span, open_scene
from cgeartheye.geo.remote import driver_of
from cgeartheye.geo.vrt import file_signature
from cgeartheye.geo.warp import WarpedScene, footprint, pixel_grid_at, warp_to
from cgeartheye.utils.console import log_info, warn
from cgeartheye.utils.errors import UserError


@dataclass(frozen=True)
class PairScene:
    """Area that two dates both cover, with the interface of a `Scene`.

    It has data where both dates have, and is 0 in all channels elsewhere.

    Attributes:
        channels: red, green and blue of the first date, then of the second.
        all_valid: never known from headers: the second date may be rotated against the first.
        dates: as they are written beside what changed.
        before: the first date.
        after: the second, on the grid of the pair.
        rows: of the first date.
        columns: of the first date.
        registration: how the second was found displaced, if it was looked for.
    """

    channels: ClassVar[int] = 6
    all_valid: ClassVar[bool] = False

    dates: tuple[str, str]
    before: Scene
    after: WarpedScene
    rows: Span
    columns: Span
    registration: Registration | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """That both consist of."""
        return *self.before.files, *self.after.scene.files

    @property
    def name(self) -> str:
        """Both files, for messages."""
        return f"{self.before.name} and {self.after.scene.name}"

    @property
    def title(self) -> str:
        """Both names without folders."""
        return f"{self.before.title} → {self.after.scene.title}"

    @property
    def height(self) -> int:
        """Rows."""
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.columns[1] - self.columns[0]

    @property
    def transform(self) -> Affine:
        """From pixels to the map."""
        return self.before.transform @ Affine.translation(self.columns[0], self.rows[0])

    @property
    def crs(self) -> CRS | None:
        """Of the first date; none if both are not georeferenced."""
        return self.before.crs

    @property
    def ground(self) -> tuple[float, float]:
        """Metres from one column, and from one row, to the next."""
        return self.before.ground

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the blocks that the first date is stored in."""
        return self.before.block

    @property
    def identity(self) -> dict[str, Any]:
        """Return values that distinguish its pixels and dates from others', for JSON."""
        found = self.registration
        return {
            "before": file_signature(self.before.files),
            "after": file_signature(self.after.scene.files),
            "dates": self.dates,
            "shift": (found.rows, found.columns) if found and found.applied else (0.0, 0.0),
        }

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts of the dates, for JSON."""
        dates = [
            {
                "date": day,
                "width": scene.width,
                "height": scene.height,
                "crs": scene.crs.to_string() if scene.crs else None,
                "transform": list(scene.transform[:6]),
                "metres_a_pixel": scene.ground,
                **scene.facts,
            }
            for day, scene in zip(self.dates, (self.before, self.after.scene), strict=True)
        ]
        found = self.registration
        return {"dates": dates, "registration": found.facts(self.ground) if found else None}

    def read(self, rows: Span, columns: Span) -> tuple[Bytes, Bools | None]:
        """Read a rectangle; what is read of a pixel does not depend on the rectangle.

        Returns:
            uint8 `[6, rows, columns]`; and where both dates have data, bool `[rows, columns]`, or
            none if everywhere.

        Raises:
            UserError: a date cannot be read; the sentence names it.
        """
        top, left = self.rows[0], self.columns[0]
        before, known = self.before.read(
            (rows[0] + top, rows[1] + top), (columns[0] + left, columns[1] + left)
        )
        after, valid = self.after.read(rows, columns)
        if known is not None:
            valid &= known
        pixels = np.concatenate([before, after])
        if valid.all():
            return pixels, None
        return pixels * valid, valid

    def coarser(self, rows: int, columns: int) -> Self:
        """Return itself: overviews of two grids are not aligned."""
        return self

    def shifted(self, rows: float, columns: float) -> Self:
        """Return it with the second date moved up and to the left by so many pixels."""
        grid = self.after.grid
        transform = grid.transform @ Affine.translation(columns, rows)
        return replace(self, after=replace(self.after, grid=grid._replace(transform=transform)))


AnyScene = Scene | PairScene

_ANY_DAY = re.compile(r"(?<!\d)((?:19|20)\d{2})([-_.:]?)(\d{2})\2(\d{2})(?![\d])")
_DAY = re.compile(r"[12]\d{3}-\d\d-\d\d")


def open_pair(
    before: Sequence[Path],
    after: Sequence[Path],
    bands: tuple[int, int, int] = (1, 2, 3),
    stretch: tuple[float, float] | None = None,
    crs: str | None = None,
    ground: float | None = None,
    dates: tuple[str, str] | None = None,
    registered: bool = False,
    dem: str | None = None,
) -> PairScene:
    """Open two dates, of any grids, as one scene: see `open_scene`, whose options hold for both.

    Args:
        before: the first date: a raster, or several and folders of them as one mosaic.
        after: the second date, in the same forms.
        bands: counted from 1, that are red, green and blue.
        stretch: values that become 0 and 255; none: those of each date by itself.
        crs: of a date that names none.
        ground: m/px, of dates that are not georeferenced.
        dates: what to call them; none: the date in a file's tags, or else its name.
        registered: measure how the second is displaced against the first, and move it back.
        dem: of dates with RPCs: heights; see `open_scene`.

    Raises:
        UserError: what `open_scene` raises, the dates do not overlap, one alone is
            georeferenced, or neither is and their sizes differ.
    """
    first, second = (
        open_scene(inputs, bands, stretch, crs, ground, dem) for inputs in (before, after)
    )
    rows, columns = _common(first, second)
    grid = pixel_grid_at(first)
    grid = grid._replace(transform=grid.transform @ Affine.translation(columns[0], rows[0]))
    middle = (columns[1] - columns[0]) / 2, (rows[1] - rows[0]) / 2
    names = dates or (_date(first), _date(second))
    _warn_of_doubts(first, second, names)
    pair = PairScene(names, first, warp_to(second, grid, middle), rows, columns)
    if not registered:
        return pair
    found = find_shift(pair)
    (log_info if found.reliable else warn)(found.sentence(pair.ground))
    if found.applied:
        pair = pair.shifted(found.rows, found.columns)
    return replace(pair, registration=found)


def _common(first: Scene, second: Scene) -> tuple[Span, Span]:
    """The first's rows and columns around all pixels whose middle the second covers."""
    if (first.crs is None) != (second.crs is None):
        lost, placed = (first, second) if first.crs is None else (second, first)
        raise UserError(
            f"{lost.name} is not georeferenced but {placed.name} is: name its CRS with --crs "
            "EPSG:CODE"
        )
    sizes = [(scene.width, scene.height) for scene in (first, second)]
    if first.crs is None and sizes[0] != sizes[1]:
        (w, h), (wide, high) = sizes
        raise UserError(
            f"{first.name} has {w} x {h} pixels and {second.name} {wide} x {high}: without "
            "georeferencing both dates must have the same size"
        )
    try:
        covered = footprint(second, pixel_grid_at(first))
    except ProjError as error:
        raise UserError(
            f"there is no transformation from the CRS of {second.name} to that of {first.name}: "
            "warp one to the other with gdalwarp -t_srs"
        ) from error
    shared = shapely.box(0, 0, first.width, first.height).intersection(covered)
    left, top, right, bottom = shared.bounds if not shared.is_empty else (0.0,) * 4
    # A pixel counts if its middle does: what is off by a millionth adds no row.
    columns, rows = (
        (math.ceil(low - 0.5), math.floor(high - 0.5) + 1)
        for low, high in ((left, right), (top, bottom))
    )
    if columns[0] >= columns[1] or rows[0] >= rows[1]:
        raise UserError(
            f"{first.name} and {second.name} do not overlap: name two scenes of the same place"
        )
    return rows, columns


def _warn_of_doubts(first: Scene, second: Scene, dates: tuple[str, str]) -> None:
    """Warn of what may be a mistake."""
    if [path.resolve() for path in first.files] == [path.resolve() for path in second.files]:
        warn(f"both dates are {first.name}, in which nothing can have changed: check the paths")
    elif all(map(is_day, dates)) and dates[0] > dates[1]:
        warn(f"the first date, {dates[0]}, is later than the second, {dates[1]}: check their order")


def _date(scene: Scene) -> str:
    """The day that the scene was taken, or else the name of its (first) file."""
    return day_of(scene) or scene.files[0].stem


def day_of(scene: Scene) -> str | None:
    """Return the day in the tags of the (first) file, or in its name, in ISO 8601; none: neither.

    Args:
        scene: of one date.
    """
    with rasterio.open(scene.files[0], driver=driver_of(scene.files[0])) as file:
        taken = str(file.tags().get("TIFFTAG_DATETIME", ""))
    return _day_in(taken) or _day_in(scene.files[0].stem)


def is_day(text: str) -> bool:
    """Return whether a text is a day in ISO 8601."""
    return _DAY.fullmatch(text) is not None


def _day_in(text: str) -> str | None:
    """The first day in a text, `20240513`, `2024-05-13`, `2024_05_13` or `2024:05:13`, as ISO."""
    for year, _, month, day in _ANY_DAY.findall(text):
        with contextlib.suppress(ValueError):
            return date(int(year), int(month), int(day)).isoformat()
    return None
