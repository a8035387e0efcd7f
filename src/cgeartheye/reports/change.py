"""Report of a detector of change, written as `report.html`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageColor

from cgeartheye.metrics.classification import NOT_LABELED, ChangeMetrics
from cgeartheye.reports.charts import BLUE, ORANGE
from cgeartheye.reports.examples import UNKNOWN, Color, Example, add_examples, side_by_side
from cgeartheye.reports.html import Report
from cgeartheye.reports.sections import Record, add_confusions, add_figures, add_run, add_training

Array = np.ndarray

UNCHANGED: Color = (0, 0, 0)
FOUND: Color = (255, 255, 255)
FALSE_ALARM: Color = ImageColor.getrgb(ORANGE)[:3]
MISSED: Color = ImageColor.getrgb(BLUE)[:3]


def change_report(
    path: Path,
    *,
    title: str,
    classes: Sequence[str],
    metrics: ChangeMetrics,
    history: Sequence[Record],
    names: Sequence[str],
    ious: Array,
    load_example: Callable[[int], Example],
    config_yaml: str,
    environment: Mapping[str, str],
    part: str = "",
    verdict: Sequence[str] = (),
) -> None:
    """Write the report of a detector of change.

    Args:
        path: of the report.
        title: name of the run.
        classes: what unchanged and changed are called.
        metrics: over the N tested pairs.
        history: records of `metrics.jsonl`; none for a test without a training.
        names: of the pairs, N of them.
        ious: IoU of changed in each pair, 0..1 `[N]`; NaN where nothing changed or is taken for it.
        load_example: returns a pair with truth and prediction, by its index.
        config_yaml: the resolved config.
        environment: versions, device, time.
        part: of the data that was tested.
        verdict: sentences on what was not learned.

    Raises:
        UserError: an image cannot be read, the report cannot be written.
    """
    support = metrics.confusion.support
    share = support[1] / max(1, support.sum())
    counted = f"{len(names):,} pairs · {support.sum():,} pixels · {share:.1%} of them changed"
    report = Report(title, f"Change detection · {counted}")
    add_figures(report, metrics.compute(), part, verdict)
    add_training(report, history, {"f1": "F1", "iou": "IoU"})
    add_confusions(report, metrics.confusion.counts.numpy(), classes, "pixels")
    report.section(
        "Examples",
        "From left to right: before, after, the truth, and the prediction over the truth.",
    )
    report.legend(
        {
            "changed and found": FOUND,
            "missed": MISSED,
            "false alarm": FALSE_ALARM,
            "unchanged": UNCHANGED,
            "not labelled": UNKNOWN,
        }
    )
    add_examples(report, ious, names, lambda index: change_panels(load_example(index)))
    add_run(report, environment, config_yaml)
    report.write(path)


def change_panels(example: Example) -> Array:
    """Draw before, after, truth and prediction side by side.

    Args:
        example: of any size; reduced to `examples.PANEL` pixels.

    Returns:
        uint8 `[h, w, 3]`.
    """
    example = example.shrunk()
    panels = (outcome(example.truth, x) for x in (example.truth, example.predicted))
    return side_by_side([*example.images, *panels])


def outcome(truth: Array, predicted: Array) -> Array:
    """Draw what was found, missed and wrongly taken for a change, in colors.

    Args:
        truth: uint8 `[H, W]`: 0, 1, or 255 where not labelled.
        predicted: the same.

    Returns:
        uint8 `[H, W, 3]`.
    """
    picture = np.full((*truth.shape, 3), UNCHANGED, np.uint8)
    picture[(truth == 1) & (predicted == 1)] = FOUND
    picture[(truth == 1) & (predicted == 0)] = MISSED
    picture[(truth == 0) & (predicted == 1)] = FALSE_ALARM
    picture[(truth == NOT_LABELED) | (predicted == NOT_LABELED)] = UNKNOWN
    return picture
