"""Search in a million vectors: what is kept in int8, against exact search in float32.

    python benchmarks/embedding_search.py [--count 1000000] [--turns 7]

Synthetic features of 192 numbers, whose variance falls over their principal components as that of
`tiny`'s patches on UC Merced does (64 of them hold 94 %, there 95 %), are kept as 64 components in
int8, as `cgeartheye embed` keeps them. A query is a noisy copy of one of them; found are the best
100 by cosine. Recall is their share of the best 100 of exact search in float32: over the full
vectors, and over the 64 components. faiss's exact search is a second peer where it is installed.
Times are of the wall, and of all threads' processors, which a busy machine changes less.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cgeartheye.embeddings.search import VectorIndex
from cgeartheye.mapping.projection import fit_projection

WIDTH, TOP, FALL = 192, 100, -0.7


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--turns", type=int, default=7, help="queries")
    given = parser.parse_args()
    random = np.random.default_rng(0)
    spread = np.arange(1, WIDTH + 1, dtype=np.float32) ** FALL
    features = random.standard_normal((given.count, WIDTH), np.float32) * spread
    how = SimpleNamespace(embed_dim=WIDTH, num_components=64, dtype="int8")
    made = fit_projection(torch.from_numpy(features[:6400]), how)  # type: ignore[arg-type]
    full = features - made.mean
    kept = (full @ made.basis / made.scale).round().clip(-127, 127).astype(np.int8)
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    index = VectorIndex.build(kept, made.scale, made.basis, np.zeros(WIDTH, np.float32))
    parts = full @ made.basis
    parts /= np.linalg.norm(parts, axis=1, keepdims=True)
    runs: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "192 x float32, exact": lambda query: best(full @ query),
        "64 x float32, exact": lambda query: best(parts @ (query @ made.basis)),
        "64 x int8, ours": lambda query: best(index.cosines(query)),
    }
    if find_spec("faiss"):
        runs["64 x float32, faiss flat"] = flat(parts, made.basis)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    recall: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(given.turns + 1):
        number = random.integers(0, given.count)
        query = full[number] + random.normal(size=WIDTH).astype(np.float32) * 0.02
        query = (query / np.linalg.norm(query)).astype(np.float32)
        found = {}
        for name, run in runs.items():
            begin = time.perf_counter(), time.process_time()
            found[name] = set(run(query).tolist())
            spent = time.perf_counter() - begin[0], time.process_time() - begin[1]
            if turn:  # the first warms up
                seconds[name].append(spent)
        if turn:
            whole, part = list(found.values())[:2]
            for name, some in found.items():
                recall[name].append((len(some & whole) / len(whole), len(some & part) / len(part)))
    title = (
        f"{given.count:,} vectors, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    )
    names = "ms, median", "ms, best", "CPU ms, median", "recall of 192", "of 64 float32"
    table = Table("", *names, title=title)
    for name, spent_all in seconds.items():
        wall, cpu = zip(*spent_all, strict=True)
        shown = [f"{1000 * x:.1f}" for x in (statistics.median(wall), min(wall))]
        shown.append(f"{1000 * statistics.median(cpu):.1f}")
        table.add_row(name, *shown, *(f"{x:.3f}" for x in np.mean(recall[name], axis=0)))
    Console().print(table)


def best(scores: np.ndarray) -> np.ndarray:
    """Return the numbers of the best."""
    count = min(TOP, len(scores) - 1)
    return np.argpartition(-scores, count)[:count]


def flat(vectors: np.ndarray, basis: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return faiss's exact search."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    count = min(TOP, len(vectors) - 1)
    return lambda query: index.search((query @ basis)[None], count)[1][0]


if __name__ == "__main__":
    main()
