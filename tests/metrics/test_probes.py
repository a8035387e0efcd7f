import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from cgeartheye.metrics.logistic import LogisticPath
from cgeartheye.metrics.probes import PENALTIES, few_per_class, knn_predict, linear_probe

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


def _oracle(features: np.ndarray, labels: np.ndarray, c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=10_000, tol=1e-9).fit(features, labels)


@pytest.mark.parametrize("c", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize(("samples", "channels"), [(200, 8), (40, 60)])
def test_a_path_ends_where_sklearn_does(c: float, samples: int, channels: int) -> None:
    """Fewer samples than channels too; and wherever the path came from."""
    features = np.random.default_rng(1).normal(size=(samples, channels))
    features[:, :8] += FEATURES[:samples]
    labels = LABELS[:samples]
    path = LogisticPath(features, labels, 4)
    for before in (c / 100, c / 10):
        path.fit(before)
    weights, intercepts = path.fit(c)
    oracle = _oracle(features, labels, c)
    logits = features @ weights.T + intercepts
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, oracle.predict_proba(features), atol=2e-3)
    likelihood = [
        np.log(p[np.arange(samples), labels]).sum()
        for p in (shares, oracle.predict_proba(features))
    ]
    losses = np.square([weights, oracle.coef_]).sum((1, 2)) / 2 - c * np.array(likelihood)
    assert losses[0] - losses[1] < 1e-5 * c * samples  # of the mean cross-entropy


def test_linear_probe_chooses_as_sklearn_would_on_a_part_of_the_training_features() -> None:
    probe = linear_probe(FEATURES, LABELS, seed=3)
    fit, rest = next(
        StratifiedShuffleSplit(1, test_size=0.2, random_state=3).split(FEATURES, LABELS)
    )
    scaler = StandardScaler().fit(FEATURES[fit])
    parts = [scaler.transform(FEATURES[part]) for part in (fit, rest)]
    scores = [
        LogisticRegression(C=c, max_iter=1000)
        .fit(parts[0], LABELS[fit])
        .score(parts[1], LABELS[rest])
        for c in PENALTIES
    ]
    assert scores[PENALTIES.index(probe[-1].C)] >= max(scores) - 1 / len(rest)
    scaled = StandardScaler().fit(FEATURES)
    oracle = _oracle(scaled.transform(FEATURES), LABELS, probe[-1].C)
    np.testing.assert_allclose(
        probe.predict_proba(FEATURES), oracle.predict_proba(scaled.transform(FEATURES)), atol=2e-3
    )


def test_two_classes_have_the_form_of_sklearn() -> None:
    labels = np.array([3, 7])[(LABELS > 1).astype(int)]
    probe = linear_probe(FEATURES, labels)
    shares = probe.predict_proba(FEATURES)
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_array_equal(probe.classes_[shares.argmax(1)], probe.predict(FEATURES))
    assert probe.score(FEATURES, labels) > 0.85
    scaled = StandardScaler().fit_transform(FEATURES)
    oracle = _oracle(scaled, labels, probe[-1].C)
    np.testing.assert_allclose(shares, oracle.predict_proba(scaled), atol=2e-3)


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
