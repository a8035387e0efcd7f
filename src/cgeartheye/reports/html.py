"""A page of HTML in one file, which needs no network and asks for none."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cgeartheye.reports.charts import COLORS
from cgeartheye.utils.io import write_text
from cgeartheye.utils.templates import render

Array = np.ndarray


@dataclass(frozen=True)
class Link:
    """A text that leads to another page.

    Attributes:
        text: what is read.
        target: of the link, relative to the page.
        strong: in bold.
    """

    text: str
    target: str
    strong: bool = False


Cell = str | int | float


@dataclass(frozen=True)
class Picture:
    """A picture of a gallery.

    Attributes:
        pixels: uint8 `[H, W, 3]`.
        caption: what it shows.
        detail: a line in small print.
        good: whether what was predicted for it is right; none: nothing to mark.
    """

    pixels: Array
    caption: str = ""
    detail: str = ""
    good: bool | None = None


class Report:
    """A page that is put together from top to bottom, then written."""

    def __init__(self, title: str, subtitle: str = ""):
        self._title, self._subtitle = title, subtitle
        self._sections: list[str] = []
        self._parts: list[dict[str, Any]] = []

    def figures(self, figures: Mapping[str, str]) -> None:
        """Add figures in large print, by what they are."""
        self._add("figures", values=figures)

    def section(self, title: str, note: str = "") -> None:
        """Begin a section, with a few words on how to read it."""
        self._sections.append(title)
        self._add("section", title=title, note=note, number=len(self._sections))

    def note(self, text: str) -> None:
        """Add a sentence in small print."""
        self._add("note", note=text)

    def warning(self, text: str) -> None:
        """Add a sentence that nobody must miss."""
        self._add("warning", text=text)

    def heading(self, title: str, note: str = "") -> None:
        """Begin a part of a section."""
        self._add("heading", title=title, note=note)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell | Link]],
        bars: Sequence[str] = (),
    ) -> None:
        """Add a table; a click on the name of a column sorts by it.

        Args:
            columns: their names.
            rows: text, counts, and figures, which are shown with two decimals; NaN as a dash.
            bars: columns of figures 0..100 that are also drawn as bars.
        """
        first = rows[0] if rows else [""] * len(columns)
        heads = [{"name": c, "kind": _kind(v)} for c, v in zip(columns, first, strict=True)]
        cells = [[_cell(v, c in bars) for c, v in zip(columns, row, strict=True)] for row in rows]
        self._add("table", columns=heads, rows=cells)

    def charts(self, charts: Mapping[str, str]) -> None:
        """Add charts, SVG markup by caption, side by side where the page is wide."""
        self._add("charts", charts=charts)

    def pictures(self, pictures: Iterable[Picture], width: int = 150) -> None:
        """Add pictures side by side, at least `width` pixels wide, kept with twice as many."""
        self._add("pictures", pictures=[_picture(p, width) for p in pictures], width=width)

    def legend(self, colors: Mapping[str, tuple[int, int, int]]) -> None:
        """Add what colors (red, green, blue) mean, by name."""
        self._add("legend", colors=colors)

    def code(self, title: str, text: str) -> None:
        """Add a text that is folded away."""
        self._add("code", title=title, text=text)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Add short facts by name."""
        self._add("facts", values=facts)

    def write(self, path: Path) -> None:
        """Write the page.

        Args:
            path: of the file.

        Raises:
            UserError: it cannot be written.
        """
        page = render(
            "cgeartheye.reports",
            "report.html",
            title=self._title,
            subtitle=self._subtitle,
            sections=self._sections,
            parts=self._parts,
            colors=COLORS,
        )
        write_text(path, page)

    def _add(self, kind: str, **values: Any) -> None:
        self._parts.append({"kind": kind, **values})


def as_text(value: Cell) -> str:
    """Return a cell as it is read: counts with thousands, figures with two decimals."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else "–" if value != value else f"{value:.2f}"


def _picture(picture: Picture, width: int) -> dict[str, Any]:
    image = Image.fromarray(picture.pixels)
    image.thumbnail((2 * width, 2 * width), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return {
        "data": base64.b64encode(stream.getvalue()).decode(),
        "width": image.width,
        "height": image.height,
        "caption": picture.caption,
        "detail": picture.detail,
        "mark": {True: "right", False: "wrong", None: ""}[picture.good],
    }


def _cell(value: Cell | Link, bar: bool) -> dict[str, Any]:
    if isinstance(value, Link):
        return {"kind": "link", "value": value, "shown": value.text}
    drawn = bar and not isinstance(value, str) and value == value
    share = f"{float(value) / 100:.3f}" if drawn else None
    return {"kind": _kind(value), "value": value, "shown": as_text(value), "share": share}


def _kind(value: Cell | Link) -> str:
    return "text" if isinstance(value, str | Link) else "number"
