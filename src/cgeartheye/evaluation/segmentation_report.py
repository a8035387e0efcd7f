"""What was measured of a model that classifies pixels, laid out as `report.html`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from cgeartheye.evaluation.metrics import NOT_LABELLED, SegmentationMetrics
from cgeartheye.evaluation.page import Picture, Report
from cgeartheye.evaluation.panels import ORANGE
from cgeartheye.evaluation.sections import (
    Record,
    add_classes,
    add_confusions,
    add_figures,
    add_run,
    add_training,
)

Array = np.ndarray
Colour = tuple[int, int, int]

GALLERY = 4  # images of a kind
PANEL = 350  # pixels of the longer side of each of an image's four panels
GAP = 6
UNKNOWN: Colour = (96, 96, 96)  # what is not labelled
WRONG = ImageColor.getrgb(ORANGE)


@dataclass(frozen=True)
class Example:
    """An image that was tested.

    Attributes:
        image: uint8 `[H, W, 3]`.
        truth: classes uint8 `[H, W]`, 255 where not labelled.
        predicted: classes uint8 `[H, W]`.
    """

    image: Array
    truth: Array
    predicted: Array


def segmentation_report(
    path: Path,
    *,
    title: str,
    classes: Sequence[str],
    colours: Sequence[Colour],
    metrics: SegmentationMetrics,
    history: Sequence[Record],
    names: Sequence[str],
    ious: Array,
    load_example: Callable[[int], Example],
    config_yaml: str,
    environment: Mapping[str, str],
) -> None:
    """Write the report of a model that classifies pixels.

    Args:
        path: of the report.
        title: name of the run.
        classes: names by index, K of them.
        colours: of the classes.
        metrics: over the N tested images.
        history: records of `metrics.jsonl`; none for a test without a training.
        names: of the images, N of them.
        ious: mean IoU of each image, 0..1 `[N]`; NaN where nothing is labelled.
        load_example: returns an image with truth and prediction, by its index.
        config_yaml: the resolved config.
        environment: versions, device, time.

    Raises:
        UserError: an image cannot be read, the report cannot be written.
    """
    pixels = int(metrics.confusion.support.sum())
    counted = f"{len(names):,} images · {pixels:,} pixels · {len(classes)} classes"
    report = Report(title, f"Semantic segmentation · {counted}")
    add_figures(report, metrics.compute())
    add_training(report, history, {"miou": "mIoU", "mf1": "mF1"})
    add_classes(
        report,
        metrics.per_class(classes),
        by="IoU",
        bars=["IoU"],
        note="IoU: of all pixels that are of a class or taken for it, the share that is both. "
        "Precision: the share of the pixels taken for it that are right; recall: the share of its "
        "pixels that are found. Boundary F1: the same of the pixels at its boundaries, found "
        "within 3 pixels.",
    )
    add_confusions(report, metrics.confusion.counts.numpy(), classes, "pixels")
    report.section(
        "Examples",
        "From left to right: the image, the truth, the prediction, and its errors in orange.",
    )
    report.legend(dict(zip(classes, colours, strict=True)) | {"not labelled": UNKNOWN})
    for kind, indices in _chosen(ious).items():
        report.heading(kind)
        report.pictures(_pictures(indices, ious, names, colours, load_example), width=700)
    add_run(report, environment, config_yaml)
    report.write(path)


def _chosen(ious: Array) -> dict[str, list[int]]:
    """Return indices of images by what they stand for; none twice, none without labels."""
    order = np.argsort(ious, kind="stable")[: np.count_nonzero(~np.isnan(ious))].tolist()
    number = min(GALLERY, -(-len(order) // 3))
    worst, rest = order[:number], order[number:]
    best, rest = rest[::-1][:number], rest[: max(0, len(rest) - number)]
    middle = max(0, (len(rest) - number) // 2)
    kinds = {"Worst": worst, "Typical": rest[middle:][:number], "Best": best}
    return {kind: indices for kind, indices in kinds.items() if indices}


def _pictures(
    indices: Iterable[int],
    ious: Array,
    names: Sequence[str],
    colours: Sequence[Colour],
    load_example: Callable[[int], Example],
) -> Iterable[Picture]:
    for index in indices:
        caption = f"IoU {100 * ious[index]:.1f}\u00a0%"
        yield Picture(four_panels(load_example(index), colours), caption, names[index])


def four_panels(example: Example, colours: Sequence[Colour]) -> Array:
    """Draw image, truth, prediction and errors side by side.

    Args:
        example: of any size; reduced to `PANEL` pixels.
        colours: of the classes.

    Returns:
        uint8 `[h, w, 3]`.
    """
    height, width = example.truth.shape
    scale = min(1.0, PANEL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))

    def shrunk(values: Array, how: Image.Resampling) -> Array:
        return np.asarray(Image.fromarray(values).resize(size, how))

    image = shrunk(example.image, Image.Resampling.LANCZOS)
    truth, predicted = (
        shrunk(classes, Image.Resampling.NEAREST) for classes in (example.truth, example.predicted)
    )
    palette = np.full((NOT_LABELLED + 1, 3), UNKNOWN, np.uint8)
    palette[: len(colours)] = colours
    # What is right stays as a pale image, so that an error has its place.
    errors = (160 + image.mean(2, keepdims=True) / 3).astype(np.uint8).repeat(3, 2)
    errors[truth != predicted] = WRONG
    errors[truth == NOT_LABELLED] = UNKNOWN
    white = np.full((size[1], GAP, 3), 255, np.uint8)
    return np.concatenate(
        [image, white, palette[truth], white, palette[predicted], white, errors], axis=1
    )
