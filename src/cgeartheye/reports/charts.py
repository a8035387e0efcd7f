"""The pictures of a report: charts as SVG that takes the colors of its page, pixels as arrays."""

import hashlib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image
from scipy.linalg import eigh

from cgeartheye.metrics.classification import ECE_BINS

Array = np.ndarray

# Every color of a report, on light and on dark paper. A chart names those of the light column;
# in its SVG they become variables of the page's style sheet. Blue and orange mean right and wrong:
# with green and purple they are Okabe and Ito's, which the color-blind can distinguish.
COLORS = {
    "paper": ("#fdfdfc", "#14171b"),
    "shade": ("#f3f4f3", "#1d2126"),
    "line": ("#dcdfe1", "#343a41"),
    "soft": ("#5c6670", "#9aa5b1"),
    "ink": ("#1c2126", "#e7eaed"),
    "blue": ("#0072b2", "#4aa8e0"),
    "orange": ("#d55e00", "#f08a3c"),
    "green": ("#009e73", "#2fc295"),
    "purple": ("#aa4499", "#d98bc8"),
}
INK, SOFT, LINE, PAPER = (COLORS[name][0] for name in ("ink", "soft", "line", "paper"))
BLUE, ORANGE, GREEN, PURPLE = (COLORS[name][0] for name in ("blue", "orange", "green", "purple"))

# Classes differ by color, then by marker: 56 pairs.
CLASS_COLORS = (BLUE, ORANGE, GREEN, PURPLE, "#e69f00", "#56b4e9", "#8c9196")
MARKERS = "os^DvPX<"

FEW = 8  # points of a class that its name must not cover
EMBEDDED = 2000  # points of an embedding, some ten seconds of t-SNE on one core

STYLE: dict[Any, Any] = {
    "font.size": 11.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called `$`
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "svg.fonttype": "none",
    "svg.hashsalt": "cgeartheye",  # not a random one
}


