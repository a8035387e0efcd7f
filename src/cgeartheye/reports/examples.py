"""Tested pictures with the truth and the prediction beside them, for reports of pixels."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cgeartheye.reports.html import Picture, Report

Array = np.ndarray
Color = tuple[int, int, int]

GALLERY = 4  # pictures of a kind
PANEL = 350  # pixels of the longer side of each of a picture's panels
GAP = 6
UNKNOWN: Color = (96, 96, 96)  # what is not labelled


@dataclass(frozen=True)
class Example:
    """Tested example.

    Attributes:
        images: one, or that of each date, uint8 `[H, W, 3]`.
        truth: classes uint8 `[H, W]`, 255 where not labelled.
        predicted: classes uint8 `[H, W]`.
    """

    images: tuple[Array, ...]
    truth: Array
    predicted: Array

    def shrunk(self) -> "Example":
        """Return it with `PANEL` pixels at most."""
        height, width = self.truth.shape
        scale = min(1.0, PANEL / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))

        def resized(values: Array, how: Image.Resampling) -> Array:
            return np.asarray(Image.fromarray(values).resize(size, how))

        return Example(
            tuple(resized(image, Image.Resampling.LANCZOS) for image in self.images),
            resized(self.truth, Image.Resampling.NEAREST),
            resized(self.predicted, Image.Resampling.NEAREST),
        )


def side_by_side(panels: Sequence[Array]) -> Array:
    """Join pictures uint8 `[H, W, 3]` of one size with white gaps."""
    white = np.full((len(panels[0]), GAP, 3), 255, np.uint8)
    return np.concatenate([part for panel in panels for part in (white, panel)][1:], axis=1)


def add_examples(
    report: Report, ious: Array, names: Sequence[str], draw: Callable[[int], Array]
) -> None:
    """Add the worst, typical and best pictures.

    Args:
        report: to add to.
        ious: of each picture, 0..1 `[N]`; NaN where there is nothing to measure.
        names: of the pictures, N of them.
        draw: returns the panels of a picture by its index.
    """

    def drawn(indices: Iterable[int]) -> Iterable[Picture]:
        for index in indices:
            yield Picture(draw(index), f"IoU {100 * ious[index]:.1f}\u00a0%", names[index])

    for kind, indices in worst_typical_best(ious).items():
        report.heading(kind)
        report.pictures(drawn(indices), width=700)


def worst_typical_best(ious: Array) -> dict[str, list[int]]:
    """Return indices of pictures by what they stand for; none twice, none without a figure."""
    order = np.argsort(ious, kind="stable")[: np.count_nonzero(~np.isnan(ious))].tolist()
    number = min(GALLERY, -(-len(order) // 3))
    worst, rest = order[:number], order[number:]
    best, rest = rest[::-1][:number], rest[: max(0, len(rest) - number)]
    middle = max(0, (len(rest) - number) // 2)
    kinds = {"Worst": worst, "Typical": rest[middle:][:number], "Best": best}
    return {kind: indices for kind, indices in kinds.items() if indices}
