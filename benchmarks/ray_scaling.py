"""Scaling of a map over workers of Ray on this machine: none, one, and two, each of one thread.

    python benchmarks/ray_scaling.py [--side 3360] [--window 280] [--rounds 3] [--workers 1 2]

A light head on `tiny` maps a drawn scene in the process itself and by so many workers, in turns.
What a cluster takes to start does not grow with the map: it is that of a scene of half the side,
too, which is subtracted. Prints the seconds of the difference, and how much faster than one process
that is; all maps must have the same bytes. Two cores may be less than twice one (they share caches,
memory and the processor's clock, or are threads of one core): the last row is what the model alone,
without maps, reaches in two plain processes of one thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of this process, and of the workers that it starts

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from map_engines import draw, train
from rich.console import Console
from rich.table import Table

from cgeartheye import create_backbone
from cgeartheye.commands.map import map_scenes
from cgeartheye.scale.cluster import map_on_cluster
from cgeartheye.utils.console import bar, muted

ENCODED = 60  # batches of four windows


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=3360, help="of the scene, in pixels")
    parser.add_argument("--window", type=int, default=280)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    taken: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small").mkdir()
        with muted():
            scene, small = draw(folder, asked.side), draw(folder / "small", asked.side // 2)
            run = train(folder, "tiny", asked.window)
        maps = set()
        steps = asked.rounds * (1 + len(asked.workers))
        with bar("mapping", steps, "maps") as progress:
            for turn in range(asked.rounds):
                for count in (0, *asked.workers):
                    out = folder / f"{turn}-{count}"
                    whole, start = (
                        seconds(run, one, out.with_name(f"{out.name}-{one.parent.name}"), count)
                        for one in (scene, small)
                    )
                    taken.setdefault(count, []).append(whole - start)
                    made = out.with_name(f"{out.name}-{scene.parent.name}") / "map.tif"
                    maps.add(made.read_bytes())
                    progress.advance()
    assert len(maps) == 1
    table = Table("workers", "seconds", "faster than one process")
    alone = statistics.median(taken[0])
    for count, values in taken.items():
        median = statistics.median(values)
        table.add_row(str(count or "none"), f"{median:.1f}", f"{alone / median:.2f}")
    if {1, 2} <= set(taken):
        one, two = (statistics.median(taken[count]) for count in (1, 2))
        table.add_row("2 over 1", "", f"{one / two:.2f}")
    table.add_row("2 plain processes over 1", "", f"{ceiling(asked.window):.2f}")
    Console().print(table)


def seconds(run: Path, scene: Path, out: Path, workers: int) -> float:
    """Map a scene; return how long it took."""
    started = time.perf_counter()
    with muted():
        if workers:
            map_on_cluster("local", workers, run, [scene], out, {}, [])
        else:
            map_scenes(run, [scene], out, {}, [])
    return time.perf_counter() - started


def ceiling(window: int) -> float:
    """Return how much faster two processes of one thread are than one, all of which only encode."""
    context = multiprocessing.get_context("spawn")
    rates = {}
    for count in (1, 2):
        barrier, found = context.Barrier(count), context.Queue()
        given = window, barrier, found
        processes = [context.Process(target=encode, args=given) for _ in range(count)]
        for process in processes:
            process.start()
        rates[count] = sum(found.get() for _ in processes)
        for process in processes:
            process.join()
    return rates[2] / rates[1]


def encode(window: int, barrier: Any, found: Any) -> None:
    """Put windows a second, measured once all processes are ready."""
    torch.set_num_threads(1)
    backbone = create_backbone("tiny").eval()
    images = torch.randn(4, 3, window, window)
    with torch.inference_mode():
        backbone(images)
        barrier.wait()
        started = time.perf_counter()
        for _ in range(ENCODED):
            backbone(images)
        found.put(ENCODED * len(images) / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
