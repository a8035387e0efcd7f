"""Scaling of a map over workers of Ray on this machine: none, one, and two, each of one thread.

    python benchmarks/ray_scaling.py [--side 3360] [--window 280] [--rounds 3] [--workers 1 2]

A light head on `tiny` maps a drawn scene in the process itself and by so many workers, in turns.
What a cluster takes to start is measured with a scene of one window and subtracted: it does not
grow with the map. Prints seconds, how much faster than one process, and the overhead of one worker;
all maps must have the same bytes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of this process, and of the workers that it starts

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from map_engines import draw, train
from rich.console import Console
from rich.table import Table

from cgeartheye.commands.map import map_scenes
from cgeartheye.scale.cluster import map_on_cluster
from cgeartheye.utils.console import bar, muted


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
            scene, small = draw(folder, asked.side), draw(folder / "small", asked.window)
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


if __name__ == "__main__":
    main()
