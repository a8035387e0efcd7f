"""k-means of chip features on one machine: ours, by torch, against faiss, in turns.

Both make the same number of iterations on a sample of the same size and then assign every point;
features are made by code: half-precision unit vectors around random directions. Medians; on a
machine that others use too the CPU time of one thread (OMP_NUM_THREADS=1) is what compares.

    pip install faiss-cpu
    python benchmarks/jlssd_kmeans.py --points 200000 --clusters 500
    python benchmarks/jlssd_kmeans.py --points 1000000 --clusters 1000 --turns 1
"""

import argparse
import importlib.util
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cgeartheye.jlssd.curation.kmeans import POINTS_PER_CENTROID, kmeans

WIDTH = 384
CHUNK = 4096  # points that are made, or searched by faiss, at a time


def features(count: int, directions: int) -> np.ndarray:
    """Return float16 unit vectors `[count, WIDTH]`; some directions are far more common."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(directions, WIDTH)).astype(np.float32)
    share = random.pareto(1.0, directions)
    rows = np.empty((count, WIDTH), np.float16)
    for first in range(0, count, CHUNK):
        size = min(CHUNK, count - first)
        which = random.choice(directions, size, p=share / share.sum())
        chunk = centers[which] + 1.5 * random.standard_normal((size, WIDTH), np.float32)
        rows[first : first + size] = chunk / np.linalg.norm(chunk, axis=1, keepdims=True)
    return rows


def ours(points: np.ndarray, clusters: int, iterations: int) -> float:
    """Return the inertia."""
    return kmeans(points, clusters, iterations, 0, torch.device("cpu")).inertia


def by_faiss(points: np.ndarray, clusters: int, iterations: int) -> float:
    """Return the inertia."""
    import faiss

    model = faiss.Kmeans(
        WIDTH,
        clusters,
        niter=iterations,
        seed=0,
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    wanted = min(len(points), clusters * POINTS_PER_CENTROID)
    chosen = np.sort(np.random.default_rng(0).choice(len(points), wanted, replace=False))
    model.train(points[chosen].astype(np.float32))
    inertia = 0.0
    for first in range(0, len(points), CHUNK):
        distances, _ = model.index.search(points[first : first + CHUNK].astype(np.float32), 1)
        inertia += float(distances.sum(dtype=np.float64))
    return inertia


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    methods: dict[str, Callable[[np.ndarray, int, int], float]] = {"torch (ours)": ours}
    if importlib.util.find_spec("faiss"):
        methods["faiss"] = by_faiss
    points = features(given.points, 4 * given.clusters)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    inertia = {}
    for _ in range(given.turns):
        for name, method in methods.items():
            begin = time.perf_counter(), time.process_time()
            inertia[name] = method(points, given.clusters, given.iterations)
            end = time.perf_counter(), time.process_time()
            seconds[name].append((end[0] - begin[0], end[1] - begin[1]))
    title = (
        f"{given.points:,} x {WIDTH} into {given.clusters:,}, {given.iterations} iterations, "
        f"{torch.get_num_threads()} threads"
    )
    table = Table("k-means", "wall s", "CPU s", "inertia a point", title=title)
    for name, took in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*took, strict=True))
        table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}", f"{inertia[name] / given.points:.4f}")
    Console().print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    Console().print(f"peak memory of the process {peak:.2f} GiB")


if __name__ == "__main__":
    main()
