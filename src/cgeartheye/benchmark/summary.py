"""Means over seeds of a table's cells, intervals, ranks and comparisons."""

import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from cgeartheye.benchmark.cells import BenchmarkCell, Plan, published
from cgeartheye.benchmark.worker import FEATURES, RECORD, Record, no_figure, read_record
from cgeartheye.metrics.resampling import (
    Outcomes,
    bootstrap,
    can_resample,
    holm,
    permutation_p_value,
)
from cgeartheye.tasks.outcomes import read_outcomes
from cgeartheye.utils.console import bar

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Entry:
    """Results of the seeds of a backbone and a protocol on a data set.

    Attributes:
        figure: the key of what is compared.
        values: in percent, a seed each; none where they failed.
        errors: sentences of the seeds that failed.
        low: of the 95 % interval over test images; NaN where there is none.
        high: the other end.
        seconds: mean of a cell, without encoding; NaN where all were resumed.
        memory: peak of a cell, bytes.
        learned: parameters that the protocol trains.
        parameters: of the backbone.
        encode_ms: milliseconds an image takes through the backbone.
        encode_seconds: of the data set, once for all protocols and seeds.
        folder: of the first cell that succeeded, else of the first.
    """

    figure: str
    values: tuple[float, ...]
    errors: tuple[str, ...]
    low: float
    high: float
    seconds: float
    memory: int
    learned: int
    parameters: int
    encode_ms: float
    encode_seconds: float
    folder: Path

    @property
    def mean(self) -> float:
        """Mean over the seeds; NaN without any."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; NaN of fewer than two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan


@dataclass(frozen=True)
class Comparison:
    """Two backbones by one protocol on one data set.

    Attributes:
        difference: of the second from the first, in points.
        p_value: adjusted for all pairs of the protocol and data set (Holm).
    """

    protocol: str
    dataset: str
    one: str
    other: str
    difference: float
    p_value: float


@dataclass(frozen=True)
class Summary:
    """A finished table.

    Attributes:
        plan: the table and its cells.
        out: folder of the benchmark.
        entries: by protocol, backbone and data set.
        comparisons: of all pairs of backbones.
    """

    plan: Plan
    out: Path
    entries: dict[tuple[str, str, str], Entry]
    comparisons: list[Comparison]

    @property
    def datasets(self) -> list[str]:
        """Names of the columns."""
        return list(self.plan.table.datasets)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Protocol and backbone of each row."""
        table = self.plan.table
        found = {(protocol, backbone) for protocol, backbone, _ in self.entries}
        return [(p, b) for p in table.protocols for b in table.backbones if (p, b) in found]

    def figure(self, dataset: str) -> str:
        """Return the key of what is compared on a data set; empty where nothing is."""
        found = (e.figure for (_, _, name), e in self.entries.items() if name == dataset)
        return next(found, "")

    def best(self, protocol: str, dataset: str) -> float:
        """Return the highest mean of a protocol on a data set; NaN without any."""
        means = [e.mean for (p, _, d), e in self.entries.items() if (p, d) == (protocol, dataset)]
        known = [mean for mean in means if mean == mean]
        return max(known, default=math.nan)

    def ranks(self, protocol: str) -> dict[str, list[float]]:
        """Return each backbone's rank on each data set where all of them have a figure.

        1 is the best; equals share the mean of their ranks.
        """
        backbones = [backbone for p, backbone in self.rows if p == protocol]
        ranks: dict[str, list[float]] = {backbone: [] for backbone in backbones}
        for dataset in self.datasets:
            entries = [self.entries.get((protocol, b, dataset)) for b in backbones]
            means = [entry.mean if entry else math.nan for entry in entries]
            if not any(map(math.isnan, means)):
                for backbone, rank in zip(backbones, rankdata(np.negative(means)), strict=True):
                    ranks[backbone].append(float(rank))
        return ranks


