"""The preview of a map of classes: an opacity, a legend, and of two dates a divider."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from cgeartheye.geo.reader import Bytes
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.preview.page import embed, write_page
from cgeartheye.utils.colors import RGB

_STEP = 4  # percent between two levels of confidence on the page


class LegendEntry(NamedTuple):
    """A class in the legend.

    Attributes:
        name: of the class.
        color: of the class.
        share: of the mapped area, percent.
        area: km².
    """

    name: str
    color: RGB
    share: float
    area: float

    @property
    def shown_area(self) -> str:
        """The area with its unit."""
        if self.area >= 0.1:
            return f"{self.area:,.2f} km²"
        return f"{self.area * 1e6:,.0f} m²"


def write_preview(
    job: MapJob,
    pictures: list[Bytes],
    classes: Bytes,
    legend: Sequence[LegendEntry],
    confidence: Bytes,
) -> None:
    """Write the page; classes that are no finding, such as a background, are clear.

    Args:
        job: the map.
        pictures: of the scene, uint8 `[H, W, 3]`, or of its two dates.
        classes: uint8 `[h, w]` over the same extent; what is not in the legend is clear.
        legend: classes by value.
        confidence: percent, of single pixels in the middles of those of `classes`, uint8 `[h, w]`.

    Raises:
        UserError: it cannot be written.
    """
    colors = np.zeros((256, 4), np.uint8)
    for value, entry in enumerate(legend):
        colors[value] = (*entry.color, 255)
    dates = job.scene.dates
    facts = {
        "clear": job.clear,
        "map": embed(_palette_png(classes, colors), "PNG", optimize=True),
        "confidence": embed(Image.fromarray(_rounded(confidence)), "PNG", optimize=True),
    }
    write_page(job, "rasters.html", pictures, facts, legend=legend, dates=dates)


def _rounded(percent: Bytes) -> Bytes:
    """Percentages in steps of 4, which take half as many bytes."""
    return (percent // _STEP * _STEP + _STEP // 2).clip(0, 100).astype(np.uint8)


def _palette_png(classes: Bytes, colors: Bytes) -> Image.Image:
    image = Image.frombytes("P", classes.shape[::-1], classes.tobytes())
    image.putpalette(colors.tobytes(), "RGBA")
    return image
