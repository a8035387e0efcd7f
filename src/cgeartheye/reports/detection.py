"""Report of a detector, written as `report.html`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from cgeartheye.boxes import areas_of
from cgeartheye.metrics.detection.average_precision import COCO_RECALLS, precision_at
from cgeartheye.metrics.detection.errors import KINDS, BoxErrors, Kind, find_errors
from cgeartheye.metrics.detection.matching import NOBODY, RIGHT, WRONG
from cgeartheye.metrics.detection.metrics import THRESHOLDS, DetectionMetrics
from cgeartheye.reports import box_charts
from cgeartheye.reports.charts import BLUE, GREEN, ORANGE, PURPLE, SOFT
from cgeartheye.reports.draw_boxes import (
    KIND_COLORS,
    LEGEND,
    MISSED,
    PANEL,
    crop_picture,
    outcome_picture,
)
from cgeartheye.reports.examples import worst_typical_best
from cgeartheye.reports.html import Cell, Picture, Report
from cgeartheye.reports.sections import (
    Record,
    add_classes,
    add_figures,
    add_run,
    add_training,
    frequent_confusions,
)
from cgeartheye.utils.fonts import writable

Array = np.ndarray

GALLERY = 12  # crops of a kind
CHARTS = 24  # classes with a curve of their own
YELLOW = "#e69f00"

_CHART_COLORS = {
    Kind.RIGHT: GREEN,
    Kind.CLASS: PURPLE,
    Kind.PLACE: BLUE,
    Kind.DUPLICATE: YELLOW,
    Kind.BACKGROUND: ORANGE,
}


def detection_report(
    path: Path,
    *,
    title: str,
    classes: Sequence[str],
    metrics: DetectionMetrics,
    history: Sequence[Record],
    names: Sequence[str],
    load_image: Callable[[int], Array],
    config_yaml: str,
    environment: Mapping[str, str],
    part: str = "",
    verdict: Sequence[str] = (),
) -> None:
    """Write the report of a detector.

    Args:
        path: of the report.
        title: name of the run.
        classes: names by index, K of them.
        metrics: over the tested images.
        history: records of `metrics.jsonl`; none for a test without a training.
        names: of the images, by the numbers that `metrics` has of them.
        load_image: returns an image by its number, uint8 `[H, W, 3]`.
        config_yaml: the resolved config.
        environment: versions, device, time.
        part: of the data that was tested.
        verdict: sentences on what was not learned.

    Raises:
        UserError: an image cannot be read, the report cannot be written.
    """
    errors = find_errors(metrics)
    tested = metrics.tested
    form = "oriented" if metrics.oriented else "horizontal"
    counted = (
        f"{len(tested.images):,} images · {np.count_nonzero(~tested.ignored):,} objects · "
        f"{len(classes)} classes"
    )
    report = Report(title, f"Object detection, {form} boxes · {counted}")
    add_figures(report, metrics.compute(), part, verdict)
    add_training(report, history, {"ap50": "AP at 0.5", "ap": "AP at 0.5 to 0.95"})
    threshold = metrics.score_threshold
    add_classes(
        report,
        metrics.per_class(classes),
        by="AP50",
        bars=["AP50"],
        note="AP50: the average precision at an overlap of 0.5; AP: its mean at overlaps of 0.5 to "
        f"0.95. Precision: the share of the boxes with a score of {threshold:.2f} or more that are "
        "right at an overlap of 0.5; recall: the share of the objects that are found so. From that "
        "score on, precision and recall of all classes together are balanced best (F1).",
    )
    _add_curves(report, metrics, classes)
    _add_errors(report, errors, classes)
    _add_examples(report, errors, classes, names, load_image)
    add_run(report, environment, config_yaml)
    report.write(path)


def _add_curves(report: Report, metrics: DetectionMetrics, classes: Sequence[str]) -> None:
    known = [outcome for outcome in metrics.outcomes if outcome.support > 0]
    if not known:
        return
    report.section(
        "Precision and recall",
        "What is gained in recall by taking boxes of lower scores too costs precision.",
    )
    means = {
        f"overlap {THRESHOLDS[at]:.2f}": np.mean(
            [precision_at(outcome.curve(at), COCO_RECALLS) for outcome in known], axis=0
        )
        for at in (0, 5, 8)
    }
    outcomes = np.concatenate([outcome.outcomes[0] for outcome in metrics.outcomes])
    scores = np.concatenate([outcome.scores for outcome in metrics.outcomes])
    histogram = box_charts.scores(
        scores[outcomes == RIGHT], scores[outcomes == WRONG], metrics.score_threshold
    )
    report.charts(
        {
            "Mean over the classes": box_charts.mean_curves(means),
            "Scores, and the one from which on boxes count below": histogram,
        }
    )
    rows = metrics.per_class(classes)
    order = np.argsort([float(row["AP50"]) for row in rows], kind="stable").tolist()
    curves = {
        classes[k]: (metrics.outcomes[k].curve(), float(rows[k]["AP50"]))
        for k in order
        if metrics.outcomes[k].support > 0
    }
    shown = dict(list(curves.items())[:CHARTS])
    which = "Classes" if len(shown) == len(curves) else f"The {CHARTS} classes of lowest AP50"
    caption = f"{which}, AP50 beside the name; dots are at a score of {metrics.score_threshold:.2f}"
    report.charts({caption: box_charts.class_curves(shown, metrics.score_threshold)})


def _add_errors(report: Report, errors: BoxErrors, classes: Sequence[str]) -> None:
    threshold = errors.metrics.score_threshold
    report.section(
        "Errors",
        f"Of boxes with a score of {threshold:.2f} or more, at an overlap of 0.5. Wrong class: on "
        "an object of another class. Wrong place: beside an object of its class (overlap 0.1 to "
        "0.5). Duplicate: on an object that a better box found. Background: the rest.",
    )
    found, missed = errors.by_class, errors.missed_by_class
    objects = np.array([outcome.support for outcome in errors.metrics.outcomes])
    some = np.flatnonzero(found.sum(1) + objects)
    order = some[np.argsort(-(found[some, 1:].sum(1) + missed[some]), kind="stable")]
    if not len(order):
        return
    parts = {KINDS[kind]: (found[order, kind], _CHART_COLORS[kind]) for kind in Kind}
    listed = [classes[k] for k in order]
    of_objects = {
        "found": (objects[order] - missed[order], GREEN),
        "missed": (missed[order], SOFT),
    }
    report.charts(
        {
            "Boxes found, by what they are": box_charts.stacked_bars(listed, parts, "boxes"),
            "Objects": box_charts.stacked_bars(listed, of_objects, "objects"),
        }
    )
    report.heading(
        "Objects by size",
        "Small: an area under 32 × 32 pixels; large: over 96 × 96 pixels; of the images as their "
        "files are.",
    )
    sizes: list[list[Cell]] = [
        [name, hits, misses, 100 * hits / (hits + misses) if hits + misses else float("nan")]
        for name, (hits, misses) in errors.by_size().items()
    ]
    report.table(["size", "found", "missed", "recall"], sizes, bars=["recall"])
    confusions = frequent_confusions(errors.confusions(), classes, objects)
    if confusions:
        report.heading("Most frequent confusions")
        report.table(["true class", "taken for", "boxes", "% of the objects"], confusions)


def _add_examples(
    report: Report,
    errors: BoxErrors,
    classes: Sequence[str],
    names: Sequence[str],
    load_image: Callable[[int], Array],
) -> None:
    tested = errors.metrics.tested
    right, false, missed = errors.by_image.T
    # An image in which there is nothing to find and nothing found has nothing to show.
    # Of equally many errors those beside more right boxes are better.
    merit = right / (right + 1.0) - (false + missed)
    figure = np.where(right + false + missed > 0, merit, np.nan)
    report.section(
        "Examples",
        "Worst are those with the most errors. The names are those of the predicted class, and of "
        "the true one where an object was missed.",
    )
    report.legend(LEGEND)
    pairs = zip(writable(classes), classes, strict=True)
    numbered = {shown: name for shown, name in pairs if shown != name}
    if numbered:
        report.heading("Names by number", "No font of the machine has their letters.")
        report.facts(numbered)

    @lru_cache(maxsize=4)
    def image_at(place: int) -> Array:
        return load_image(int(tested.images[place]))

    def drawn(places: Iterable[int]) -> Iterable[Picture]:
        for place in places:
            caption = f"{right[place]} right · {false[place]} false · {missed[place]} missed"
            picture = outcome_picture(image_at(place), errors, place, classes)
            yield Picture(picture, caption, names[int(tested.images[place])])

    for heading, places in worst_typical_best(figure).items():
        report.heading(heading)
        report.pictures(drawn(places), width=PANEL // 2)

    report.section(
        "Errors from near",
        "The most certain of each kind, with their scores. Dashed in white: the true box.",
    )

    def crops(found: Array, color: tuple[int, int, int]) -> Iterable[Picture]:
        for box in found.tolist():
            place, partner = int(tested.found_images[box]), int(errors.partners[box])
            caption = f"{classes[tested.labels[box]]} {tested.scores[box]:.2f}"
            true = None
            if partner != NOBODY:
                true = torch.from_numpy(tested.true_boxes[partner])
                if tested.true_labels[partner] != tested.labels[box]:
                    caption += f" · is {classes[tested.true_labels[partner]]}"
            own = torch.from_numpy(tested.boxes[box])
            picture = crop_picture(image_at(place), own, color, true, dashed=False)
            yield Picture(picture, caption, names[int(tested.images[place])])

    for kind in list(Kind)[1:]:
        rows = np.flatnonzero(errors.kinds == kind)
        best = rows[np.argsort(-tested.scores[rows], kind="stable")[:GALLERY]]
        if len(best):
            report.heading(KINDS[kind].capitalize())
            report.pictures(crops(best, KIND_COLORS[kind]))

    true_images = np.repeat(np.arange(len(tested.images)), tested.true_counts)

    def misses(true: Array) -> Iterable[Picture]:
        for box in true.tolist():
            place = int(true_images[box])
            own = torch.from_numpy(tested.true_boxes[box])
            picture = crop_picture(image_at(place), own, MISSED, None, dashed=True)
            yield Picture(
                picture, classes[tested.true_labels[box]], names[int(tested.images[place])]
            )

    rows = np.flatnonzero(errors.missed)
    if len(rows):
        areas = areas_of(torch.from_numpy(tested.true_boxes[rows])).numpy()
        evenly = np.unique(np.linspace(0, len(rows) - 1, GALLERY).astype(int))
        report.heading("Missed", "From the smallest to the largest.")
        report.pictures(misses(rows[np.argsort(areas, kind="stable")[evenly]]))
