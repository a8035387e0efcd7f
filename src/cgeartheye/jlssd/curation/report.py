"""Report of a curation: a map of the clusters as a contact sheet, and the balance it brought."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.table import Table

from cgeartheye.jlssd.curation.balanced_sampling import effective_number
from cgeartheye.jlssd.curation.hierarchical_kmeans import Hierarchy
from cgeartheye.jlssd.quality.filter import SHOWN, save_sheet, thumbnails
from cgeartheye.jlssd.quality.measures import Pixels
from cgeartheye.reports.html import Picture, Report
from cgeartheye.utils.console import bar, console, log_info
from cgeartheye.utils.io import write_json

CLUSTERS_SHOWN = 48  # coarse clusters on the contact sheet, the largest
KINDS = ("land_cover", "region")  # columns of the chips whose balance is reported, if they exist
ROWS_SHOWN = 12  # of a balance in the terminal
ROWS_ON_PAGE = 500  # the JSON has all

Array = np.ndarray


@dataclass(frozen=True)
class Curated:
    """Result of a curation; places are in the order of their names.

    Attributes:
        table: the chips, with new status and reason and the cluster of each level.
        names: of the places that came in.
        chips: the row in the table of each place's first chip.
        hierarchy: the clusters of places.
        kept: bool, of each place.
        repeats: the place that each place repeats, or -1.
    """

    table: pa.Table
    names: list[str]
    chips: Array
    hierarchy: Hierarchy
    kept: Array
    repeats: Array


@dataclass(frozen=True)
class Balance:
    """Numbers of places of each kind, before and after.

    Attributes:
        names: of the kinds, the most frequent before first.
        before: places, int `[K]`.
        after: places, int `[K]`.
    """

    names: list[str]
    before: Array
    after: Array

    @property
    def effective(self) -> tuple[float, float]:
        """Number of equally common kinds that would be as varied, before and after."""
        return effective_number(self.before), effective_number(self.after)

    def shares(self) -> list[tuple[str, int, int, float, float]]:
        """Return for each kind its name, places before and after, and percent of all."""
        before, after = (100 * n / max(1, n.sum()) for n in (self.before, self.after))
        columns = self.before.tolist(), self.after.tolist(), before.tolist(), after.tolist()
        return list(zip(self.names, *columns, strict=True))


def balance_of(kinds: Sequence[object], kept: Array) -> Balance:
    """Count places by kind.

    Args:
        kinds: of each place; None is "unknown".
        kept: bool, of each place.
    """
    names, which = np.unique(
        ["unknown" if kind is None else str(kind) for kind in kinds], return_inverse=True
    )
    before = np.bincount(which, minlength=len(names))
    after = np.bincount(which[kept], minlength=len(names))
    order = np.argsort(-before, kind="stable")
    return Balance(names[order].tolist(), before[order], after[order])


def balances_of(curated: Curated) -> dict[str, Balance]:
    """Return the balance by each of `KINDS`, then by clusters, the coarsest level first."""
    places = curated.table.take(pa.array(curated.chips))
    found = {
        name.replace("_", " "): balance_of(places[name].to_pylist(), curated.kept)
        for name in KINDS
        if name in places.column_names
    }
    levels = curated.hierarchy.labels
    for level in range(len(levels), 0, -1):
        found[f"cluster of level {level}"] = balance_of(levels[level - 1].tolist(), curated.kept)
    return found


def show(curated: Curated) -> None:
    """Print the balance."""
    for kind, balance in balances_of(curated).items():
        table = Table(kind, "before", "after", "before %", "after %")
        for column in table.columns[1:]:
            column.justify = "right"
        rows = balance.shares()
        for name, before, after, *shares in rows[:ROWS_SHOWN]:
            table.add_row(name, f"{before:,}", f"{after:,}", *(f"{share:.1f}" for share in shares))
        if len(rows) > ROWS_SHOWN:
            table.add_row(f"{len(rows) - ROWS_SHOWN:,} more", "", "", "", "")
        first, last = balance.effective
        table.add_section()
        table.add_row("as varied as", f"{first:.1f}", f"{last:.1f}", "", "")
        console.print(table)
    log_info(outcome(curated))


def outcome(curated: Curated) -> str:
    """Summarize the curation in a sentence."""
    duplicates = int((curated.repeats >= 0).sum())
    kept = int(curated.kept.sum())
    redundant = len(curated.names) - kept - duplicates
    return (
        f"{kept:,} of {len(curated.names):,} places kept, {duplicates:,} near-duplicates and "
        f"{redundant:,} redundant ones dropped"
    )


def write(curated: Curated, out: Path, source: Path) -> None:
    """Write `<stem>.jpg`, `<stem>.json` and `<stem>.html` beside the table.

    Args:
        curated: what was done.
        out: the table.
        source: the folder from which the paths of its chips lead.
    """
    strips = cluster_strips(curated, source)
    save_sheet(out.with_suffix(".jpg"), strips)
    balances = balances_of(curated)
    facts = {
        "places": len(curated.names),
        "kept": int(curated.kept.sum()),
        "duplicates": int((curated.repeats >= 0).sum()),
        "balance": {kind: as_json(balance) for kind, balance in balances.items()},
    }
    write_json(out.with_suffix(".json"), facts)
    report = Report("Curation", outcome(curated))
    add_balances(report, balances)
    report.section(
        "Clusters",
        "Coarse clusters, the largest first, with places before and after; each picture is the "
        "place in the middle of another of its fine clusters.",
    )
    for title, pictures in strips.items():
        report.heading(title)
        report.pictures([Picture(pixels) for pixels in pictures], width=96)
    report.write(out.with_suffix(".html"))


def add_balances(report: Report, balances: Mapping[str, Balance]) -> None:
    """Add a section on the balance to a page."""
    report.section(
        "Balance",
        "Places before and after curation. As varied as: how many equally common kinds would give "
        "the same entropy.",
    )
    report.table(
        ["by", "kinds", "as varied as, before", "after"],
        [[kind, len(b.names), *b.effective] for kind, b in balances.items()],
    )
    for kind, balance in balances.items():
        report.heading(f"By {kind}")
        report.table(
            [kind, "before", "after", "before %", "after %"],
            balance.shares()[:ROWS_ON_PAGE],
            bars=["before %", "after %"],
        )


def as_json(balance: Balance) -> dict[str, object]:
    """Return a balance as JSON values."""
    return {
        "as varied as": dict(zip(("before", "after"), balance.effective, strict=True)),
        "places": {name: [before, after] for name, before, after, *_ in balance.shares()},
    }


def cluster_strips(curated: Curated, source: Path) -> dict[str, list[Pixels]]:
    """Return pictures of coarse clusters: the place in the middle of each of some fine ones."""
    fine, coarse = curated.hierarchy.labels[0], curated.hierarchy.labels[-1]
    balance = balance_of(coarse.tolist(), curated.kept)
    paths = curated.table["path"]
    strips = {}
    shown = balance.shares()[:CLUSTERS_SHOWN]
    with bar("drawing", len(shown), "clusters") as progress:
        for name, before, after, *_ in shown:
            members = np.flatnonzero(coarse == int(name))
            members = members[np.argsort(curated.hierarchy.distances[members], kind="stable")]
            # The nearest place of each fine cluster, those of the largest clusters first.
            labels, first, sizes = np.unique(fine[members], return_index=True, return_counts=True)
            order = np.argsort(-sizes, kind="stable")[:SHOWN]
            middle = members[first[order]]
            if len(labels) < SHOWN:
                others = members[~np.isin(members, middle)]
                middle = np.concatenate([middle, others[: SHOWN - len(middle)]])
            rows = curated.chips[middle].tolist()
            title = f"cluster {name}: {before:,} -> {after:,} places"
            strips[title] = thumbnails([source / paths[row].as_py() for row in rows])
            progress.advance()
    return strips
