"""Time of `cgeartheye check` on many images: this build against an older one, in turns.

The older one is a commit of this repository, checked out beside it; each is a process of its own,
from its start to its end. The first turn, which fills the disk's cache, does not count.

    python benchmarks/check_images.py --images 20000 --commit c63d860
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
CLASSES = 4
BEFORE = "c63d860"  # the last commit that decoded into float64 to add pixels up


def draw(folder: Path, count: int, side: int) -> None:
    """Write JPEGs of noise in class folders."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class_{number % CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path)


def run(source: Path, config: Path, out: Path) -> tuple[float, float]:
    """Return seconds from start to end of a check, and those of all its processes' CPU time."""
    command = [sys.executable, "-m", "cgeartheye", "check", str(config), "--work-dir", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout
    text = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status or "can be read" not in text:
        raise SystemExit(f"the check of {source} failed:\n{text}")
    return seconds, used.ru_utime + used.ru_stime


def main() -> None:
    """Print a table of both builds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--commit", default=BEFORE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw(folder / "images", options.images, options.side)
        config = folder / "check.yaml"
        config.write_text(
            "backbone: {name: tiny, weights: random}\n"
            f"data: {{root: {folder / 'images'}, image_size: 56, batch_size: 8, "
            f"workers: {options.workers}}}\n"
        )
        older = folder / "older"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", str(older), options.commit], check=True)
        try:
            trees = {options.commit: older / "src", "this build": ROOT / "src"}
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in trees}
            for turn in range(options.turns + 1):
                for name, source in trees.items():
                    found = run(source, config, folder / f"run-{name.replace(' ', '-')}")
                    if turn or not options.turns:
                        times[name].append(found)
        finally:
            subprocess.run([*git, "remove", "--force", str(older)], check=True)
    table = Table(
        "build", "seconds", "CPU seconds", "images/s", title=f"check of {options.images:,} images"
    )
    medians = {
        name: [statistics.median(column) for column in zip(*found, strict=True)]
        for name, found in times.items()
    }
    for name, (seconds, used) in medians.items():
        table.add_row(name, f"{seconds:.1f}", f"{used:.1f}", f"{options.images / seconds:,.0f}")
    Console().print(table)
    (old, old_used), (new, new_used) = medians.values()
    print(f"{old / new:.2f} times less time, {old_used / new_used:.2f} times less CPU time")
    print(f"{os.cpu_count()} cores, {options.side} px, {options.workers} workers")


if __name__ == "__main__":
    main()
