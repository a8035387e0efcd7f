"""The sections that reports of all tasks have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cgeartheye.reports import charts
from cgeartheye.reports.html import Cell, Report

Array = np.ndarray
Record = Mapping[str, Any]

FIGURES = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "mean_accuracy": "mean class accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    "miou": "mean IoU",
    "mf1": "mean F1",
    "accuracy": "pixel accuracy",
    "boundary_f1": "boundary F1",
    "f1": "F1 of changed",
    "iou": "IoU of changed",
    "precision": "precision of changed",
    "recall": "recall of changed",
    "ap": "AP at 0.5 to 0.95",
    "ap50": "AP at 0.5",
    "ap75": "AP at 0.75",
    "ap_11": "AP at 0.5 to 0.95, 11 points",
    "ap50_11": "AP at 0.5, 11 points",
    "ap_small": "AP of small objects",
    "ap_medium": "AP of medium objects",
    "ap_large": "AP of large objects",
    "ar": "average recall",
}


def add_figures(
    report: Report, figures: Mapping[str, float], part: str = "", verdict: Sequence[str] = ()
) -> None:
    """Add the figures of a test.

    Args:
        report: to add to.
        figures: in percent, by their names in `FIGURES`; what is not defined is left out.
        part: of the data that they are of.
        verdict: sentences on what was not learned.
    """
    known = {FIGURES[name]: f"{value:.2f} %" for name, value in figures.items() if value == value}
    report.figures(known)
    if part:
        report.note(f"Measured on the {part}.")
    for sentence in verdict:
        report.warning(sentence)


def select_records(history: Sequence[Record], kind: str, *fields: str) -> list[Record]:
    """Return the records of a kind; damaged ones, which lack one of the fields, are left out."""
    return [record for record in history if record["kind"] == kind and record.keys() >= {*fields}]


def add_training(report: Report, history: Sequence[Record], watched: Mapping[str, str]) -> None:
    """Add the curves of a training; nothing where there was none.

    Args:
        report: to add to.
        history: records of `metrics.jsonl`.
        watched: names of validation figures in percent and how a chart calls them; the highest
            value of the first marks the best model.
    """
    if not history:
        return
    train = select_records(history, "train", "epoch", "loss", "lr", "images_per_s")
    val = select_records(history, "val", "epoch", *watched)

    def draw(records: Sequence[Record], names: Mapping[str, str], smooth: bool = False) -> str:
        epochs = [record["epoch"] for record in records]
        lines = {label: (epochs, [r[name] for r in records]) for name, label in names.items()}
        return charts.curves(lines, "epoch", smooth)

    drawn = {}
    if train:
        drawn["Training loss"] = draw(train, {"loss": "loss"}, smooth=True)
    if val:
        first, label = next(iter(watched.items()))
        best = max(val, key=lambda record: record[first])
        caption = f"Validation: best {label} {best[first]:.2f} % after epoch {best['epoch']}"
        drawn[caption] = draw(val, {name: f"{label} %" for name, label in watched.items()})
    if train:
        drawn["Learning rate"] = draw(train, {"lr": "learning rate"})
        drawn["Speed"] = draw(train, {"images_per_s": "images/s"}, smooth=True)
    report.section("Training")
    report.charts(drawn)


def add_classes(
    report: Report, rows: Sequence[Mapping[str, Cell]], by: str, bars: Sequence[str], note: str
) -> None:
    """Add the table of the classes.

    Args:
        report: to add to.
        rows: those of `per_class`.
        by: the column that sorts them, the lowest first, what is not defined last.
        bars: columns that are also drawn.
        note: what the columns mean.
    """
    report.section("Classes", f"{note} A click on a column's name sorts by it.")
    order = np.argsort([float(row[by]) for row in rows], kind="stable")  # NaN comes last
    report.table(list(rows[0]), [list(rows[i].values()) for i in order], bars=bars)


def add_confusions(report: Report, counts: Array, classes: Sequence[str], unit: str) -> None:
    """Add the confusion matrix.

    Args:
        report: gets a section.
        counts: int `[K, K]`, a row for each true class.
        classes: names by index.
        unit: that is counted, `images` or `pixels`.
    """
    report.section("Confusions")
    caption = f"Each row holds all {unit} of a true class; a stronger color is more of them"
    as_shares = unit == "pixels"  # too many to be written
    if as_shares:
        caption += " (in percent)"
    report.charts({caption: charts.confusion_matrix(counts, classes, as_shares)})
    confusions = frequent_confusions(counts, classes, counts.sum(1))
    if confusions:
        report.heading("Most frequent confusions")
        report.table(["true class", "taken for", unit, "% of the class"], confusions)


def add_run(report: Report, environment: Mapping[str, str], config_yaml: str) -> None:
    """Add the environment and the config of the run.

    Args:
        report: gets a section.
        environment: versions, device and time, by label.
        config_yaml: the resolved config.
    """
    report.section("Run")
    report.facts(environment)
    report.code("config.yaml", config_yaml)


def frequent_confusions(counts: Array, classes: Sequence[str], totals: Array) -> list[list[Cell]]:
    """Return the ten most frequent: true class, predicted class, count, percent of the class.

    Args:
        counts: int `[K, K]`, a row for each true class.
        classes: K names.
        totals: what 100 % of each true class is, `[K]`.
    """
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:10]
    return [
        [
            classes[row],
            classes[column],
            int(wrong[row, column]),
            100 * float(wrong[row, column] / max(1, totals[row])),
        ]
        for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[row, column]
    ]
