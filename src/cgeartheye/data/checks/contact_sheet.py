"""A contact sheet: a few images of every class on one page."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cgeartheye.config import Color
from cgeartheye.utils.fonts import font_for, writable

THUMBNAIL = 96  # pixels a side

_GAP = 4
_TITLE = 22
_SWATCH = 13
_PAPER, _INK = (255, 255, 255), (20, 20, 20)


def contact_sheet(
    rows: Mapping[str, Sequence[npt.NDArray[np.uint8]]],
    side: int = THUMBNAIL,
    colors: Mapping[str, Color] | None = None,
) -> Image.Image:
    """Draw a strip of thumbnails below the name of each class.

    Args:
        rows: for each class, uint8 `[side, side, 3]`; all classes, if there are no colours.
        side: pixels a side of a thumbnail.
        colors: of all classes, drawn beside their names.

    Returns:
        A page of about 4:3, its strips in columns, read downwards.
    """
    images = max((len(thumbnails) for thumbnails in rows.values()), default=0)
    wide = max(1, images) * (side + _GAP) + 4 * _GAP
    high = _TITLE + side + 2 * _GAP
    columns = max(1, round(math.sqrt(len(rows) * high / wide * 4 / 3)))
    lines = max(1, math.ceil(len(rows) / columns))
    page = Image.new("RGB", (columns * wide, lines * high + 2 * _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    names = list(colors or rows)
    shown = dict(zip(names, writable(names), strict=True))
    for number, (name, thumbnails) in enumerate(rows.items()):
        column, line = divmod(number, lines)
        left, top = column * wide + 2 * _GAP, line * high + _GAP
        if colors:
            box = (left, top + 3, left + _SWATCH, top + 3 + _SWATCH)
            draw.rectangle(box, fill=colors[name], outline=_INK)
        start = left + (_SWATCH + 6 if colors else 0)
        draw.text((start, top), shown[name], fill=_INK, font=font_for(shown[name], 15))
        for place, thumbnail in enumerate(thumbnails):
            at = left + place * (side + _GAP), top + _TITLE
            page.paste(Image.fromarray(thumbnail), at)
    return page