def published_figure(plan: Plan, dataset: str, kind: str) -> float:
    """Return the published figure of a column; NaN where there is none.

    Args:
        plan: of the table.
        dataset: name of the column.
        kind: `frozen` or `best`.
    """
    name = plan.table.datasets[dataset].published
    return float(published()[name].get(kind, math.nan)) if name else math.nan


def summarize(plan: Plan, out: Path) -> Summary:
    """Return what the records of a table's cells come to.

    Args:
        plan: its cells.
        out: folder of the benchmark.
    """
    groups: dict[tuple[str, str, str], list[BenchmarkCell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.protocol, cell.backbone, cell.dataset), []).append(cell)
    draws = plan.table.resamples
    outcomes = {key: _outcomes(cells) for key, cells in groups.items()}
    entries: dict[tuple[str, str, str], Entry] = {}
    compared: list[Comparison] = []
    with bar("resampling", len(groups), "entries") as progress:
        for key, cells in groups.items():
            entries[key] = _entry(cells, outcomes[key], draws)
            progress.advance()
        for protocol in plan.table.protocols:
            for dataset in plan.table.datasets:
                names = [b for p, b, d in groups if (p, d) == (protocol, dataset)]
                found = {b: outcomes[protocol, b, dataset] for b in names}
                figures = {b: entries[protocol, b, dataset] for b in names}
                compared += _compared(protocol, dataset, figures, found, draws)
    return Summary(plan, out, entries, compared)


def _record(cell: BenchmarkCell) -> Record:
    record = read_record(cell.folder / RECORD) or {"error": "it has not been run"}
    if cell.figure not in record.get("figures", [cell.figure]):
        return {"error": no_figure(cell, record["figures"])}
    return record


def _outcomes(cells: list[BenchmarkCell]) -> dict[int, Outcomes]:
    """Return the outcomes of each seed that has any."""
    found = {}
    for cell in cells:
        values = read_outcomes(cell.folder) if "figures" in _record(cell) else None
        if values is not None and can_resample(cell.figure, values):
            found[cell.seed] = values
    return found


def _entry(cells: list[BenchmarkCell], outcomes: dict[int, Outcomes], draws: int) -> Entry:
    records = [_record(cell) for cell in cells]
    good = [n for n, record in enumerate(records) if "figures" in record]
    figure, features = cells[0].figure, read_record(cells[0].folder.parent / FEATURES) or {}
    values = [records[n]["figures"][figure] for n in good]
    low, high = math.nan, math.nan
    if outcomes:
        low, high = bootstrap(figure, list(outcomes.values()), draws)
    whole = [records[n]["seconds"] for n in good if not records[n]["resumed"]]
    return Entry(
        figure,
        tuple(math.nan if value is None else float(value) for value in values),
        tuple(record["error"] for record in records if "error" in record),
        low,
        high,
        float(np.mean(whole)) if whole else math.nan,
        max((records[n]["memory_bytes"] for n in good), default=0),
        features.get("learned", {}).get(cells[0].protocol, 0),
        features.get("parameters", 0),
        features.get("encode_ms", math.nan),
        sum(features["encode_seconds"].values()) if "encode_seconds" in features else math.nan,
        cells[good[0] if good else 0].folder,
    )


def _compared(
    protocol: str,
    dataset: str,
    entries: dict[str, Entry],
    outcomes: dict[str, dict[int, Outcomes]],
    draws: int,
) -> list[Comparison]:
    """Compare all pairs of backbones, by the seeds that both have."""
    found = []
    for one, other in combinations(entries, 2):
        seeds = [seed for seed in outcomes[one] if seed in outcomes[other]]
        if seeds:
            pair = [[outcomes[name][seed] for seed in seeds] for name in (one, other)]
            p_value = permutation_p_value(entries[one].figure, pair[0], pair[1], draws)
            found.append((one, other, p_value))
    adjusted = holm([p_value for *_, p_value in found])
    return [
        Comparison(protocol, dataset, one, other, entries[other].mean - entries[one].mean, p_value)
        for (one, other, _), p_value in zip(found, adjusted, strict=True)
    ]
