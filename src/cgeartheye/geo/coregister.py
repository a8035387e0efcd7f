"""By how much the second of two dates is displaced, measured on squares of the ground."""

from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from cgeartheye.geo.phase_correlation import TRUSTED, phase_shift
from cgeartheye.geo.reader import Bools, Bytes, Span

Floats = npt.NDArray[np.float64]

_LARGEST, _SMALLEST = 256, 64  # pixels a side of a square
_COUNT = 6  # squares along a side, at most
_KNOWN = 0.95  # share of a square that must have data
_NEAR = 1.0  # pixels from the median at which a square still agrees
_MOST = 0.5  # share of all confidence that must agree
_FEWEST = 3  # squares that must agree
_SMALL = 0.1  # pixels that are not worth an interpolation


class Pair(Protocol):
    """Two dates on one grid, of which the second can be moved."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def read(self, rows: Span, columns: Span) -> tuple[Bytes, Bools | None]:
        """Read both dates, `[6, rows, columns]`, and where both have data."""

    def shifted(self, rows: float, columns: float) -> Self:
        """Return the pair with the second date moved up and to the left by so many pixels."""


@dataclass(frozen=True)
class Registration:
    """Measured shift between two dates.

    Attributes:
        rows: pixels of the first date by which the second one is further down.
        columns: pixels of the first date by which it is further to the right.
        squares: that were measured.
        agreed: of these, those within a pixel of the result.
        reliable: whether enough agreed, or all of them together are sure.
        together: whether the squares did not agree, and all were measured as one.
    """

    rows: float
    columns: float
    squares: int
    agreed: int
    reliable: bool
    together: bool = False

    @property
    def applied(self) -> bool:
        """Return whether the second date is moved back: the shift is large and reliable enough."""
        return self.reliable and max(abs(self.rows), abs(self.columns)) >= _SMALL

    def facts(self, ground: tuple[float, float]) -> dict[str, Any]:
        """Return it for `map.json`.

        Args:
            ground: metres from one column, and from one row, to the next.
        """
        return {
            "applied": self.applied,
            "rows": self.rows,
            "columns": self.columns,
            "metres_down": round(self.rows * ground[1], 3),
            "metres_right": round(self.columns * ground[0], 3),
            "squares": self.squares,
            "squares_that_agree": self.agreed,
            "measured_together": self.together,
        }

    def sentence(self, ground: tuple[float, float]) -> str:
        """Return the shift as a sentence; see `facts`."""
        agree = f"{self.agreed} of {self.squares} squares agree"
        if self.together:
            agree = f"{self.squares} squares measured together"
        if not self.reliable:
            return f"co-registration skipped: no reliable shift found ({agree})"
        size = f"{self.rows:+.2f} rows, {self.columns:+.2f} columns"
        meters = np.hypot(self.rows * ground[1], self.columns * ground[0])
        does = "moved back" if self.applied else "left as it is"
        return f"the second date is off by {size} ({meters:.2f} m): {does} ({agree})"


def find_shift(pair: Pair) -> Registration:
    """Measure the displacement of a pair; the same pixels give the same numbers.

    Squares spread over the pair are measured one by one and their median, weighted by their
    confidence, is taken. If they disagree, as with years or seasons between the dates, all are
    correlated as one. Then once more with the second date moved by that much, as a shift is found
    the better the smaller it is.
    """
    first = _measure(pair)
    if not first.reliable:
        return first
    rest = _measure(pair.shifted(first.rows, first.columns))
    return replace(
        rest,
        rows=round(first.rows + rest.rows, 3),
        columns=round(first.columns + rest.columns, 3),
    )


def _measure(pair: Pair) -> Registration:
    dates = [x for square in _squares(pair) if (x := _grays(pair, *square)) is not None]
    if not dates:
        return Registration(0.0, 0.0, 0, 0, False)
    found = [phase_shift(*each) for each in dates]
    shifts = np.array([(shift.rows, shift.columns) for shift in found], float)
    weights = np.array([shift.confidence for shift in found], float)
    rows, columns = (_median(values, weights) for values in shifts.T)
    agree = _near(shifts, rows, columns)
    reliable = bool(agree.sum() >= _FEWEST and weights[agree].sum() > _MOST * weights.sum())
    if together := not reliable and len(dates) >= _FEWEST:
        rows, columns, confidence = phase_shift(*np.stack(dates, axis=1))
        agree, reliable = _near(shifts, rows, columns), confidence >= TRUSTED
    return Registration(
        round(rows, 3),
        round(columns, 3),
        len(found),
        int(agree.sum()),
        reliable,
        together and reliable,
    )


def _near(shifts: Floats, rows: float, columns: float) -> Bools:
    """Which shifts `[N, 2]` agree with another."""
    return np.asarray((np.abs(shifts - (rows, columns)) <= _NEAR).all(axis=1))


def _squares(pair: Pair) -> list[tuple[Span, Span]]:
    """Rows and columns of squares that do not overlap, evenly spread; none if it is too small."""
    side = min(_LARGEST, max(_SMALLEST, min(pair.height, pair.width) // 3))
    starts = [
        np.linspace(0, length - side, min(_COUNT, length // side)).round().astype(int).tolist()
        for length in (pair.height, pair.width)
    ]
    return [((top, top + side), (left, left + side)) for top in starts[0] for left in starts[1]]


def _grays(pair: Pair, rows: Span, columns: Span) -> Floats | None:
    """Both dates of a square, float `[2, H, W]`; none if too much of it has no data."""
    pixels, valid = pair.read(rows, columns)
    if valid is not None and valid.mean() < _KNOWN:
        return None
    gray: Floats = pixels.reshape(2, 3, *pixels.shape[1:]).mean(axis=1, dtype=np.float64)
    if valid is not None:
        # An edge at the same place in both would pull the shift towards zero.
        gray = np.where(valid, gray, gray[:, valid].mean(axis=1)[:, None, None])
    return gray


def _median(values: Floats, weights: Floats) -> float:
    """Return the value with the same weight below and above it."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])
