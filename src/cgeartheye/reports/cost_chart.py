"""Chart of figures against what they cost."""

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator

from cgeartheye.reports.charts import CLASS_COLORS, MARKERS, SOFT, STYLE, chart, short, svg_of


@matplotlib.rc_context(STYLE)
def costs(
    points: Mapping[tuple[str, str], tuple[float, float]], x: str, colored: Sequence[str]
) -> str:
    """Draw figures against what they cost, on a logarithmic axis.

    Args:
        points: cost and figure by what decides the color and by what decides the marker.
        x: name of the cost.
        colored: order of the colors.

    Returns:
        SVG markup.
    """
    figure, axes = chart(460, 340)
    marked = list(dict.fromkeys(mark for _, mark in points))
    for (color, mark), (cost, value) in points.items():
        axes.plot(
            cost,
            value,
            linestyle="",
            marker=MARKERS[marked.index(mark) % len(MARKERS)],
            color=CLASS_COLORS[colored.index(color) % len(CLASS_COLORS)],
            markersize=8,
            markeredgewidth=0,
        )
    present = [name for name in colored if any(name == color for color, _ in points)]
    handles: list[Artist] = [
        Patch(color=CLASS_COLORS[colored.index(name) % len(CLASS_COLORS)]) for name in present
    ]
    handles += [
        Line2D([], [], linestyle="", marker=MARKERS[n % len(MARKERS)], color=SOFT)
        for n in range(len(marked))
    ]
    axes.set(xlabel=x, ylabel="%", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.grid(axis="y")
    axes.margins(x=0.15)
    names = [short(name) for name in [*present, *marked]]
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=10.5)
    return svg_of(figure)
