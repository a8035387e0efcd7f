"""k-means on more points than fit into memory, the same for the same seed.

Lloyd's iterations run on a sample, `POINTS_PER_CENTROID` for each centroid: more hardly move a
mean, and the time of an iteration stays that of count^2 whatever the number of points (Johnson et
al. 2017, Billion-scale similarity search, take as many). Then every point is assigned once.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

POINTS_PER_CENTROID = 256
SEED_POINTS = 16  # for each centroid, among which k-means++ chooses
CHUNK = 1024  # points at a time: their comparisons stay near the processor

Array = np.ndarray
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Clusters:
    """Result of k-means.

    Attributes:
        centroids: float32 `[K, C]`.
        labels: int32 `[N]`, the nearest centroid of each point.
        distances: float32 `[N]`, squared, to it.
    """

    centroids: Array
    labels: Array
    distances: Array

    @property
    def inertia(self) -> float:
        """Sum of the squared distances."""
        return float(self.distances.sum(dtype=np.float64))


def kmeans(
    points: Array,
    count: int,
    iterations: int,
    seed: int,
    device: torch.device,
    progress: Progress = lambda points: None,
) -> Clusters:
    """Find `count` centroids and the nearest of each point.

    Args:
        points: float16 or float32 `[N, C]`, N >= count; may be memory-mapped.
        count: of the centroids.
        iterations: of Lloyd.
        seed: of the sample and of the first centroids.
        device: where to compute.
        progress: called with the number of points that were compared with the centroids; in all
            they are `comparisons(len(points), count, iterations)`.
    """
    assert 0 < count <= len(points), (count, len(points))
    random = np.random.default_rng(seed)
    chosen = _sample(points, count * POINTS_PER_CENTROID, random)
    # Made wide once and not in every iteration, which takes a fifth of its time.
    sample = _wide(chosen, device)
    with _reproducible(device):
        centroids = _first_centroids(sample, count, random)
        for _ in range(iterations):
            centroids = _lloyd_step(sample, centroids, progress)
        labels, distances = assign(points, centroids, progress)
    return Clusters(centroids.cpu().numpy(), labels, distances)


def comparisons(points: int, count: int, iterations: int) -> int:
    """Return the number of points that `kmeans` compares with its centroids, repeats included.

    Args:
        points: number of points.
        count: number of centroids.
        iterations: of k-means.
    """
    return iterations * min(points, count * POINTS_PER_CENTROID) + points


def assign(
    points: Array, centroids: Tensor, progress: Progress = lambda points: None
) -> tuple[Array, Array]:
    """Return the nearest centroid of each point, int32 `[N]`, and the squared distance to it.

    Args:
        points: `[N, C]`.
        centroids: float32 `[K, C]`, on the device that computes; of equally near ones, on a CPU,
            the first.
        progress: called with the number of points that are done.
    """
    labels = np.empty(len(points), np.int32)
    distances = np.empty(len(points), np.float32)
    first = 0
    for chunk, nearest, best in _nearest(_chunks(points, centroids.device), centroids):
        rows = slice(first, first + len(chunk))
        labels[rows] = nearest.cpu().numpy()
        distances[rows] = (chunk.square().sum(1) - 2 * best).clamp_min(0).cpu().numpy()
        first = rows.stop
        progress(len(chunk))
    return labels, distances


def _chunks(points: Array, device: torch.device) -> Iterator[Tensor]:
    for first in range(0, len(points), CHUNK):
        yield _wide(points[first : first + CHUNK], device)


def _wide(points: Array, device: torch.device) -> Tensor:
    # PyTorch makes halves wide in a fraction of NumPy's time.
    return torch.from_numpy(np.array(points)).to(device).float()


def _nearest(
    chunks: Iterable[Tensor], centroids: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield chunks of points, their nearest centroids c and x.c - |c|^2 / 2.

    That is greatest where |x - c|^2 is least.
    """
    half = centroids.square().sum(1) / -2
    for chunk in chunks:
        best, nearest = _greatest(torch.addmm(half, chunk, centroids.T))
        yield chunk, nearest, best


def _greatest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the greatest value of each row and where it is, on a CPU the first of equals."""
    if scores.device.type != "cpu":
        return torch.max(scores, 1)
    # NumPy finds it in a tenth of PyTorch's time.
    where = torch.from_numpy(scores.numpy().argmax(1))
    return scores.gather(1, where[:, None])[:, 0], where


def _lloyd_step(sample: Tensor, centroids: Tensor, progress: Progress) -> Tensor:
    """Move each centroid to the mean of its points."""
    sums = torch.zeros_like(centroids)
    sizes = torch.zeros(len(centroids), device=centroids.device)
    for chunk, nearest, _ in _nearest(sample.split(CHUNK), centroids):
        sums.index_add_(0, nearest, chunk)
        sizes += torch.bincount(nearest, minlength=len(centroids))
        progress(len(chunk))
    moved = sums / sizes.clamp_min(1)[:, None]
    _fill_empty(moved, sizes)
    return moved


def _fill_empty(centroids: Tensor, sizes: Tensor) -> None:
    """Put each centroid without points beside that of the largest clusters, which it halves."""
    empty = torch.nonzero(sizes == 0)[:, 0]
    largest = sizes.sort(descending=True, stable=True).indices[: len(empty)]
    centroids[empty] = centroids[largest] * 1.0001
    centroids[largest] *= 0.9999


def _sample(points: Array, most: int, random: np.random.Generator) -> Array:
    if len(points) <= most:
        return points
    # In order, which reads a memory-mapped file from one end to the other.
    return np.asarray(points[np.sort(random.choice(len(points), most, replace=False))])


def _first_centroids(sample: Tensor, count: int, random: np.random.Generator) -> Tensor:
    """Choose points far from each other: k-means++ (Arthur and Vassilvitskii 2007)."""
    candidates = sample
    if len(sample) > count * SEED_POINTS:
        few = random.choice(len(sample), count * SEED_POINTS, replace=False)
        candidates = sample[torch.from_numpy(np.sort(few)).to(sample.device)]
    squares = candidates.square().sum(1)
    chosen = torch.empty(count, candidates.shape[1], device=sample.device)
    distances = torch.full_like(squares, torch.inf)
    index = int(random.integers(len(candidates)))
    for number in range(count):
        chosen[number] = point = candidates[index]
        squared = squares - 2 * (candidates @ point) + point.square().sum()
        distances = torch.minimum(distances, squared.clamp_min(0))
        distances[index] = 0
        cumulative = distances.double().cumsum(0)
        # Where all candidates coincide with a chosen one, any will do.
        drawn = random.random() * float(cumulative[-1])
        index = int(
            torch.searchsorted(cumulative, drawn, right=True).clamp_max(len(candidates) - 1)
        )
    return chosen


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Let sums on a GPU be made in a fixed order."""
    if device.type == "cpu":  # always so there, and setting it again takes PyTorch 1.5 s
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
