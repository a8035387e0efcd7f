"""A page of HTML in one file, which needs no network and asks for none."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cgeartheye.reports.charts import COLORS
from cgeartheye.utils.io import write_text

Array = np.ndarray
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
        self._parts: list[str] = []

    def figures(self, figures: Mapping[str, str]) -> None:
        """Add figures in large print, by what they are."""
        self._define("figures", figures)

    def section(self, title: str, note: str = "") -> None:
        """Begin a section, with a few words on how to read it."""
        self._sections.append(title)
        self._parts.append(f'<h2 id="section-{len(self._sections)}">{_text(title)}</h2>')
        self._note(note)

    def heading(self, title: str, note: str = "") -> None:
        """Begin a part of a section."""
        self._parts.append(f"<h3>{_text(title)}</h3>")
        self._note(note)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[Cell]], bars: Sequence[str] = ()
    ) -> None:
        """Add a table; a click on the name of a column sorts by it.

        Args:
            columns: their names.
            rows: one or more of text, counts, and figures, which are shown with two decimals; NaN
                as a dash.
            bars: columns of figures 0..100 that are also drawn as bars.
        """
        kinds = ["text" if isinstance(value, str) else "number" for value in rows[0]]
        head = "".join(
            f'<th scope="col" class="{kind}"><button>{_text(column)}</button></th>'
            for column, kind in zip(columns, kinds, strict=True)
        )
        body = "".join(
            f"<tr>{''.join(_cell(v, c in bars) for c, v in zip(columns, row, strict=True))}</tr>"
            for row in rows
        )
        self._parts.append(
            f'<div class="wide table"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def charts(self, charts: Mapping[str, str]) -> None:
        """Add charts, SVG markup by caption, side by side where the page is wide."""
        drawn = "".join(
            f'<figure class="chart"><figcaption>{_text(caption)}</figcaption>'
            f'<div class="wide" role="img" aria-label="{_text(caption)}">{svg}</div></figure>'
            for caption, svg in charts.items()
        )
        self._parts.append(f'<div class="charts">{drawn}</div>')

    def pictures(self, pictures: Iterable[Picture], width: int = 150) -> None:
        """Add pictures side by side, at least `width` pixels wide, kept with twice as many."""
        figures = "".join(_figure(picture, width) for picture in pictures)
        self._parts.append(f'<div class="pictures" style="--least: {width}px">{figures}</div>')

    def legend(self, colors: Mapping[str, tuple[int, int, int]]) -> None:
        """Add what colours (red, green, blue) mean, by name."""
        items = (
            f'<li><span style="background: rgb{color}"></span>{_text(name)}</li>'
            for name, color in colors.items()
        )
        self._parts.append(f'<ul class="legend">{"".join(items)}</ul>')

    def code(self, title: str, text: str) -> None:
        """Add a text that is folded away."""
        self._parts.append(
            f"<details><summary>{_text(title)}</summary><pre>{_text(text)}</pre></details>"
        )

    def facts(self, facts: Mapping[str, str]) -> None:
        """Add short facts by name."""
        self._define("facts", facts)

    def write(self, path: Path) -> None:
        """Write the page.

        Raises:
            UserError: it cannot be written.
        """
        links = "".join(
            f'<a href="#section-{number}">{_text(title)}</a>'
            for number, title in enumerate(self._sections, start=1)
        )
        light, dark = (
            " ".join(f"--{name}: {pair[shade]};" for name, pair in COLORS.items())
            for shade in (0, 1)
        )
        when_dark = "@media (prefers-color-scheme: dark)"
        colors = f":root {{ {light} }}\n{when_dark} {{ :root {{ {dark} }} }}"
        head = f"<header><h1>{_text(self._title)}</h1><p>{_text(self._subtitle)}</p></header>"
        write_text(
            path,
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{_NO_NETWORK}\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_text(self._title)}</title>\n<style>\n{colors}{_STYLE}</style>\n</head>\n"
            f'<body>\n<nav aria-label="Sections">{links}</nav>\n<main>\n{head}\n'
            + "\n".join(self._parts)
            + f"\n</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n",
        )

    def _note(self, note: str) -> None:
        if note:
            self._parts.append(f'<p class="note">{_text(note)}</p>')

    def _define(self, kind: str, values: Mapping[str, str]) -> None:
        items = (f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in values.items())
        self._parts.append(f'<dl class="{kind}">{"".join(items)}</dl>')


def as_text(value: Cell) -> str:
    """Return a cell as it is read: counts with thousands, figures with two decimals."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else "–" if value != value else f"{value:.2f}"


def _figure(picture: Picture, width: int) -> str:
    image = Image.fromarray(picture.pixels)
    image.thumbnail((2 * width, 2 * width), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    data = base64.b64encode(stream.getvalue()).decode()
    mark = {True: ' class="right"', False: ' class="wrong"', None: ""}[picture.good]
    # A long path breaks at its folders.
    detail = f"<small>{_text(picture.detail).replace('/', '/<wbr>')}</small>"
    caption = f"<figcaption>{_text(picture.caption)}{detail}</figcaption>"
    return (
        f'<figure{mark}><img src="data:image/jpeg;base64,{data}" alt="{_text(picture.caption)}" '
        f'width="{image.width}" height="{image.height}">{caption if picture.caption else ""}'
        "</figure>"
    )


def _cell(value: Cell, bar: bool) -> str:
    shown = _text(as_text(value))
    if isinstance(value, str):
        return f"<td>{shown}</td>"
    length = f' style="--share: {value / 100:.3f}"' if bar and value == value else ""
    kind = "number bar" if length else "number"
    return f'<td class="{kind}" data-value="{value}"{length}>{shown}</td>'


def _text(value: str) -> str:
    return html.escape(value, quote=True)


# The page itself refuses whatever is not in it.
_NO_NETWORK = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
)

