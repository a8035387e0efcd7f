"""Results as a notebook shows them: small pictures, tables, and matplotlib's axes."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Color = tuple[int, int, int]

SHOWN = 8  # images of a gallery
_SIDE = 220  # pixels of the longer side of a picture in a gallery


def gallery(pictures: Iterable[tuple[Pixels, str]]) -> str:
    """Return pictures `[H, W, 3]` with captions below as HTML, side by side."""
    figures = "".join(
        '<figure style="display: inline-block; margin: 4px; vertical-align: top">'
        f'<img src="{_data_uri(pixels)}" alt=""><figcaption style="font-size: smaller">'
        f"{html.escape(caption)}</figcaption></figure>"
        for pixels, caption in pictures
    )
    return f"<div>{figures}</div>"


def table(rows: Mapping[str, object]) -> str:
    """Return names and values as an HTML table of two columns."""
    body = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{body}</table>"


def swatch(color: Sequence[int]) -> str:
    """Return a small square of a color as HTML."""
    return (
        '<span style="display: inline-block; width: 1em; height: 1em; '
        f'background: rgb({color[0]}, {color[1]}, {color[2]})"></span>'
    )


def axes_or_new(ax: "Axes | None") -> "Axes":
    """Return axes to draw into: those given, or those of a new figure of pyplot's.

    A figure of pyplot's is what a notebook shows at the end of a cell.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def show_pictures(pictures: Sequence[tuple[Pixels, str]]) -> "list[Axes]":
    """Draw pictures with their captions above, up to four a row, into a new figure of pyplot's."""
    import matplotlib.pyplot as plt

    columns = min(4, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    size = (3 * columns, 3.2 * rows)
    grid = plt.subplots(rows, columns, squeeze=False, figsize=size, layout="constrained")[1]
    for ax in grid.flat:
        ax.axis("off")
    used: list[Axes] = list(grid.flat)[: len(pictures)]
    for ax, (pixels, caption) in zip(used, pictures, strict=True):
        ax.imshow(pixels)
        ax.set_title(caption, fontsize="small")
    return used


def _data_uri(pixels: Pixels) -> str:
    image = Image.fromarray(pixels)
    scale = _SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    stream = io.BytesIO()
    # A notebook keeps every picture: a JPEG has a fifth of the bytes.
    kind = "PNG" if image.mode == "RGBA" else "JPEG"
    image.resize(size, how).save(stream, kind, quality=90)
    data = base64.b64encode(stream.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{data}"
