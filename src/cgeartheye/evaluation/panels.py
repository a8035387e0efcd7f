"""The pictures of a report: each function takes arrays and returns an image file's bytes."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from cgeartheye.evaluation.metrics import ECE_BINS, ClassificationMetrics

Array = np.ndarray

# Okabe and Ito's palette for the colour-blind; the first two also name "good" and "bad".
BLUE, RED, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
COLOURS = (BLUE, RED, GREEN, ORANGE, "#CC79A7", "#56B4E9", "#7F7F7F", "#000000")
MARKERS = "osD^vP*X"
EMBEDDED = 2000  # points of the embedding; t-SNE takes a second a thousand


def curves(history: Sequence[dict[str, Any]], figure: str, label: str) -> bytes:
    """Draw the training loss and an evaluated figure over the epochs.

    Args:
        history: records of `metrics.jsonl`: of kind `train` with `epoch`, `loss`, `lr`; of kind
            `val` with `epoch` and the figure.
        figure: its name in the records.
        label: its name for people.
    """
    train = [record for record in history if record["kind"] == "train"]
    val = [record for record in history if record["kind"] == "val"]
    canvas = Figure(figsize=(11, 3.4))
    left, right = canvas.subplots(1, 2, gridspec_kw={"wspace": 0.42})
    epochs, losses = [r["epoch"] for r in train], np.array([r["loss"] for r in train])
    left.plot(epochs, losses, color=BLUE, alpha=0.25, linewidth=1)
    left.plot(epochs, _smooth(losses), color=BLUE, linewidth=2)
    left.set(xlabel="epoch", ylabel="training loss")
    rate = left.twinx()
    rate.plot(epochs, [r["lr"] for r in train], color=ORANGE, linewidth=1, linestyle="--")
    rate.set_ylabel("learning rate (dashed)", color=ORANGE)
    rate.spines[["top", "left"]].set_visible(False)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    values = [r[figure] for r in val]
    right.plot([r["epoch"] for r in val], values, color=GREEN, linewidth=2, marker="o", ms=3)
    best = int(np.argmax(values))
    right.annotate(
        f"best: {values[best]:.2f}",
        (val[best]["epoch"], values[best]),
        xytext=(0, -18),
        textcoords="offset points",
        ha="center",
        color=GREEN,
    )
    right.set(xlabel="epoch", ylabel=label)
    for axes in (left, right):
        _plain(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(canvas)


def confusion_matrix(counts: Array, classes: Sequence[str]) -> bytes:
    """Draw a confusion matrix int `[K, K]`, a row for each true class, coloured by row share."""
    classes_count = len(classes)
    side = min(12.0, 2.4 + 0.3 * classes_count)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    canvas = Figure(figsize=(side, side))
    axes = canvas.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if classes_count <= 20 else 7
    axes.set_xticks(range(classes_count), labels=list(classes), fontsize=size, rotation=90)
    axes.set_yticks(range(classes_count), labels=list(classes), fontsize=size)
    axes.set(xlabel="predicted", ylabel="true class")
    for row, column in zip(*np.nonzero(counts), strict=True):
        if classes_count <= 15 or (row != column and shares[row, column] >= 0.1):
            text = f"{counts[row, column]}" if classes_count <= 15 else f"{shares[row, column]:.0%}"
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=size if classes_count <= 15 else 4.5,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    axes.set_xticks(np.arange(classes_count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes_count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = canvas.colorbar(image, ax=axes, fraction=0.035, pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
    bar.outline.set_visible(False)
    return _svg(canvas)


def class_bars(values: Array, classes: Sequence[str], label: str) -> bytes:
    """Draw a figure of each class in percent, `[K]`, the worst first; NaN is left out."""
    known = [index for index in np.argsort(values, kind="stable") if not np.isnan(values[index])]
    canvas = Figure(figsize=(max(5.0, 1.5 + 0.22 * len(known)), 3.2))
    axes = canvas.subplots()
    axes.bar(range(len(known)), values[known], color=BLUE, width=0.75)
    axes.set_xticks(range(len(known)), [classes[i] for i in known], rotation=90, fontsize=8)
    axes.set(ylabel=label, ylim=(0, 100), xlim=(-0.7, len(known) - 0.3))
    _plain(axes)
    return _svg(canvas)


def reliability(metrics: ClassificationMetrics) -> bytes:
    """Draw accuracy against confidence; on the diagonal a score is what it says."""
    count, accuracy, _ = metrics.calibration()
    edges = np.arange(ECE_BINS) / ECE_BINS
    canvas = Figure(figsize=(4.2, 4.2))
    axes = canvas.subplots()
    full = count > 0
    axes.bar(edges[full], accuracy[full], 1 / ECE_BINS, align="edge", color=BLUE, edgecolor="white")
    axes.plot([0, 1], [0, 1], color="#666666", linestyle="--", linewidth=1)
    share = count[full] / max(1, count.sum())
    axes.bar(edges[full], -0.18 * share, 1 / ECE_BINS, align="edge", color="#b0b0b0")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(-0.19, 1))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.text(0.02, -0.14, "share of images", fontsize=8, color="#666666")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    _plain(axes)
    return _svg(canvas)


def embedding(features: Array, labels: Array, classes: Sequence[str], seed: int = 0) -> bytes:
    """Draw features `[N, C]` in two dimensions by t-SNE (van der Maaten and Hinton 2008).

    Of more than `EMBEDDED` features a seeded sample is drawn.
    """
    chosen = np.random.default_rng(seed).permutation(len(features))[:EMBEDDED]
    features, labels = features[chosen].astype(np.float64), labels[chosen]
    features = (features - features.mean(0)) / np.maximum(features.std(), 1e-12)
    reduced = PCA(min(50, *features.shape), random_state=seed).fit_transform(features)
    perplexity = min(30.0, max(1.0, (len(reduced) - 1) / 3))
    flat = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    columns = -(-len(classes) // 23)
    canvas = Figure(figsize=(6.5 + 1.9 * columns, 6.2))
    axes = canvas.subplots()
    for label, name in enumerate(classes):
        points = flat[labels == label]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=14,
            color=COLOURS[label % len(COLOURS)],
            marker=MARKERS[label // len(COLOURS) % len(MARKERS)],
            linewidths=0,
            alpha=0.75,
            label=name,
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", "datalim")
    axes.spines[:].set_color("#cccccc")
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=columns, frameon=False, fontsize=9
    )
    return _png(canvas)


def patch_features(views: Array, maps: Array) -> list[bytes]:
    """Colour patch features by their first three principal components, beside their images.

    Args:
        views: uint8 `[B, H, W, 3]`.
        maps: features `[B, C, h, w]`; the components are those of all images together, so equal
            colours mean equal features.

    Returns:
        A picture for each image: itself and its features.
    """
    count, channels, height, width = maps.shape
    tokens = maps.transpose(0, 2, 3, 1).reshape(-1, channels)
    components = PCA(min(3, *tokens.shape), random_state=0).fit_transform(tokens)
    low, high = np.percentile(components, [2, 98], axis=0)
    scaled = ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1) * 255
    colours = np.zeros((len(tokens), 3))
    colours[:, : scaled.shape[1]] = scaled
    pictures = []
    for view, colour in zip(views, colours.reshape(count, height, width, 3), strict=True):
        side = max(view.shape[0], 168)
        pair = Image.new("RGB", (2 * side + 4, side), "white")
        pair.paste(Image.fromarray(view).resize((side, side), Image.Resampling.BICUBIC), (0, 0))
        features = Image.fromarray(colour.astype(np.uint8))
        pair.paste(features.resize((side, side), Image.Resampling.NEAREST), (side + 4, 0))
        pictures.append(picture(np.asarray(pair), largest=700))
    return pictures


def picture(pixels: Array, largest: int = 256) -> bytes:
    """Return uint8 `[H, W, 3]` as a JPEG whose sides are at most `largest` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _smooth(values: Array) -> Array:
    """Mean over a window of a twentieth of the curve."""
    width = max(1, len(values) // 20)
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> bytes:
    return _save(figure, "svg")


def _png(figure: Figure) -> bytes:
    return _save(figure, "png")


def _save(figure: Figure, kind: str) -> bytes:
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    figure.savefig(stream, format=kind, dpi=150, bbox_inches="tight", metadata=metadata)
    return stream.getvalue()
