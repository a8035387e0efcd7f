"""Report of a model that classifies pixels, written as `report.html`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageColor

from cgeartheye.metrics.classification import NOT_LABELED, SegmentationMetrics
from cgeartheye.reports.charts import ORANGE
from cgeartheye.reports.examples import UNKNOWN, Color, Example, add_examples, side_by_side
from cgeartheye.reports.html import Report
from cgeartheye.reports.sections import (
    Record,
    add_classes,
    add_confusions,
    add_figures,
    add_run,
    add_training,
)

Array = np.ndarray

WRONG = ImageColor.getrgb(ORANGE)


def segmentation_report(
    path: Path,
    *,
    title: str,
    classes: Sequence[str],
    colors: Sequence[Color],
    metrics: SegmentationMetrics,
    history: Sequence[Record],
    names: Sequence[str],
    ious: Array,
    load_example: Callable[[int], Example],
    config_yaml: str,
    environment: Mapping[str, str],
    part: str = "",
    verdict: Sequence[str] = (),
) -> None:
    """Write the report of a model that classifies pixels.

    Args:
        path: of the report.
        title: name of the run.
        classes: names by index, K of them.
        colors: of the classes.
        metrics: over the N tested images.
        history: records of `metrics.jsonl`; none for a test without a training.
        names: of the images, N of them.
        ious: mean IoU of each image, 0..1 `[N]`; NaN where nothing is labelled.
        load_example: returns an image with truth and prediction, by its index.
        config_yaml: the resolved config.
        environment: versions, device, time.
        part: of the data that was tested.
        verdict: sentences on what was not learned.

    Raises:
        UserError: an image cannot be read, the report cannot be written.
    """
    pixels = int(metrics.confusion.support.sum())
    counted = f"{len(names):,} images · {pixels:,} pixels · {len(classes)} classes"
    report = Report(title, f"Semantic segmentation · {counted}")
    add_figures(report, metrics.compute(), part, verdict)
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
    report.legend(dict(zip(classes, colors, strict=True)) | {"not labelled": UNKNOWN})
    add_examples(report, ious, names, lambda index: four_panels(load_example(index), colors))
    add_run(report, environment, config_yaml)
    report.write(path)


def four_panels(example: Example, colors: Sequence[Color]) -> Array:
    """Draw image, truth, prediction and errors side by side.

    Args:
        example: of any size; reduced to `examples.PANEL` pixels.
        colors: of the classes.

    Returns:
        uint8 `[h, w, 3]`.
    """
    example = example.shrunk()
    truth, predicted = example.truth, example.predicted
    palette = np.full((NOT_LABELED + 1, 3), UNKNOWN, np.uint8)
    palette[: len(colors)] = colors
    # What is right stays as a pale image, so that an error has its place.
    errors = (160 + example.images[0].mean(2, keepdims=True) / 3).astype(np.uint8).repeat(3, 2)
    errors[truth != predicted] = WRONG
    errors[truth == NOT_LABELED] = UNKNOWN
    return side_by_side([*example.images, palette[truth], palette[predicted], errors])
