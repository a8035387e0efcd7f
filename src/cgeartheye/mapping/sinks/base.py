"""The interface between the rows of windows and the files of a map."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cgeartheye.geo.reader import Bools, Bytes, Span
from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.predictor import WindowPredictions
from cgeartheye.mapping.sinks.writer import Writer

Found = tuple[int, int, bytes]
"""Objects of a window: number of its row in the order of mapping, its number in the row, and
they, packed."""


@dataclass(frozen=True)
class WantedPixels:
    """Which pixels of a rectangle of the scene are to be mapped.

    Attributes:
        bits: uint8 `[rows, n]`, eight columns to a byte.
        top: row of the scene that they begin with.
        left: column.
    """

    bits: Bytes
    top: int
    left: int

    def columns(self, span: Span) -> Bools:
        """Return which of all rows and some columns of the scene are, bool `[rows, columns]`."""
        first, last = span[0] - self.left, span[1] - self.left
        return np.unpackbits(self.bits, axis=-1, count=last)[:, first:].astype(bool)

    def at(self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Tensor:
        """Return which of some pixels are, bool `[n]`; outside of the rectangle none is."""
        y, x = rows - self.top, columns - self.left
        inside = (y >= 0) & (y < len(self.bits)) & (x >= 0) & (x < 8 * self.bits.shape[1])
        y, x = y * inside, x * inside
        bits = self.bits[y, x >> 3] >> (7 - (x & 7)) & 1
        return torch.from_numpy((bits > 0) & inside)


class WindowRow(NamedTuple):
    """A row of windows of a strip of columns.

    Attributes:
        strip: number of the strip.
        number: of the row in it.
        mask: which pixels are to be mapped, by rows of the scene; none: all of them.
    """

    strip: int
    number: int
    mask: Callable[[Span], WantedPixels | None]


class Sink(Protocol):
    """Takes the predictions for a map's windows and makes the files of the map of them.

    Rows of windows come from top to bottom, one strip of columns after the other.
    """

    @property
    def planes(self) -> Sequence[RawRaster]:
        """Unfinished files, which must reach the disk before a row is noted as finished."""

    def begin(self, strip: int) -> None:
        """Begin a strip of columns."""

    def add(self, row: WindowRow, predictions: WindowPredictions, writer: Writer | None) -> None:
        """Take the predictions for a row of windows.

        Args:
            row: the row.
            predictions: made while they are asked for.
            writer: takes what is finished with this row; none: the row is mapped already, and
                predicted again as far as later rows depend on it.
        """

    def take_found(self) -> list[Found]:
        """Hand over the objects that were found since the last call."""

    def finish(self) -> dict[str, Any]:
        """Write the files of the finished map.

        Returns:
            What `map.json` holds, which is written last.

        Raises:
            UserError: a file cannot be written.
        """

    def close(self) -> None:
        """Close the unfinished files."""
