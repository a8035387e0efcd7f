import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from cgeartheye.metrics.probes import few_per_class, knn_predict, linear_probe

random = np.random.default_rng(0)
CENTERS = random.normal(size=(4, 8))
LABELS = random.integers(0, 4, 200)
FEATURES = CENTERS[LABELS] + random.normal(size=(200, 8)) * 0.7


@pytest.mark.parametrize("k", [1, 5, 20, 500])
def test_knn_agrees_with_sklearn(k: int) -> None:
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    train, test = unit[:150], unit[150:]
    oracle = KNeighborsClassifier(
        min(k, 150),
        algorithm="brute",
        # |a - b|^2 = 2 - 2 a.b on the unit sphere.
        weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.07),
    ).fit(train, LABELS[:150])
    ours = knn_predict(FEATURES[:150], LABELS[:150], FEATURES[150:] * 3, k, 4)
    np.testing.assert_array_equal(ours, oracle.predict(test))


def test_linear_probe_finds_what_is_linear_and_nothing_where_there_is_nothing() -> None:
    probe = linear_probe(FEATURES[:150], LABELS[:150])
    assert probe.score(FEATURES[150:], LABELS[150:]) > 0.85
    noise = linear_probe(random.normal(size=(150, 8)), LABELS[:150])
    assert noise.score(random.normal(size=(50, 8)), LABELS[150:]) < 0.6


def test_few_per_class() -> None:
    labels = np.array([0] * 10 + [1] * 3 + [5] * 7)
    chosen = few_per_class(labels, 5, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [5, 3, 0, 0, 0, 5]
    assert (chosen == few_per_class(labels, 5, seed=1)).all()
    assert not np.array_equal(chosen, few_per_class(labels, 5, seed=2))
    assert linear_probe(np.eye(6)[[0, 1, 2]], np.array([0, 1, 2])).classes_.tolist() == [0, 1, 2]


def test_knn_sees_small_differences() -> None:
    """As between the features of a random ViT, whose LayerScale starts at 1e-5."""
    alike = 1 + 1e-5 * CENTERS[LABELS] + 1e-7 * random.normal(size=(200, 8))
    predicted = knn_predict(
        alike[:150].astype(np.float32), LABELS[:150], alike[150:].astype(np.float32), 5, 4
    )
    assert (predicted == LABELS[150:]).mean() > 0.9
