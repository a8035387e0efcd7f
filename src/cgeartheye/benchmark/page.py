"""The page of a finished table."""

import math
from pathlib import Path

import torch
import yaml

from cgeartheye.benchmark.grid import LEGEND, GridCell, failures, provenance, rows
from cgeartheye.benchmark.summary import SIGNIFICANT, Summary
from cgeartheye.reports.cost_chart import costs
from cgeartheye.reports.html import Cell, Link, Report
from cgeartheye.reports.sections import FIGURES
from cgeartheye.training.run_dir import environment


def write_page(summary: Summary, path: Path) -> None:
    """Write `report.html`.

    Args:
        summary: of the cells.
        path: of the page.
    """
    plan = summary.plan
    done = sum(len(entry.values) for entry in summary.entries.values())
    report = Report(
        f"Benchmark {summary.out.name}",
        f"{len(plan.table.backbones)} backbones · {len(plan.table.datasets)} data sets · "
        f"{len(plan.table.protocols)} protocols · {len(plan.table.seeds)} seeds · "
        f"{done} of {len(plan.cells)} cells",
    )
    for name, sentence in failures(summary).items():
        report.warning(sentence if name in plan.missing else f"{name}: {sentence}")
    _figures(report, summary)
    _ranks(report, summary)
    _comparisons(report, summary)
    _costs(report, summary)
    report.section("What these figures stand on")
    report.facts(provenance(summary))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report.facts(environment(device))
    text = yaml.safe_dump(
        plan.table.model_dump(mode="json", exclude_defaults=True), sort_keys=False
    )
    report.code("table.yaml", text)
    report.write(path)


def _figures(report: Report, summary: Summary) -> None:
    def shown(cell: GridCell) -> Cell | Link:
        target = cell.link(summary.out)
        return Link(cell.full, target, strong=cell.best) if target else cell.full

    report.section("Figures", f"{LEGEND} A click on a figure opens the report of its first run.")
    kinds = {name: FIGURES.get(summary.figure(name), "") for name in summary.datasets}
    columns = [f"{name} {kind}".strip() for name, kind in kinds.items()]
    report.table(
        ["protocol", "backbone", *columns],
        [[row.protocol, row.backbone, *map(shown, row.cells)] for row in rows(summary)],
    )


def _ranks(report: Report, summary: Summary) -> None:
    found: list[list[Cell | Link]] = []
    for protocol in summary.plan.table.protocols:
        for backbone, ranks in summary.ranks(protocol).items():
            if ranks and len(summary.ranks(protocol)) > 1:
                mean = sum(ranks) / len(ranks)
                found.append([protocol, backbone, mean, ranks.count(1.0), len(ranks)])
    if found:
        report.section(
            "Ranks", "1 is the best; over the data sets on which all backbones have a figure."
        )
        report.table(["protocol", "backbone", "mean rank", "times first", "data sets"], found)


def _comparisons(report: Report, summary: Summary) -> None:
    if not summary.comparisons:
        return
    report.section(
        "Differences",
        "Points by which the second is ahead of the first, and how often chance alone makes as "
        "large a difference: of each test image the outcomes of the two are swapped at random. "
        f"Adjusted for all pairs of a protocol and data set (Holm); below {SIGNIFICANT} a "
        "difference is no chance. The test images are resampled, not the training.",
    )
    least = 1 / (summary.plan.table.resamples + 1)
    report.table(
        ["protocol", "data set", "first", "second", "points", "p", "more than chance"],
        [
            [
                *(one.protocol, one.dataset, one.one, one.other, one.difference),
                f"{one.p_value:.4f}" if one.p_value > least else f"≤ {least:.4f}",
                "yes" if one.p_value < SIGNIFICANT else "no",
            ]
            for one in summary.comparisons
        ],
    )


def _costs(report: Report, summary: Summary) -> None:
    report.section(
        "Costs",
        "Milliseconds an image takes through the backbone (batches of 8), seconds of encoding the "
        "data set once for all protocols and seeds, seconds of a cell after that with its test and "
        "report, the peak memory of a cell, and what is trained.",
    )
    names = list(summary.plan.table.protocols)
    for number, what in enumerate(("encoding, ms an image", "backbone, million parameters")):
        drawn = {}
        for dataset in summary.datasets:
            points = {}
            for (protocol, backbone, found), entry in summary.entries.items():
                cost = entry.parameters / 1e6 if number else entry.encode_ms
                if found == dataset and not math.isnan(entry.mean) and not math.isnan(cost):
                    points[protocol, backbone] = (cost, entry.mean)
            if points:
                kind = FIGURES.get(summary.figure(dataset), "")
                drawn[f"{dataset}: {kind} against {what}"] = costs(points, what, names)
        if drawn:
            report.charts(drawn)
    if not summary.entries:
        return
    columns = ["protocol", "backbone", "data set", "ms an image", "encoding s", "cell s"]
    columns += ["memory MB", "trained parameters", "backbone parameters"]
    report.table(
        columns,
        [
            [
                *(protocol, backbone, dataset),
                *(entry.encode_ms, entry.encode_seconds, entry.seconds, entry.memory / 1e6),
                *(entry.learned, entry.parameters),
            ]
            for (protocol, backbone, dataset), entry in summary.entries.items()
        ],
    )
