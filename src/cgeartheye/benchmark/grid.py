"""A finished table as rows of texts, which every format draws in its own way."""

import math
from dataclasses import dataclass
from pathlib import Path

from cgeartheye.benchmark.summary import SIGNIFICANT, Entry, Summary, published_figure

LEGEND = (
    "Percent: mean ± standard deviation over seeds [95 % bootstrap interval over the test images]. "
    "Bold: the best of a protocol; ≈: no sure difference from it (paired permutation test over the "
    f"test images, Holm's correction, p ≥ {SIGNIFICANT}). Nothing was chosen on a test part."
)
_PUBLISHED = {"frozen": "published, frozen", "best": "published, best"}


@dataclass(frozen=True)
class GridCell:
    """A cell as it is read.

    Attributes:
        text: its figure, or why there is none.
        interval: of it, or nothing.
        best: whether no other of its protocol is better.
        run: folder of its run, if it has one.
    """

    text: str
    interval: str = ""
    best: bool = False
    run: Path | None = None

    @property
    def full(self) -> str:
        """The text with its interval."""
        return f"{self.text} {self.interval}".strip()

    def link(self, out: Path) -> str:
        """Return the report of its run, as seen from the folder of the benchmark."""
        if self.run is None:
            return ""
        pages = (self.run / name for name in ("report.html", "probe.html"))
        return next(filter(Path.exists, pages), self.run).relative_to(out).as_posix()


@dataclass(frozen=True)
class GridRow:
    """A row as it is read.

    Attributes:
        protocol: its name.
        backbone: its name.
        cells: a data set each.
        rank: mean rank over the data sets, or nothing.
    """

    protocol: str
    backbone: str
    cells: list[GridCell]
    rank: str


def rows(summary: Summary) -> list[GridRow]:
    """Return the rows of a table, then those of the publication where it has figures."""
    found = []
    ranks = {protocol: summary.ranks(protocol) for protocol, _ in summary.rows}
    for protocol, backbone in summary.rows:
        cells = [_cell(summary, protocol, backbone, dataset) for dataset in summary.datasets]
        rank = ranks[protocol][backbone]
        mean = f"{sum(rank) / len(rank):.2f}" if rank else ""
        found.append(GridRow(protocol, backbone, cells, mean))
    for kind, name in _PUBLISHED.items():
        figures = [published_figure(summary.plan, dataset, kind) for dataset in summary.datasets]
        if not all(map(math.isnan, figures)):
            texts = ["" if math.isnan(figure) else f"{figure:.2f}" for figure in figures]
            found.append(GridRow(name, "CGEarthEye Giant", [GridCell(t) for t in texts], ""))
    return found


def failures(summary: Summary) -> dict[str, str]:
    """Return a sentence for each data set that is not here and each cell that failed."""
    found = dict(summary.plan.missing)
    for (protocol, backbone, dataset), entry in summary.entries.items():
        if entry.errors:
            found[f"{dataset}, {backbone}, {protocol}"] = entry.errors[0]
    return found


def provenance(summary: Summary) -> dict[str, str]:
    """Return the hashes that the figures stand on, by what they are of."""
    weights = {f"weights of {name}": text for name, text in summary.plan.weights.items()}
    return {"table": summary.plan.digest, **weights}


def _cell(summary: Summary, protocol: str, backbone: str, dataset: str) -> GridCell:
    entry = summary.entries.get((protocol, backbone, dataset))
    if entry is None:
        return GridCell("not here" if dataset in summary.plan.missing else "")
    if not entry.values:
        return GridCell("failed", run=entry.folder)
    best = summary.best(protocol, dataset)
    text = _figure(entry)
    if entry.mean < best and not _is_worse(summary, protocol, backbone, dataset):
        text = f"≈ {text}"
    if entry.errors:
        text += f", {len(entry.errors)} failed"
    interval = "" if math.isnan(entry.low) else f"[{entry.low:.1f}, {entry.high:.1f}]"
    return GridCell(text, interval, entry.mean == best, entry.folder)


def _figure(entry: Entry) -> str:
    if math.isnan(entry.mean):
        return "not defined"
    text = f"{entry.mean:.2f}"
    if not math.isnan(entry.deviation):
        text += f" ± {entry.deviation:.2f}"
    return text


def _is_worse(summary: Summary, protocol: str, backbone: str, dataset: str) -> bool:
    """Whether the best backbone is better by more than chance; so too where nothing was tested."""
    best = summary.best(protocol, dataset)
    for one in summary.comparisons:
        if (one.protocol, one.dataset) == (protocol, dataset) and backbone in (one.one, one.other):
            other = one.other if one.one == backbone else one.one
            if summary.entries[protocol, other, dataset].mean == best:
                return one.p_value < SIGNIFICANT
    return True
