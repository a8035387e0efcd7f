"""Summary of a packing, for the terminal."""

from pathlib import Path

from rich.table import Table

from cgeartheye.pretraining.store.pack import Packed
from cgeartheye.utils.console import console, log_info

SHOWN = 20


def show_packed(store: Path, packed: Packed) -> None:
    """Print what was packed and what the store holds now."""
    table = Table(show_header=False, title=str(store))
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "images added": packed.added,
        "already there": packed.present,
        "duplicates left out": packed.duplicates,
        "chips without data left out": packed.empty,
        "damaged images left out": len(packed.skipped),
        "images in the store": packed.images,
        "places": packed.places,
        "places with several images": packed.in_seasons,
    }
    for label, count in rows.items():
        table.add_row(label, f"{count:,}")
    table.add_row("size", f"{packed.bytes / 2**20:,.1f} MiB")
    console.print(table)


def show_problems(store: Path, problems: list[str]) -> bool:
    """Print what is wrong with a store.

    Returns:
        Whether nothing is.
    """
    for problem in problems[:SHOWN]:
        log_info(problem)
    if len(problems) > SHOWN:
        log_info(f"... and {len(problems) - SHOWN} more")
    log_info(f"{store}: {len(problems)} images are wrong" if problems else f"{store}: all is well")
    return not problems
