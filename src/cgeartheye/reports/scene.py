"""Report of a model of scenes: as `report.html` and for the terminal."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from cgeartheye.metrics.classification import ClassificationMetrics, ConfusionMatrix
from cgeartheye.reports import charts
from cgeartheye.reports.html import Cell, Picture, Report, as_text
from cgeartheye.reports.sections import (
    FIGURES,
    Record,
    add_classes,
    add_confusions,
    add_figures,
    add_run,
    add_training,
)

Array = np.ndarray

GALLERY = 12  # images of a kind
SURE = 0.5  # confidence from which on a mistake is worth a look at its label
PATCHES = 280  # pixels a side of a picture of patch features


def scene_report(
    path: Path,
    *,
    title: str,
    classes: Sequence[str],
    metrics: ClassificationMetrics,
    history: Sequence[Record],
    probabilities: Array,
    labels: Array,
    names: Sequence[str],
    load_image: Callable[[int], Array],
    embedding: Array | None,
    feature_views: Array,
    feature_maps: Array,
    config_yaml: str,
    environment: Mapping[str, str],
    part: str = "",
    verdict: Sequence[str] = (),
) -> None:
    """Write the report of a scene classifier.

    Args:
        path: of the report.
        title: name of the run.
        classes: names by index, K of them.
        metrics: over the N tested images.
        history: records of `metrics.jsonl`; none for a test without a training.
        probabilities: `[N, K]`.
        labels: int `[N]`.
        names: of the images, N of them.
        load_image: returns an image by its index, uint8 `[H, W, 3]`.
        embedding: class tokens `[N, C]`, or none.
        feature_views: a few images as the network sees them, uint8 `[B, S, S, 3]`.
        feature_maps: their patch features `[B, C, h, w]`.
        config_yaml: the resolved config.
        environment: versions, device, time.
        part: of the data that was tested.
        verdict: sentences on what was not learned.

    Raises:
        UserError: an image cannot be read, the report cannot be written.
    """
    counted = f"{len(labels):,} images · {len(classes)} classes"
    report = Report(title, f"Scene classification · {counted}")
    figures = metrics.compute()
    if len(classes) <= 5:
        del figures["top5"]
    add_figures(report, figures, part, verdict)
    add_training(report, history, {"top1": "top-1", "macro_f1": "macro F1"})
    add_classes(
        report,
        metrics.per_class(classes),
        by="accuracy",
        bars=["accuracy"],
        note="Accuracy: the share of a class's images that are recognised (recall). Precision: the "
        "share of the images taken for it that are right.",
    )
    add_confusions(report, metrics.confusion.counts.numpy(), classes, "images")

    report.section(
        "Calibration",
        "Confidences are calibrated where accuracy meets the dashed line: of the images "
        "classified with 80 %, 80 % are right.",
    )
    report.charts({"Accuracy by confidence": charts.reliability(*metrics.calibration())})

    report.section("Examples", "Each with its predicted class and confidence.")
    for (kind, note), indices in _examples(probabilities, labels).items():
        report.heading(kind, note)
        report.pictures(_pictures(indices, probabilities, labels, classes, names, load_image))

    if embedding is not None and len(embedding) > 3:
        report.section(
            "Class tokens",
            "The tested images in two dimensions (t-SNE): images near each other look alike to the "
            "backbone.",
        )
        shown, places = charts.embed(embedding)
        caption = f"Class tokens of {len(shown):,} images"
        report.charts({caption: charts.embedding(places, labels[shown], classes)})
    if len(feature_maps):
        report.section(
            "Patch features",
            "The first three principal components of the patch features as red, green and blue, "
            "taken over these images together: equal colors mean equal features.",
        )
        features = charts.patch_features(feature_maps, PATCHES)
        pairs = map(charts.beside, feature_views, features)
        report.pictures((Picture(pair) for pair in pairs), width=330)

    add_run(report, environment, config_yaml)
    report.write(path)


def probe_report(
    path: Path,
    title: str,
    figures: Mapping[str, float],
    confusions: Mapping[str, ConfusionMatrix],
    classes: Sequence[str],
    environment: Mapping[str, str],
    config_yaml: str,
) -> None:
    """Write the report of probes of a frozen backbone.

    Args:
        path: of the report.
        title: name of the run.
        figures: top-1 accuracies in percent, by probe.
        confusions: of each probe, over all of its draws.
        classes: names by index.
        environment: versions, device and time, by label.
        config_yaml: the resolved config.
    """
    report = Report(title, f"Probes of a frozen backbone · {len(classes)} classes")
    report.section("Accuracy", "Top-1 on the test part. Nothing was chosen on it.")
    report.table(
        ["probe", "top-1 %"], [[name, figure] for name, figure in figures.items()], ["top-1 %"]
    )
    best = max(figures, key=lambda name: figures[name])
    report.note(f"What follows is of the best of them: {best}.")
    counts = confusions[best].counts.numpy()
    add_confusions(report, counts, classes, "images")
    add_run(report, environment, config_yaml)
    report.write(path)


def summary_table(figures: Mapping[str, float]) -> Table:
    """Lay figures in percent out for the terminal."""
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in figures.items():
        table.add_row(FIGURES.get(name, name), "–" if math.isnan(value) else f"{value:.2f} %")
    return table


def class_table(rows: Sequence[Mapping[str, Cell]]) -> Table:
    """Lay the rows of `per_class` out for the terminal."""
    table = Table()
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(escape(as_text(value)) for value in row.values()))
    return table


def _examples(probabilities: Array, labels: Array) -> dict[tuple[str, str], Array]:
    """Return the indices of images that are worth a look, by kind and note."""
    right = probabilities.argmax(1) == labels
    ranked = np.argsort(-probabilities.max(1), kind="stable")
    best = ranked[right[ranked]]
    best_of_class = best[np.sort(np.unique(labels[best], return_index=True)[1])]
    mistakes = ranked[~right[ranked]][:GALLERY]
    sure = len(mistakes) > 0 and probabilities[mistakes[0]].max() > SURE
    note = "Often a doubtful label." if sure else "None above 50 %: no sign of a doubtful label."
    kinds = {
        ("Most certain mistakes", note): mistakes,
        ("Least certain", "The lowest confidences, right or wrong, of the other images."): ranked[
            ~np.isin(ranked, mistakes)
        ][::-1],
        ("Most certain", "The most confident right answer of each class."): best_of_class,
    }
    return {kind: indices[:GALLERY] for kind, indices in kinds.items() if len(indices)}


def _pictures(
    indices: Array,
    probabilities: Array,
    labels: Array,
    classes: Sequence[str],
    names: Sequence[str],
    load_image: Callable[[int], Array],
) -> Iterable[Picture]:
    for index in indices.tolist():
        predicted, truth = int(probabilities[index].argmax()), int(labels[index])
        caption = f"{classes[predicted]} {100 * probabilities[index, predicted]:.1f}\u00a0%"
        if predicted != truth:
            caption += f" · is {classes[truth]}"
        yield Picture(load_image(index), caption, names[index], predicted == truth)
