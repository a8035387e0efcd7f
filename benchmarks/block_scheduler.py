"""Simulate the use of many workers: the blocks of a map, stragglers and losses; and the memory.

    python benchmarks/block_scheduler.py [--rows 20000] [--row-seconds 30] [--straggling 0.02]
    python benchmarks/block_scheduler.py --memory 1000 1000000

Blocks are those of `mapping.blocks`; whoever is free takes the next, as Ray's pool of actors does.
The seconds of a row of windows are those that `cgeartheye plan` or a map has measured; each block
varies by 10 %, some take three times as long (a busy machine), and a worker is lost once in so many
hours: the block goes on with what its ledger has, after the time that a model takes to load. A
block predicts one row of its neighbor besides its own. The efficiency is the time of one worker
without all that, over the number of workers times the time of the last.

With --memory the driver's own loop (`scale.actors.in_turn` over `mapping.blocks`) hands out about
so many blocks to 128 stand-ins for actors, and the peak of what Python allocates is printed.
"""

import argparse
import heapq
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from cgeartheye.mapping.blocks import plan_blocks, unfinished_blocks
from cgeartheye.mapping.job import MapJob
from cgeartheye.scale.actors import in_turn

LOADING, SPREAD, SLOWER = 20.0, 0.1, 3.0  # seconds; share; times
ROUNDS = 20


def main() -> None:
    """Simulate some numbers of workers, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000, help="of windows")
    parser.add_argument("--row-seconds", type=float, default=30.0)
    parser.add_argument("--straggling", type=float, default=0.02, help="share of blocks")
    parser.add_argument("--hours-to-loss", type=float, default=24.0, help="of a worker")
    parser.add_argument("--memory", type=int, nargs="+", metavar="BLOCKS")
    given = parser.parse_args()
    if given.memory:
        print_memory(given.memory)
        return
    title = f"{given.rows:,} rows of windows of {given.row_seconds:g} s, {ROUNDS} rounds"
    table = Table("workers", "blocks", "hours", "efficiency", "worst", title=title)
    for workers in (8, 16, 32, 64, 128, 256, 512):
        heights = blocks_of(given.rows, workers)
        times = [simulate(heights, workers, given, random.Random(n)) for n in range(ROUNDS)]
        best = given.rows * given.row_seconds / workers
        table.add_row(
            f"{workers}",
            f"{len(heights):,}",
            f"{statistics.median(times) / 3600:.1f}",
            f"{best / statistics.median(times):.3f}",
            f"{best / max(times):.3f}",
        )
    Console().print(table)


def blocks_of(rows: int, workers: int) -> list[int]:
    """Return the rows of each block that would be planned."""
    with planned(rows) as job:
        return [end - top for top, end in plan_blocks(job, workers)]


@contextmanager
def planned(rows: int) -> Iterator[MapJob]:
    """Yield what the plan of a map needs to know of it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        yield cast(MapJob, SimpleNamespace(rows=rows, work=place, out=place, settings={}))


class StandIns:
    """The interface of Ray's pool of actors, by actors that do nothing."""

    def __init__(self, count: int):
        self._free, self._running = count, 0

    def has_free(self) -> bool:
        """Return whether an actor has nothing to do."""
        return self._free > 0

    def has_next(self) -> bool:
        """Return whether a task is being done."""
        return self._running > 0

    def submit(self, call: Callable[[Any, Any], Any], task: Any) -> None:
        """Begin a task."""
        call(None, task)
        self._free, self._running = self._free - 1, self._running + 1

    def get_next_unordered(self) -> None:
        """Finish a task."""
        self._free, self._running = self._free + 1, self._running - 1


def print_memory(counts: list[int]) -> None:
    """Print the peak of what the driver's loop allocates, of so many blocks."""
    table = Table("blocks", "seconds", "peak, kB")
    for count in counts:
        workers = max(1, count // 10)  # blocks become smaller: a worker has about ten of them
        with planned(round(12.3 * count)) as job:
            plan_blocks(job, workers)
            tracemalloc.start()
            started = time.perf_counter()
            results = in_turn(StandIns(128), lambda _, block: block, unfinished_blocks(job))
            done = sum(1 for _ in results)
            seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        table.add_row(f"{done:,}", f"{seconds:.1f}", f"{peak / 1000:.1f}")
    Console().print(table)


def simulate(heights: list[int], workers: int, given: Any, chance: random.Random) -> float:
    """Return the seconds until the last block is finished."""
    free = [LOADING] * workers
    heapq.heapify(free)
    for number, height in enumerate(heights):
        seconds = (height + bool(number)) * given.row_seconds
        seconds *= max(0.5, chance.gauss(1, SPREAD))
        if chance.random() < given.straggling:
            seconds *= SLOWER
        if chance.random() < seconds / 3600 / given.hours_to_loss:
            # Lost at a random place: the finished rows are noted, one is predicted again.
            seconds += LOADING + 2 * given.row_seconds
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


if __name__ == "__main__":
    main()
