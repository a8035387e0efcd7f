"""Measures every chip, drops what is beyond a limit, and shows what each rule drops."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.table import Table
from scipy import ndimage

from cgeartheye.config import ChipQuality
from cgeartheye.data import read_image
from cgeartheye.data.checks.contact_sheet import contact_sheet
from cgeartheye.data.checks.image_stats import shrink
from cgeartheye.jlssd import resumable
from cgeartheye.jlssd.chips.worker import UNREADABLE
from cgeartheye.jlssd.quality.measures import MEASURES, Mask, Pixels, measure
from cgeartheye.jlssd.resumable import OK, claim, read_chips, set_column
from cgeartheye.jlssd.workers import spread
from cgeartheye.utils.console import bar, console, log_info
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_image

PART = 512  # chips; what a kill costs each process at most
HOLLOW = 5  # pixels; black that is nowhere so wide is a shadow and not nodata
SHOWN = 8  # chips of each rule on the contact sheet


@dataclass(frozen=True)
class Rule:
    """A limit of a measure.

    Attributes:
        status: what a chip beyond the limit is called.
        measure: the measure.
        limit: its limit.
        above: whether chips above it are dropped, or those below.
    """

    status: str
    measure: str
    limit: float
    above: bool

    def __str__(self) -> str:
        return f"{self.measure} {'above' if self.above else 'below'} {self.limit:g}"


def rules_of(limits: ChipQuality) -> tuple[Rule, ...]:
    """Return the rules in the order in which they are asked: the first that drops a chip names it.

    Nodata comes first, because the other measures are of what is left; flat before blurred, because
    nothing is sharp where nothing is.
    """
    return (
        Rule("nodata", "nodata", limits.max_nodata, above=True),
        Rule("cloud", "cloud", limits.max_cloud, above=True),
        Rule("haze", "haze", limits.max_haze, above=True),
        Rule("saturated", "saturated", limits.max_saturated, above=True),
        Rule("flat", "contrast", limits.min_contrast, above=False),
        Rule("monotonous", "entropy", limits.min_entropy, above=False),
        Rule("blurred", "sharpness", limits.min_sharpness, above=False),
    )


def filter_chips(chips: Path, out: Path, limits: ChipQuality, workers: int = 2) -> pa.Table:
    """Measure the chips of a table whose status is ok, and mark those to drop.

    Killed, the same command goes on after the last part of `PART` chips.

    Args:
        chips: the table that `cut` wrote.
        out: the Parquet table: its columns, with the measures, and a new status and reason for
            what is dropped here. Beside it, `<stem>.jpg` shows some of what each rule drops.
        limits: beyond which chips are dropped.
        workers: processes.

    Raises:
        UserError: no such table, nothing in it to measure, or another process that makes the same.
    """
    with claim(out):
        return _review(chips, out, limits, workers)


def _review(chips: Path, out: Path, limits: ChipQuality, workers: int) -> pa.Table:
    table = read_chips(chips)
    source = chips.parent
    rules = rules_of(limits)
    rows = [n for n, status in enumerate(table["status"].to_pylist()) if status == OK]
    paths = [table["path"][row].as_py() for row in rows]
    # A chip is known by its path alone: a cut replaces its table, but never a chip.
    key = resumable.key_of({"chips": paths, "folder": source.resolve()})
    parts = out.with_suffix(".parts")
    shares = resumable.parts_of(parts, key, len(paths), PART)
    todo = [
        (path, [paths[n] for n in share]) for path, share in shares.items() if not path.exists()
    ]
    left = sum(len(names) for _, names in todo)
    with bar("measuring", len(paths), "chips", len(paths) - left) as progress:
        # Parts are finished in any order, and all but the last have the same size.
        for done, _ in enumerate(spread(_measure, source, todo, workers), start=1):
            progress.reach(len(paths) - left + min(left, done * PART), len(paths))
    measured = pa.concat_tables([resumable.read_part(path) for path in shares])
    result = _judged(table, rows, measured, rules)
    # Steps before may call what they drop alike, and have no chip of it.
    examined = result.take(pa.array(rows))
    _draw(out.with_suffix(".jpg"), examined, rules, source)
    resumable.write_table(out, resumable.rebase_paths(result, source, out.parent))
    shutil.rmtree(parts, ignore_errors=True)
    _show(examined, len(table) - len(rows), rules)
    return result


def _show(examined: pa.Table, before: int, rules: tuple[Rule, ...]) -> None:
    """Print how many chips each rule drops, and name some that cannot be read."""
    counts = status_counts(examined)
    table = Table("status", "rule", "chips", title="quality")
    table.columns[2].justify = "right"
    meanings = {OK: "kept"} | {rule.status: str(rule) for rule in rules}
    for status, meaning in (meanings | {UNREADABLE: "the file is damaged"}).items():
        table.add_row(status, meaning, f"{counts.get(status, 0):,}")
    table.add_row("", "dropped by a step before", f"{before:,}")
    console.print(table)
    unreadable = [
        reason
        for status, reason in zip(
            examined["status"].to_pylist(), examined["reason"].to_pylist(), strict=True
        )
        if status == UNREADABLE
    ]
    for reason in unreadable[:SHOWN]:
        log_info(reason)
    if len(unreadable) > SHOWN:
        log_info(f"... and {len(unreadable) - SHOWN} more that cannot be read")


def status_counts(table: pa.Table) -> dict[str, int]:
    """Return how many rows have each status, the most frequent first."""
    counts = (
        table.group_by("status")
        .aggregate([([], "count_all")])
        .sort_by([("count_all", "descending"), ("status", "ascending")])
    )
    return dict(zip(counts["status"].to_pylist(), counts["count_all"].to_pylist(), strict=True))


def valid_pixels(pixels: Pixels) -> Mask:
    """Return which pixels uint8 `[H, W, 3]` have data: all but solid areas of 0 in every band."""
    black = ~pixels.any(2)
    if black.any():
        black = ndimage.binary_opening(black, np.ones((HOLLOW, HOLLOW), bool))
    return np.asarray(~black)


def _measure(folder: Path, part: tuple[Path, list[str]]) -> None:
    """Write a part: a row for each chip, its measures or the sentence why there are none."""
    out, names = part
    rows: list[dict[str, float | str | None]] = []
    for name in names:
        try:
            pixels = read_image(folder / name).permute(1, 2, 0).numpy()
        except UserError as error:
            rows.append({"problem": str(error)})
            continue
        measures = measure(pixels, valid_pixels(pixels))
        rows.append({name: _known(value) for name, value in measures.items()})
    schema = {"problem": pa.string()} | dict.fromkeys(MEASURES, pa.float32())
    resumable.write_table(out, pa.Table.from_pylist(rows, pa.schema(schema)))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _judged(
    table: pa.Table, rows: list[int], measured: pa.Table, rules: tuple[Rule, ...]
) -> pa.Table:
    """Return the table of chips with measures, and with status and reason of what is dropped."""
    status = np.array(table["status"].to_pylist(), object)
    reason = np.array([None] * len(table), object)
    if "reason" in table.column_names:
        reason = np.array(table["reason"].to_pylist(), object)
    at = np.array(rows)
    problem = np.array(measured["problem"].to_pylist(), object)
    unreadable = measured["problem"].is_valid().to_numpy()
    status[at[unreadable]], reason[at[unreadable]] = UNREADABLE, problem[unreadable]
    free = ~unreadable
    for rule in rules:
        # Null becomes NaN, which no rule drops.
        values = measured[rule.measure].to_numpy()
        dropped = free & (values > rule.limit if rule.above else values < rule.limit)
        status[at[dropped]] = rule.status
        reason[at[dropped]] = [f"{rule.measure} {value:.3g}, {rule}" for value in values[dropped]]
        free &= ~dropped
    table = set_column(table, "status", pa.array(status, pa.string()))
    table = set_column(table, "reason", pa.array(reason, pa.string()))
    where = np.full(len(table), -1)
    where[at] = np.arange(len(rows))
    indices = pa.array(where, mask=where < 0)
    for name in MEASURES:
        table = set_column(table, name, measured[name].combine_chunks().take(indices))
    return table


def _draw(path: Path, examined: pa.Table, rules: tuple[Rule, ...], source: Path) -> None:
    """Draw chips that each rule drops, from just beyond the limit to the worst, and kept ones."""
    status = np.array(examined["status"].to_pylist())
    paths = examined["path"].to_pylist()
    strips: dict[str, list[Pixels]] = {}
    for rule in rules:
        found = np.flatnonzero(status == rule.status)
        if len(found):
            values = examined[rule.measure].to_numpy()[found]
            order = np.argsort(values if rule.above else -values, kind="stable")
            title = f"{rule.status}: {rule}, {len(found):,} chips"
            strips[title] = thumbnails([source / paths[n] for n in evenly(found[order])])
    kept = np.flatnonzero(status == OK)
    strips[f"kept: {len(kept):,} chips"] = thumbnails([source / paths[n] for n in evenly(kept)])
    save_sheet(path, strips)


def evenly(found: np.ndarray, count: int = SHOWN) -> np.ndarray:
    """Return `count` of what was found, evenly from the first to the last."""
    return np.asarray(found[np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)])


def thumbnails(paths: list[Path]) -> list[Pixels]:
    """Return the central squares of images."""
    return [shrink(read_image(path)) for path in paths]


def save_sheet(path: Path, strips: Mapping[str, list[Pixels]]) -> None:
    """Write a contact sheet as JPEG."""
    write_image(path, contact_sheet(strips), quality=90)
