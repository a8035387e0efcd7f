"""`report.html`: one file that needs no network, with everything that was measured."""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from cgeartheye.evaluation import panels
from cgeartheye.evaluation.metrics import ClassificationMetrics
from cgeartheye.files import write_text

Array = np.ndarray
Cell = str | int | float

NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_accuracy": "mean class accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error",
}
GALLERY = 10  # pictures of a kind


class Report:
    """A page that is put together from top to bottom, then written."""

    def __init__(self, title: str, subtitle: str):
        self._title, self._subtitle = title, subtitle
        self._parts: list[str] = []
        self._sections: list[str] = []

    def tiles(self, figures: Mapping[str, str]) -> None:
        """Add figures in large print, by what they are."""
        tiles = (f"<div><b>{_text(v)}</b><span>{_text(k)}</span></div>" for k, v in figures.items())
        self._parts.append(f'<div class="tiles">{"".join(tiles)}</div>')

    def section(self, title: str, note: str = "") -> None:
        """Begin a section, with a sentence on what it shows."""
        self._sections.append(title)
        self._parts.append(f'<h2 id="s{len(self._sections)}">{_text(title)}</h2>')
        if note:
            self._parts.append(f'<p class="note">{_text(note)}</p>')

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Add a table of at least one row; a click on a column's name sorts by it."""
        numbers = [not isinstance(cell, str) for cell in rows[0]]
        head = "".join(
            f'<th class="number">{_text(column)}</th>' if number else f"<th>{_text(column)}</th>"
            for column, number in zip(columns, numbers, strict=True)
        )
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
        self._parts.append(
            f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def picture(self, image: bytes, caption: str) -> None:
        """Add one picture: PNG, JPEG or SVG."""
        self._parts.append(_figure(image, caption, "plot"))

    def gallery(self, images: Sequence[tuple[bytes, str, str]], wide: bool = False) -> None:
        """Add small pictures, each with its caption and a mark: good, bad or none."""
        figures = (_figure(image, caption, mark) for image, caption, mark in images)
        kind = "gallery pairs" if wide else "gallery"
        self._parts.append(f'<div class="{kind}">{"".join(figures)}</div>')

    def code(self, title: str, text: str) -> None:
        """Add a text that is folded away."""
        self._parts.append(
            f"<details><summary>{_text(title)}</summary><pre>{_text(text)}</pre></details>"
        )

    def write(self, path: Path) -> None:
        """Write the page.

        Raises:
            UserError: it cannot be written.
        """
        links = "".join(
            f'<a href="#s{number}">{_text(title)}</a>'
            for number, title in enumerate(self._sections, start=1)
        )
        page = _PAGE.format(
            title=_text(self._title),
            subtitle=_text(self._subtitle),
            links=links,
            style=_STYLE,
            script=_SCRIPT,
            body="\n".join(self._parts),
        )
        write_text(path, page)


def scene_report(
    path: Path,
    *,
    title: str,
    classes: Sequence[str],
    metrics: ClassificationMetrics,
    history: Sequence[dict[str, Any]],
    probabilities: Array,
    labels: Array,
    names: Sequence[str],
    load_image: Callable[[int], Array],
    embedding: Array,
    feature_views: Array,
    feature_maps: Array,
    config_yaml: str,
    environment: Mapping[str, str],
) -> None:
    """Write the report of a scene classifier.

    Args:
        path: of the report.
        title: name of the run.
        classes: names by index, K of them.
        metrics: over the N tested images.
        history: records of `metrics.jsonl`; may be empty.
        probabilities: `[N, K]`.
        labels: int `[N]`.
        names: of the images.
        load_image: returns an image by its index, uint8 `[H, W, 3]`.
        embedding: class tokens `[N, C]`.
        feature_views: a few images as the network sees them, uint8 `[B, S, S, 3]`.
        feature_maps: their patch features `[B, C, h, w]`.
        config_yaml: the resolved config.
        environment: versions, device, time.
    """
    figures = metrics.compute()
    report = Report(title, f"Scene classification: {len(labels):,} images, {len(classes)} classes")
    report.tiles({NAMES[name]: f"{value:.2f} %" for name, value in figures.items()})
    if any(r["kind"] == "train" for r in history) and any(r["kind"] == "val" for r in history):
        report.section(
            "Training", "Loss of the training images; accuracy of the validation images."
        )
        report.picture(panels.curves(history, "top1", "top-1 %"), "Loss and accuracy by epoch")

    report.section("Classes", "A click on a column's name sorts by it.")
    rows = metrics.per_class(classes)
    report.picture(
        panels.class_bars(100 * metrics.confusion.recall, classes, "accuracy %"),
        "Accuracy of each class, the worst first",
    )
    report.table(list(rows[0]), [list(row.values()) for row in rows])

    report.section("Confusions", "Each row sums to all images of a true class.")
    counts = metrics.confusion.counts.numpy()
    report.picture(panels.confusion_matrix(counts, classes), "Confusion matrix")
    worst = _confused_pairs(counts, classes)
    if worst:
        report.table(["true class", "taken for", "images", "share %"], worst)

    report.section(
        "Calibration",
        "Where the bars meet the dashed line, a score of 80 % is right in 80 % of the cases.",
    )
    report.picture(panels.reliability(metrics), "Accuracy by confidence")

    predicted, score = probabilities.argmax(1), probabilities.max(1)
    right = predicted == labels

    def gallery(indices: Array) -> None:
        report.gallery(
            [
                (
                    panels.picture(load_image(int(i))),
                    f"{classes[predicted[i]]} {score[i]:.0%}"
                    + ("" if right[i] else f", is {classes[labels[i]]}")
                    + f"\n{names[i]}",
                    "good" if right[i] else "bad",
                )
                for i in indices
            ]
        )

    ranked = np.argsort(-score, kind="stable")
    report.section("Worst images", "Wrong, and most certain of it.")
    gallery(ranked[~right[ranked]][:GALLERY])
    report.section("Doubtful images", "The lowest scores, right or wrong.")
    gallery(ranked[::-1][:GALLERY])
    report.section("Best images", "Right, and most certain of it: the best of each class.")
    best = ranked[right[ranked]]
    gallery(best[np.sort(np.unique(predicted[best], return_index=True)[1])][: 2 * GALLERY])

    if len(labels) > 3:
        report.section(
            "Features",
            "Class tokens of the tested images in two dimensions (t-SNE): what lies together looks "
            "alike to the backbone.",
        )
        report.picture(panels.embedding(embedding, labels, classes), "Class tokens")
    report.section(
        "Patches",
        "The first three principal components of the patch features as red, green and blue, "
        "computed over these images together: equal colours mean equal features.",
    )
    pairs = panels.patch_features(feature_views, feature_maps)
    report.gallery([(pair, "", "none") for pair in pairs], wide=True)

    report.section("Run")
    report.table(["what", "value"], [[name, value] for name, value in environment.items()])
    report.code("config.yaml", config_yaml)
    report.write(path)


def summary_table(figures: Mapping[str, float], title: str = "") -> Table:
    """Lay figures in percent out for the terminal."""
    table = Table(*(NAMES[name] for name in figures), title=title or None)
    for column in table.columns:
        column.justify = "right"
    table.add_row(*(f"{value:.2f} %" for value in figures.values()))
    return table


def _confused_pairs(counts: Array, classes: Sequence[str]) -> list[list[Cell]]:
    """The ten most frequent confusions."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:10]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        [classes[r], classes[c], int(wrong[r, c]), 100 * float(wrong[r, c]) / counts[r].sum()]
        for r, c in zip(rows, columns, strict=True)
        if wrong[r, c]
    ]


def _figure(image: bytes, caption: str, mark: str) -> str:
    kind = "png" if image[:4] == b"\x89PNG" else "jpeg" if image[:2] == b"\xff\xd8" else "svg+xml"
    data = base64.b64encode(image).decode()
    first, _, rest = caption.partition("\n")
    more = f"<small>{_text(rest)}</small>" if rest else ""
    told = f"<figcaption>{_text(first)}{more}</figcaption>" if caption else ""
    return (
        f'<figure class="{mark}"><img src="data:image/{kind};base64,{data}" '
        f'alt="{_text(first)}">{told}</figure>'
    )


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f"<td>{_text(value)}</td>"
    shown = f"{value:,}" if isinstance(value, int) else "–" if value != value else f"{value:.2f}"
    return f'<td class="number">{shown}</td>'


def _text(value: str) -> str:
    return html.escape(value, quote=True)


_STYLE = """
:root { --ink: #1d2530; --soft: #667080; --line: #dfe4ea; --paper: #ffffff; --shade: #f4f6f8;
  --good: #00795a; --bad: #c04a00; --link: #0060a0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #343c48;
  --paper: #14181e; --shade: #1e242c; --good: #35c79a; --bad: #ff9a5c; --link: #6cb8f0; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, main { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; }
h1 { margin: 0; font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin: 44px 0 4px; font-size: 1.2rem; scroll-margin-top: 56px; }
p { margin: 4px 0 12px; max-width: 46rem; }
.note, header p, small, figcaption { color: var(--soft); }
nav { position: sticky; top: 0; z-index: 1; background: var(--paper);
  border-bottom: 1px solid var(--line); overflow-x: auto; white-space: nowrap; }
nav div { max-width: 1120px; margin: 0 auto; padding: 10px 24px; }
nav a { margin-right: 20px; color: var(--link); text-decoration: none; font-size: .9rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 24px 0; }
.tiles div { flex: 1 1 150px; padding: 14px 18px; background: var(--shade); border-radius: 10px; }
.tiles b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: .9rem; }
.wide { overflow: auto; max-height: 560px; margin: 12px 0; }
table { border-collapse: collapse; font-size: .92rem; min-width: 50%; }
th { position: sticky; top: 0; background: var(--shade); cursor: pointer; }
th, td { padding: 5px 14px; text-align: left; border-bottom: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 0; }
figure.plot { margin: 12px 0; }
figure.plot img { max-width: 100%; height: auto; padding: 10px; background: #fff;
  border-radius: 10px; border: 1px solid var(--line); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 16px; }
.pairs { grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
.gallery img { display: block; width: 100%; border-radius: 6px; image-rendering: auto; }
.gallery figcaption { font-size: .85rem; line-height: 1.35; padding-top: 5px; }
.gallery small { display: block; font-size: .75rem; overflow-wrap: anywhere; }
.good figcaption { color: var(--good); }
.bad figcaption { color: var(--bad); }
pre { padding: 14px; background: var(--shade); border-radius: 10px; overflow: auto;
  font-size: .85rem; }
summary { cursor: pointer; color: var(--link); margin: 12px 0; }
footer { height: 60px; }
@media (max-width: 480px) {
  .gallery:not(.pairs) { grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); } }
"""

_SCRIPT = """
for (const head of document.querySelectorAll("th")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const up = head.dataset.up = head.dataset.up === "1" ? "0" : "1";
  const value = row => row.cells[column].textContent.replace(/,/g, "");
  const order = (a, b) => isNaN(value(a)) || isNaN(value(b))
    ? value(a).localeCompare(value(b)) : value(a) - value(b);
  const rows = [...body.rows].sort((a, b) => up === "1" ? order(a, b) : order(b, a));
  body.append(...rows);
};
"""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<header><h1>{title}</h1><p>{subtitle}</p></header>
<nav><div>{links}</div></nav>
<main>
{body}
</main>
<footer></footer>
<script>{script}</script>
</html>
"""