_STYLE = """
* { box-sizing: border-box; }
html { color-scheme: light dark; scroll-behavior: smooth; scroll-padding-top: 1.5rem; }
body { display: grid; grid-template-columns: 13rem minmax(0, 1fr); margin: 0; color: var(--ink);
  background: var(--paper); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "Noto Sans", sans-serif; }
main { max-width: 70rem; width: 100%; margin: 0 auto; padding: 2.5rem 2.5rem 5rem; }
nav { position: sticky; top: 0; height: 100vh; padding: 3rem 0 1rem 1.5rem; overflow: auto;
  border-right: 1px solid var(--line); }
nav a { display: block; padding: .3rem .75rem .3rem 0; color: var(--soft); font-size: .9rem;
  text-decoration: none; }
nav a:hover, summary:hover { color: var(--blue); }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em;
  overflow-wrap: anywhere; }
h2 { margin: 3.5rem 0 .4rem; padding-top: 1.1rem; font-size: 1.3rem; letter-spacing: -.01em;
  border-top: 1px solid var(--line); }
h3 { margin: 1.8rem 0 .2rem; font-size: 1rem; }
header p, .note { margin: .2rem 0 1rem; color: var(--soft); max-width: 44rem; }
.note { font-size: .92rem; }
dl, dd, figure { margin: 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.75rem 0; }
.figures div { display: flex; flex-direction: column-reverse; padding: .9rem 1.1rem;
  background: var(--shade); border-radius: .6rem; }
.figures div:first-child dd { color: var(--blue); }
.figures dt { color: var(--soft); font-size: .85rem; line-height: 1.3; }
.figures dd { font-size: 1.65rem; font-weight: 650; line-height: 1.35; letter-spacing: -.02em;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
.table { max-height: 34rem; overflow: auto; width: fit-content; max-width: 100%; margin: .75rem 0;
  border: 1px solid var(--line); border-radius: .6rem; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; }
th { position: sticky; top: 0; padding: 0; background: var(--shade); text-align: left; }
th button { width: 100%; padding: .5rem 1.1rem; border: 0; background: none; color: inherit;
  font: inherit; font-weight: 600; text-align: inherit; white-space: nowrap; cursor: pointer; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
td { padding: .3rem 1.1rem; border-top: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.bar { min-width: 15rem; background: linear-gradient(var(--blue), var(--blue)) 1.1rem 50% /
  calc((100% - 6.5rem) * var(--share)) .5rem no-repeat; }
.charts { display: grid; gap: 1.5rem 2rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.chart svg { display: block; height: auto; overflow: visible; }
.chart svg * { stroke-linejoin: round; }
.chart text { font-family: inherit !important; }
.chart .halo text { paint-order: stroke; stroke: var(--paper); stroke-width: 3.5px; }
figcaption { font-size: .85rem; line-height: 1.4; }
.chart figcaption { margin-bottom: .4rem; color: var(--soft); }
.pictures { display: grid; gap: 1.1rem .9rem; margin: .75rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--least)), 1fr)); }
.pictures img { display: block; width: 100%; height: auto; border-radius: .4rem; }
.pictures figcaption { padding-top: .35rem; overflow-wrap: anywhere; }
.right figcaption::before { content: "\\2713\\00a0"; color: var(--blue); font-weight: 700; }
.wrong figcaption::before { content: "\\2717\\00a0"; color: var(--orange); font-weight: 700; }
.wrong img { outline: 2px solid var(--orange); outline-offset: -2px; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .75rem 0; padding: 0;
  list-style: none; font-size: .85rem; }
.legend span { display: inline-block; width: .9rem; height: .9rem; margin-right: .4rem;
  vertical-align: -.1rem; border: 1px solid var(--line); border-radius: .2rem; }
small { display: block; color: var(--soft); font-size: .75rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr));
  gap: .75rem 2rem; margin: 1rem 0; font-size: .9rem; }
.facts dt { color: var(--soft); font-size: .8rem; }
summary { padding: .4rem 0; cursor: pointer; font-size: .95rem; }
pre { margin: .5rem 0; padding: 1rem 1.2rem; overflow: auto; background: var(--shade);
  border-radius: .6rem; font: .82rem/1.5 ui-monospace, "SF Mono", Consolas, monospace; }
@media (max-width: 60rem) {
  html { scroll-padding-top: 3.5rem; }
  body { display: block; }
  main { padding: 1.5rem 1.1rem 3rem; }
  nav { z-index: 1; display: flex; gap: 1.2rem; height: auto; padding: .6rem 1.1rem;
    background: var(--paper); border: 0; border-bottom: 1px solid var(--line); }
  nav a { padding: .1rem 0; white-space: nowrap; }
  h1 { font-size: 1.5rem; }
  td, th button { padding-left: .6rem; padding-right: .6rem; }
  td.bar { min-width: 8.5rem; background-position: .6rem 50%;
    background-size: calc((100% - 5.2rem) * var(--share)) .5rem; }
  .figures { grid-template-columns: repeat(auto-fit, minmax(7.8rem, 1fr)); }
  .figures dd { font-size: 1.35rem; }
}
@media print { nav { display: none; } body { display: block; } .table { max-height: none; } }
"""

_SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentElement, body = head.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  const value = row => row.cells[head.cellIndex].dataset.value;
  const text = row => row.cells[head.cellIndex].textContent;
  const unknown = row => value(row) === "nan";
  const rows = [...body.rows].sort((a, b) => unknown(a) - unknown(b) || (up ? 1 : -1) *
    (value(a) === undefined ? text(a).localeCompare(text(b)) : value(a) - value(b)));
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows);
};
"""
