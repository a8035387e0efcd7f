"""Overlapping windows become one map: weighted sums that fade towards the windows' edges."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cgeartheye.geo.reader import Span
from cgeartheye.inference.windows import ColumnStrip, Grid, InterpWeights, blend_weights

NODATA = 255
_CHUNK = 2**24  # probabilities that are finished at a time


class Finished(NamedTuple):
    """Finished rows of the map.

    Attributes:
        rows: of the map.
        classes: uint8 `[rows, columns]`; `NODATA` where there is no (finite) prediction.
        confidence: of that class, percent, uint8 `[rows, columns]`.
        probabilities: percent, uint8 `[K, rows, columns]`, if asked for.
    """

    rows: Span
    classes: Tensor
    confidence: Tensor
    probabilities: Tensor | None


class Blender:
    """Sums of one band of columns; it holds the rows of one row of windows, whatever the scene.

    Rows of windows are added from top to bottom: `begin`, `add` as often as needed, `finish`.
    """

    def __init__(
        self, grid: Grid, band: ColumnStrip, classes: int, device: torch.device, probabilities: bool
    ):
        """Start a band.

        Args:
            grid: of the scene.
            band: of the grid.
            classes: how many.
            device: where predictions come from.
            probabilities: whether those of all classes are handed on.
        """
        side = grid.window
        width = max(side, band.model[1] - band.model[0])
        # A row more than a window has: interpolation between two rows of windows needs it.
        self._sums = torch.zeros(classes, side + 1, width, device=device)
        self._weights = torch.zeros(side + 1, width, device=device)
        ramp = torch.from_numpy(blend_weights(side, grid.overlap)).to(device)
        self._fade = ramp[:, None] * ramp
        self._grid, self._band, self._probabilities = grid, band, probabilities
        self._top = self._end = -1  # rows of the model's grid that are held; end: of any sums

    def begin(self, row: int) -> None:
        """Make place for windows that start at this row of the model's grid."""
        if self._end > self._top:  # else all is 0: large scenes may be empty in large part
            gone = min(row - 1 - self._top, len(self._weights))
            for held in (self._sums, self._weights):
                kept = held[..., gone:, :].clone()
                held.zero_()
                held[..., : kept.shape[-2], :] = kept
        self._top = row - 1
        self._end = max(self._end, self._top)

    def add(self, probabilities: Tensor, lefts: Sequence[int]) -> None:
        """Add predictions `[B, K, S, S]` of windows that start at these columns."""
        side = self._grid.window
        self._end = self._top + 1 + side
        for window, left in zip(probabilities, lefts, strict=True):
            at = left - self._band.model[0]
            self._sums[:, 1:, at : at + side].addcmul_(window, self._fade)
            self._weights[1:, at : at + side] += self._fade

    def finish(self, start: int, end: int) -> Iterator[Finished]:
        """Return the classes of these rows; see `blended`."""
        for rows, means in self.blended(start, end):
            if means is None:
                yield self._nothing(rows)
            else:
                yield argmax_classes(rows, means, self._probabilities)

    def blended(self, start: int, end: int) -> Iterator[tuple[Span, Tensor | None]]:
        """Return these rows of the scene, a few at a time; no more windows will touch them.

        Yields:
            Rows, and the weighted means `[K, rows, columns]` of what was added, 0 where nothing
            was; none if that is everywhere.
        """
        first, last = self._band.scene
        width = max(last - first, self._weights.shape[1])
        step = max(1, _CHUNK // (len(self._sums) * width))
        for top in range(start, end, step):
            rows = top, min(top + step, end)
            if int(self._grid.rows.taps((top, top + 1)).low[0]) >= self._end:
                yield rows, None
            else:
                yield rows, self._resampled(rows)

    def _nothing(self, rows: Span) -> Finished:
        shape = rows[1] - rows[0], self._band.scene[1] - self._band.scene[0]
        none = torch.zeros(shape, dtype=torch.uint8)
        every = none.expand(len(self._sums), *shape).clone() if self._probabilities else None
        return Finished(rows, torch.full_like(none, NODATA), none, every)

    def _resampled(self, rows: Span) -> Tensor:
        """Probabilities `[K, rows, columns]` on the scene's grid, 0 where no window was added."""
        assert self._top is not None
        down, across = self._grid.rows.taps(rows), self._grid.columns.taps(self._band.scene)
        top, left = self._top, self._band.model[0]
        if not self._grid.resampled:
            inside = slice(int(across.low[0]) - left, int(across.low[-1]) + 1 - left)
            lines = slice(rows[0] - top, rows[1] - top)
            weights = self._weights[lines, inside]
            return self._sums[:, lines, inside] / weights.where(weights > 0, 1.0)
        return self._interpolate(down, across, top, left)

    def _interpolate(
        self, down: InterpWeights, across: InterpWeights, top: int, left: int
    ) -> Tensor:
        device = self._sums.device
        t_down, t_across = (torch.from_numpy(t.weight).to(device) for t in (down, across))
        upper, lower = (self._normalized(torch.from_numpy(t - top)) for t in (down.low, down.high))
        rows = upper.lerp_(lower, t_down[:, None])
        low, high = (torch.from_numpy(t - left).to(device) for t in (across.low, across.high))
        return rows[..., low].lerp_(rows[..., high], t_across)

    def _normalized(self, rows: Tensor) -> Tensor:
        rows = rows.to(self._sums.device)
        weights = self._weights[rows]
        return self._sums[:, rows].div_(weights.where(weights > 0, 1.0))


def argmax_classes(rows: Span, probabilities: Tensor, keep: bool) -> Finished:
    """Find the best class of each pixel.

    Args:
        rows: of the map.
        probabilities: `[K, rows, columns]`; 0 or not finite where there is no prediction.
        keep: whether the probabilities are handed on.
    """
    best, classes = probabilities.max(dim=0)
    known = (best > 0) & (best < torch.inf)  # false for NaN
    classes = classes.to(torch.uint8).masked_fill_(~known, NODATA)
    return Finished(rows, classes, _percent(best), _percent(probabilities) if keep else None)


def _percent(share: Tensor) -> Tensor:
    return (share * 100).round_().to(torch.uint8)