@matplotlib.rc_context(STYLE)
def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    smooth: bool = False,
    colors: Sequence[str] = CLASS_COLORS,
) -> str:
    """Draw curves.

    Args:
        lines: x and y values by what they are; several get a legend.
        x: name of the x axis.
        smooth: draw the values faintly and their running mean on top.
        colors: of the lines; with more lines they begin again.

    Returns:
        SVG markup.
    """
    figure, axes = chart(460, 290)
    for (name, (places, values)), color in zip(lines.items(), cycle(colors), strict=False):
        window = max(1, len(values) // 25) if smooth else 1
        if window > 1:
            axes.plot(places, values, color=color, linewidth=0.8, alpha=0.3)
        dot = 0 if len(values) > 30 else 3
        means = _running_mean(values, window)
        axes.plot(places, means, color=color, marker="o", markersize=dot, label=name)
    axes.set_xlabel(x)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.margins(x=0.02)
    if all(min(values, default=0) >= 0 for _, values in lines.values()):
        axes.set_ylim(bottom=max(0, axes.get_ylim()[0]))  # the margin is no value
    if len(lines) > 1:
        axes.legend(handlelength=1.2)
    else:
        axes.set_ylabel(next(iter(lines)))
    return svg_of(figure)


@matplotlib.rc_context(STYLE)
def confusion_matrix(counts: Array, classes: Sequence[str], as_shares: bool = False) -> str:
    """Draw a confusion matrix, right in blue and wrong in orange, by the share of the row.

    Up to 15 classes the counts are written in the cells.

    Args:
        counts: int `[K, K]`, a row for each true class.
        classes: K names.
        as_shares: write percent of the row in place of counts.

    Returns:
        SVG markup.
    """
    number = len(classes)
    cell = float(np.clip(600 / number, 15, 56))  # pixels
    names = [short(name) for name in classes]
    margin = 30 + 6.5 * max(map(len, names))
    figure, axes = chart(number * cell + margin, number * cell + margin)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    squares, faces = [], []
    for row, column in zip(*np.nonzero(counts), strict=True):
        share = shares[row, column]
        squares.append(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92))
        # The rarest confusion is still seen.
        opacity = 0.15 + 0.85 * share
        faces.append((*matplotlib.colors.to_rgb(BLUE if row == column else ORANGE), opacity))
        if number <= 15:
            # Paper on a strong color, ink on a weak one.
            axes.text(
                column,
                row,
                f"{100 * share:.0f}" if as_shares else f"{counts[row, column]}",
                size=max(8.5, min(13, cell / 3.4)),
                color=PAPER if share > 0.5 else INK,
                ha="center",
                va="center_baseline",
            )
    axes.add_collection(PatchCollection(squares, facecolors=faces, linewidths=0))
    axes.set(xlim=(-0.5, number - 0.5), ylim=(number - 0.5, -0.5), aspect="equal")
    axes.set(xlabel="predicted class", ylabel="true class")
    size = 11.5 if cell > 20 else 10.5
    axes.set_xticks(range(number), names, size=size, rotation=90)
    for label in axes.get_xticklabels():
        # Their ends stay at the matrix, however wide the browser's letters are.
        label.set(rotation_mode="anchor", horizontalalignment="right", verticalalignment="center")
    axes.set_yticks(range(number), names, size=size)
    edges = np.arange(number + 1) - 0.5
    axes.hlines(edges, -0.5, number - 0.5, LINE, linewidth=0.5, zorder=0)
    axes.vlines(edges, -0.5, number - 0.5, LINE, linewidth=0.5, zorder=0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return svg_of(figure)


@matplotlib.rc_context(STYLE)
def reliability(samples: Array, accuracy: Array, confidence: Array) -> str:
    """Draw accuracy by confidence, with the number of samples beneath.

    On the diagonal confidence equals accuracy (Guo et al. 2017, figure 1).

    Args:
        samples: int `[ECE_BINS]`.
        accuracy: of each bin, 0..1, NaN where it is empty.
        confidence: mean of each bin, 0..1, NaN where it is empty.

    Returns:
        SVG markup.
    """
    figure = Figure((460 / 72, 480 / 72), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    full = samples > 0
    left, width = (np.arange(ECE_BINS) / ECE_BINS + 0.004)[full], 1 / ECE_BINS - 0.008
    samples, accuracy, confidence = samples[full], accuracy[full], confidence[full]
    above = np.maximum(confidence - accuracy, 0)
    within = np.maximum(accuracy - confidence, 0)
    hatched = {"facecolor": BLUE, "hatch": "////", "edgecolor": PAPER, "linewidth": 0}
    for height, bottom, name, style in (
        (accuracy, 0.0, "accuracy", {"color": BLUE}),
        (above, accuracy, "overconfident by", {"color": ORANGE, "alpha": 0.4}),
        (within, confidence, "underconfident by", hatched),  # upper part of the accuracy
    ):
        axes.bar(left, height, width, bottom, align="edge", label=name, **style)
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle=(0, (4, 3)), linewidth=1.2)
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    # Above the chart: the bars may be anywhere in it.
    figure.legend(loc="outside upper center", ncols=3, handlelength=1, handleheight=1)
    axes.grid(axis="y")
    below.bar(left, samples, width, align="edge", color=SOFT, alpha=0.6)
    below.set(xlabel="confidence", ylabel="images")
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    for axis in (axes.yaxis, below.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    return svg_of(figure)


def embed(features: Array, seed: int = 0) -> tuple[Array, Array]:
    """Lay features out in two dimensions (t-SNE, van der Maaten and Hinton 2008).

    Args:
        features: `[N, C]`, four or more. Of more than `EMBEDDED` a seeded sample is drawn; their
            first 50 principal components are laid out.
        seed: of the sample.

    Returns:
        Indices `[M]` of the features laid out, ascending, and their places `[M, 2]`.
    """
    from sklearn.manifold import TSNE  # takes a second or more to import, and few draw this

    assert len(features) > 3
    chosen = np.random.default_rng(seed).permutation(len(features))[:EMBEDDED]
    chosen.sort()
    reduced = _principal_components(features[chosen], 50)
    start = 1e-4 * reduced[:, :2] / max(float(reduced[:, 0].std()), 1e-12)
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    places = TSNE(perplexity=perplexity, init=start).fit_transform(reduced)
    return chosen, places


@matplotlib.rc_context(STYLE)
def embedding(places: Array, labels: Array, classes: Sequence[str]) -> str:
    """Draw points by class, each class named where most of its points are, or above few points.

    Args:
        places: `[M, 2]`.
        labels: int `[M]`.
        classes: names by index; those without points are left out.

    Returns:
        SVG markup.
    """
    present = np.unique(labels)
    columns = 5 if len(present) > 12 else 4
    legend = 19 * -(-len(present) // columns)
    width, height = 900, 680
    figure, axes = chart(width, height + legend)
    names = [short(classes[label]) for label in present]
    pixel = np.ptp(places, axis=0) / (width, height)
    letter, line = 7 * pixel[0], 13 * pixel[1]
    groups = [places[labels == label] for label in present]
    centers = np.stack(
        [
            np.median(group, axis=0)
            if len(group) > FEW
            else group[group[:, 1].argmax()] + (0, 0.9 * line)
            for group in groups
        ]
    )
    spread = _spread(centers, letter * np.array([len(name) for name in names]), line)
    for label, name, group, (x, y) in zip(present, names, groups, spread, strict=True):
        axes.plot(
            *group.T,
            linestyle="",
            marker=MARKERS[label // len(CLASS_COLORS) % len(MARKERS)],
            color=CLASS_COLORS[label % len(CLASS_COLORS)],
            markersize=np.clip(120 / np.sqrt(len(places)), 4.5, 9),
            markeredgewidth=0,
            alpha=0.75,
            label=name,
        )
        named = axes.text(x, y, name, gid="halo", size=11, weight="bold", ha="center", va="center")
        if len(group) <= FEW:
            named.set_zorder(1.5)  # below the points: none of few is hidden
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    figure.legend(
        loc="outside lower center",
        ncols=columns,
        fontsize=10.5,
        markerscale=1.5,
        handletextpad=0.1,
        columnspacing=1.2,
    )
    return svg_of(figure)


def patch_features(maps: Array, side: int) -> Array:
    """Color patch features by their first three principal components.

    The components are those of all images together, so equal colors mean equal features. The
    second to the 98th percentile of each spans its color.

    Args:
        maps: features `[B, C, h, w]`.
        side: of the pictures, in pixels.

    Returns:
        uint8 `[B, side, side, 3]`.
    """
    count, channels, height, width = maps.shape
    patches = maps.transpose(0, 2, 3, 1).reshape(-1, channels)
    components = _principal_components(patches, 3)
    low, high = np.percentile(components, (2, 98), axis=0)
    scaled = ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    small = np.round(255 * scaled).astype(np.uint8).reshape(count, height, width, 3)
    return np.stack([resized(picture, side) for picture in small])


def beside(view: Array, features: Array) -> Array:
    """Join an image uint8 `[H, W, 3]` and the square picture of its features."""
    return np.concatenate([resized(view, len(features)), features], axis=1)


def _principal_components(rows: Array, number: int) -> Array:
    """Return the first components of rows `[N, C]`, `[N, number]`; zeros past C."""
    centered = rows.astype(np.float64)
    centered -= centered.mean(0)
    last = centered.shape[1] - 1
    first = max(0, last + 1 - number)
    _, axes = eigh(centered.T @ centered, subset_by_index=(first, last))
    # An axis may point either way: its largest entry decides.
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    components = centered @ axes[:, ::-1]
    return np.pad(components, ((0, 0), (0, number - components.shape[1])))


def resized(picture: Array, side: int) -> Array:
    """Return a picture uint8 `[H, W, 3]` as a square of `side` pixels."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def _running_mean(values: Sequence[float], window: int) -> Array:
    sums = np.convolve(values, np.ones(window), mode="same")
    return np.asarray(sums / np.convolve(np.ones(len(values)), np.ones(window), mode="same"))


def _spread(centers: Array, widths: Array, height: float) -> Array:
    """Move labels `[K, 2]` down until none covers another."""
    spread = centers.copy()
    done: list[int] = []
    for label in np.argsort(-centers[:, 1], kind="stable"):
        for above in sorted(done, key=lambda other: -spread[other, 1]):
            distance = np.abs(spread[label] - spread[above])
            if distance[0] < (widths[label] + widths[above]) / 2 and distance[1] < height:
                spread[label, 1] = spread[above, 1] - height
        done.append(label)
    return spread


def short(name: str) -> str:
    """Return a name of at most 24 letters."""
    return name if len(name) <= 24 else name[:23] + "…"


def chart(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of a size in pixels: 72 an inch, as an SVG counts them."""
    figure = Figure((width / 72, height / 72), layout="constrained")
    return figure, figure.subplots()


def svg_of(figure: Figure) -> str:
    """Return markup to be put into a page, its colors those of the page's style sheet."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        # The letters are drawn by the browser, which has more of them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
        figure.savefig(stream, format="svg", metadata=nothing)
    text = stream.getvalue()
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    text = text[text.index("<svg") :]
    # A page may shrink a chart by a quarter; then it scrolls.
    size = f"width: 100%; max-width: {width}px; min-width: {0.75 * width:.0f}px"
    head = f'<svg viewBox="0 0 {width} {height}" style="{size}">'
    text = re.sub(r"<svg.*?>", head, text, count=1, flags=re.S)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.S)
    text = re.sub(r'<g id="(?!halo)[^"]*"', "<g", text).replace('<g id="halo"', '<g class="halo"')
    # Charts of one page share no names, and the same data make the same file.
    own = hashlib.sha256(text.encode()).hexdigest()[:8]

    def adapted(tag: re.Match[str]) -> str:
        markup = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}-", tag[0])
        for name, (light, _) in COLORS.items():
            markup = markup.replace(light, f"var(--{name})")
        return markup

    return re.sub("<[^<>]*>", adapted, text)
