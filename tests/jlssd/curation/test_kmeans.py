import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from cgeartheye.jlssd.curation import kmeans as module
from cgeartheye.jlssd.curation.hierarchical_kmeans import cluster
from cgeartheye.jlssd.curation.kmeans import assign, comparisons, kmeans

CPU = torch.device("cpu")


def blobs(count: int, width: int, sizes: list[int], seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centers = random.normal(size=(count, width)) * 4
    rows = [c + random.normal(size=(n, width)) for c, n in zip(centers, sizes, strict=True)]
    return np.concatenate(rows).astype(np.float32)


def test_inertia_is_as_low_as_scikit_learns() -> None:
    points = blobs(12, 8, [20 * (n + 1) for n in range(12)])
    theirs = KMeans(12, n_init=1, max_iter=25, tol=0, random_state=0).fit(points).inertia_
    ours = min(kmeans(points, 12, 25, seed, CPU).inertia for seed in range(3))
    assert ours <= 1.02 * theirs


def test_a_step_is_lloyds() -> None:
    points = blobs(5, 3, [30] * 5)
    start = torch.from_numpy(points[::30][:5].copy())
    ours = module._lloyd_step(torch.from_numpy(points), start, lambda count: None)
    nearest = cdist(points, start.numpy()).argmin(1)
    means = [points[nearest == k].mean(0) for k in range(5)]
    assert np.allclose(ours, means, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 99))
def test_labels_are_the_nearest(count: int, clusters: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float16)
    found = kmeans(points, min(clusters, count), 3, seed, CPU)
    squared = cdist(points.astype(np.float64), found.centroids.astype(np.float64)) ** 2
    assert np.allclose(found.distances, squared.min(1), atol=1e-3)
    chosen = squared[np.arange(count), found.labels]
    assert np.allclose(chosen, squared.min(1), atol=1e-3)


def test_same_seed_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    points = blobs(6, 8, [50] * 6)
    first, again = (kmeans(points, 10, 5, 3, CPU) for _ in range(2))
    assert (first.centroids == again.centroids).all()
    assert (first.labels == again.labels).all()
    assert (kmeans(points, 10, 5, 4, CPU).centroids != first.centroids).any()


def test_only_a_sample_is_iterated_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POINTS_PER_CENTROID", 8)
    points, seen = blobs(4, 4, [100] * 4), []
    kmeans(points, 4, 5, 0, CPU, seen.append)
    assert sum(seen) == comparisons(400, 4, 5) == 5 * 32 + 400


def test_more_centroids_than_different_points() -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 10, 0)
    found = kmeans(points, 8, 4, 0, CPU)
    assert found.inertia == pytest.approx(0, abs=1e-4)
    assert np.isfinite(found.centroids).all()


def test_memory_mapped_half_precision(tmp_path) -> None:  # type: ignore[no-untyped-def]
    points = blobs(4, 8, [500] * 4).astype(np.float16)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    labels, distances = assign(mapped, torch.from_numpy(points[::500].astype(np.float32)))
    squared = cdist(points.astype(float), points[::500].astype(float)) ** 2
    assert (labels == squared.argmin(1)).all()
    assert np.allclose(distances, squared.min(1), rtol=1e-3, atol=1e-2)


def test_levels_are_nested_and_the_rare_has_its_own() -> None:
    """Three common kinds and three rare ones: the coarse level separates all six."""
    sizes = [400, 400, 400, 12, 12, 12]
    points = blobs(6, 8, sizes)
    found = cluster(points, (60, 6), 20, 3, 0, CPU)
    fine, coarse = found.labels
    for label in np.unique(fine):
        assert len(np.unique(coarse[fine == label])) == 1
    kinds = np.repeat(np.arange(6), sizes)
    purity = [np.bincount(kinds[coarse == c]).max() / (coarse == c).sum() for c in set(coarse)]
    assert min(purity) > 0.95
    assert len({kinds[coarse == c].max() for c in set(coarse)}) >= 5


def test_few_places_have_few_clusters() -> None:
    points = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float16)
    found = cluster(points, (1000, 100, 10), 3, 2, 0, CPU)
    assert [len(level) for level in found.centroids] == [2, 1, 1]
    assert all(len(labels) == 9 for labels in found.labels)
