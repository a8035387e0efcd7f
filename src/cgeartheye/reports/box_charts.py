"""Charts of what a detector found."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, PercentFormatter

from cgeartheye.metrics.detection.average_precision import COCO_RECALLS, Curve
from cgeartheye.reports.charts import (
    BLUE,
    CLASS_COLORS,
    GREEN,
    LINE,
    ORANGE,
    SOFT,
    STYLE,
    chart,
    short,
    svg_of,
)

Array = np.ndarray

_ACROSS = 4  # small charts in a row


@matplotlib.rc_context(STYLE)
def mean_curves(lines: Mapping[str, Array]) -> str:
    """Draw precision at 101 recalls.

    Args:
        lines: precision 0..1 `[101]` by what it is of.

    Returns:
        SVG markup.
    """
    figure, axes = chart(460, 330)
    for (name, precision), color in zip(lines.items(), CLASS_COLORS, strict=False):
        axes.plot(COCO_RECALLS, precision, color=color, label=name)
    axes.set(xlabel="recall %", ylabel="precision %")
    _shares(axes)
    axes.legend(handlelength=1.2)
    return svg_of(figure)


@matplotlib.rc_context(STYLE)
def class_curves(curves: Mapping[str, tuple[Curve, float]], threshold: float) -> str:
    """Draw precision over recall of each class in a small chart of its own.

    Args:
        curves: and their areas in percent, by the name of the class; one or more.
        threshold: the score that a dot marks.

    Returns:
        SVG markup.
    """
    rows = -(-len(curves) // _ACROSS)
    figure = Figure((940 / 72, (205 * rows + 25) / 72), layout="constrained")
    grid = figure.subplots(rows, _ACROSS, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for axes, (name, (found, area)) in zip(grid.flat, curves.items(), strict=False):
        start = found.precision[0] if len(found.precision) else 0.0
        recall, precision = np.append(0, found.recall), np.append(start, found.precision)
        smooth = np.maximum.accumulate(precision[::-1])[::-1]
        axes.fill_between(recall, smooth, step="pre", color=BLUE, alpha=0.15, linewidth=0)
        thin = _few(recall)
        axes.plot(recall[thin], precision[thin], color=BLUE, linewidth=1.4)
        sure = np.count_nonzero(found.scores >= threshold)
        axes.plot(recall[sure], precision[sure], "o", color=ORANGE, markersize=5)
        axes.set_title(f"{short(name)}  {area:.1f}", size=11.5, loc="left")
        _shares(axes)
        # Where the row below has no chart, the numbers stand here.
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("precision %")
    for axes in grid.flat[max(0, len(curves) - _ACROSS) : len(curves)]:
        axes.set_xlabel("recall %")
    return svg_of(figure)


@matplotlib.rc_context(STYLE)
def stacked_bars(names: Sequence[str], parts: Mapping[str, tuple[Array, str]], unit: str) -> str:
    """Draw a bar for each name, made of parts.

    Args:
        names: of the bars, K from top to bottom.
        parts: lengths `[K]` and color by what they are.
        unit: what is counted.

    Returns:
        SVG markup.
    """
    names = [short(name) for name in names]
    figure, axes = chart(460, 95 + 24 * len(names))
    left = np.zeros(len(names))
    for part, (lengths, color) in parts.items():
        axes.barh(range(len(names)), lengths, 0.72, left, color=color, label=part)
        left += lengths
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="x")
    columns = min(3, len(parts))
    figure.legend(
        loc="outside upper left", ncols=columns, handlelength=1, handleheight=1, columnspacing=1.2
    )
    return svg_of(figure)


@matplotlib.rc_context(STYLE)
def scores(right: Array, wrong: Array, threshold: float) -> str:
    """Draw how many right and wrong boxes have which score.

    Args:
        right: scores 0..1.
        wrong: scores 0..1.
        threshold: a score to mark.

    Returns:
        SVG markup.
    """
    figure, axes = chart(460, 330)
    edges = np.linspace(0, 1, 26)
    for values, color, name in ((right, GREEN, "right"), (wrong, ORANGE, "wrong")):
        counts = np.histogram(values, edges)[0]
        axes.stairs(counts, edges, color=color, fill=True, alpha=0.25)
        axes.stairs(counts, edges, color=color, linewidth=1.6, label=name)
    axes.axvline(threshold, color=SOFT, linestyle=(0, (4, 3)), linewidth=1.2)
    # The many boxes of low score would hide all others.
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel="score", ylabel="boxes", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(handlelength=1.2)
    axes.grid(axis="y")
    return svg_of(figure)


def _shares(axes: Axes) -> None:
    """Give both axes 0 to 100 %."""
    axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.05))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([0, 0.5, 1]))
        axis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.grid(color=LINE)


def _few(recall: Array, steps: int = 400) -> Array:
    """Return the points of a curve that can be seen, at most some `steps`."""
    return np.unique(np.linspace(0, len(recall) - 1, steps).astype(int))
