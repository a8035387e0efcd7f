"""Places of the world as a small picture, in longitude and latitude."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cgeartheye.jlssd.sampling.equal_area_grid import Floats, Ints

Bytes = npt.NDArray[np.uint8]

PAPER = (236, 238, 240)
_SIDE = 1200  # pixels, of the longer side


@dataclass(frozen=True)
class Canvas:
    """A rectangle of the world; where it crosses the antimeridian, longitudes go on beyond 180.

    Attributes:
        west: degrees.
        north: degrees.
        step: degrees of longitude, and of latitude, a pixel.
        height: pixels.
        width: pixels.
    """

    west: float
    north: float
    step: tuple[float, float]
    height: int
    width: int

    def index(self, lon: Floats, lat: Floats) -> Ints:
        """Return which pixel holds each place, counted along the rows."""
        column = ((lon - self.west) % 360 / self.step[0]).astype(np.int64)
        row = ((self.north - lat) / self.step[1]).astype(np.int64)
        column, row = column.clip(0, self.width - 1), row.clip(0, self.height - 1)
        return np.asarray(row * self.width + column)

    def paint(self, counts: Ints, colors: Bytes) -> Bytes:
        """Color every pixel by the most frequent value in it.

        Args:
            counts: of each kind in each pixel, `[height * width, K]`.
            colors: uint8 `[K, 3]`.

        Returns:
            uint8 `[H, W, 3]`, `PAPER` where there is nothing.
        """
        picture = colors[counts.argmax(1)]
        picture[counts.sum(1) == 0] = PAPER
        return np.asarray(picture.reshape(self.height, self.width, 3))

    def enlarged(self, picture: Bytes) -> Bytes:
        """Return a picture with so large pixels that a page shows each."""
        times = max(1, _SIDE // max(self.height, self.width))
        return picture.repeat(times, 0).repeat(times, 1)


def fit(lon: Floats, lat: Floats, cell: float) -> Canvas:
    """Return a canvas that shows all places once, and on which no two cells share many pixels.

    Args:
        lon: degrees, of places.
        lat: degrees.
        cell: degrees of latitude that a cell is high; no pixel is smaller.
    """
    west, width = _shortest_arc(lon, cell)
    south, north = float(lat.min()) - cell, float(lat.max()) + cell
    middle = (south + north) / 2
    stretch = 1 / max(0.2, np.cos(np.radians(middle)))
    step = max(cell, (north - south) / _SIDE, width / stretch / _SIDE)
    return Canvas(
        west,
        north,
        (step * stretch, step),
        max(1, int(np.ceil((north - south) / step))),
        max(1, int(np.ceil(width / step / stretch))),
    )


def _shortest_arc(lon: Floats, cell: float) -> tuple[float, float]:
    """West and width of the shortest arc of longitudes that holds all places."""
    there = np.unique(np.asarray(lon) % 360)
    gaps = np.diff(np.append(there, there[0] + 360))
    widest = int(gaps.argmax())
    west = float(there[(widest + 1) % len(there)])
    margin = 3 * cell
    width = min(360.0, 360 - float(gaps[widest]) + 2 * margin)
    return (west - margin + 180) % 360 - 180, width
