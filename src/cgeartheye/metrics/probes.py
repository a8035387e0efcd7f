"""Quality of features by themselves: nearest neighbours and linear probes, on arrays."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cross_entropy

from cgeartheye.metrics.logistic import COARSE, LogisticPath

Array = np.ndarray

# Inverse strengths of the penalty that are tried on a part of the training features, in equal
# steps of their logarithm: those that ever win are well within.
PENALTIES = tuple(np.logspace(-5, 3, 20).tolist())
PATIENCE = 3
"""Penalties in a row that are worse than the best, after which weaker ones are not tried."""
Fit = tuple[Array, Array]
"""Weights `[K, C]` and intercepts `[K]`."""


def knn_predict(
    train: Array, labels: Array, test: Array, k: int, classes: int, temperature: float = 0.07
) -> Array:
    """Classify by the votes of the k nearest training features.

    The votes are weighted by exp(cosine similarity / temperature) (Wu et al. 2018, eq. 9; the
    protocol of DINO).

    Args:
        train: features `[N, C]`.
        labels: int `[N]`, 0..classes-1.
        test: features `[M, C]`.
        k: neighbours; all of them where there are fewer.
        classes: number of classes.
        temperature: of the votes.

    Returns:
        Predicted classes, int `[M]`.
    """
    bank = _normalized(train)
    votes = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), classes).double()
    predicted = []
    for chunk in _normalized(test).split(1024):
        similarity, neighbor = (chunk @ bank.T).topk(min(k, len(bank)), dim=1)
        weight = (similarity / temperature).exp()
        predicted.append((weight[:, :, None] * votes[neighbor]).sum(1).argmax(1))
    return torch.cat(predicted).numpy()


def linear_probe(
    train: Array, labels: Array, seed: int = 0, penalties: Sequence[float] = PENALTIES
) -> Pipeline:
    """Fit multinomial logistic regression to standardised features.

    The penalty is chosen on a fifth of the training features, by class: of equally good ones the
    middle one; weaker ones are not tried when it has become worse. Where a class has fewer than
    five it is 1.

    Args:
        train: features `[N, C]`.
        labels: int `[N]`, of two classes or more.
        seed: of the split.
        penalties: inverse strengths, ascending.

    Returns:
        An estimator with `predict`.
    """
    classes, indices = np.unique(labels, return_inverse=True)
    penalty, start = 1.0, None
    if np.bincount(indices).min() >= 5:
        split = StratifiedShuffleSplit(1, test_size=0.2, random_state=seed)
        fit, held_out = next(split.split(train, indices))
        scaler = StandardScaler().fit(train[fit])
        path = LogisticPath(scaler.transform(train[fit]), indices[fit], len(classes))
        rest = scaler.transform(train[held_out]).astype(np.float32)
        penalty, start = _choose(path, rest, indices[held_out], penalties)
    scaler = StandardScaler().fit(train)
    path = LogisticPath(scaler.transform(train), indices, len(classes))
    if start:
        path.begin(*start)
    logistic = _estimator(*path.fit(penalty), classes, penalty)
    return Pipeline([("scale", scaler), ("logistic", logistic)])


def few_per_class(labels: Array, count: int, seed: int) -> Array:
    """Return the indices of `count` random samples of each class, or all where it has fewer.

    Args:
        labels: int `[N]`.
        count: samples of each class, at least 1.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(chosen))


def _choose(
    path: LogisticPath, features: Array, labels: Array, penalties: Sequence[float]
) -> tuple[float, Fit]:
    """Return the penalty that is best on held-out features float32 `[M, C]`, and its fit.

    The strongest is tried first, and the rest are left out when some in a row are worse than the
    best and likelihood has fallen too. By hits alone the strongest could seem the best: it finds
    the commonest class everywhere, and the next few flip an image or two at random.
    """
    fits: list[Fit] = []
    hits: list[int] = []
    losses: list[float] = []
    for penalty in penalties:
        weights, free = path.fit(penalty, COARSE)
        fits.append((weights, free))
        logits = features @ weights.T.astype(np.float32) + free
        hits.append(int((logits.argmax(1) == labels).sum()))
        losses.append(float(cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))))
        if max(hits[-PATIENCE:]) < max(hits) and min(losses[-PATIENCE:]) > min(losses):
            break
    ties = np.flatnonzero(np.array(hits) == max(hits))
    best = int(ties[len(ties) // 2])
    return penalties[best], fits[best]


def _estimator(
    weights: Array, intercepts: Array, classes: Array, penalty: float
) -> LogisticRegression:
    """Return scikit-learn's estimator, as it is after its own fit."""
    if len(classes) == 2:  # it has one row then: the second class against the first
        weights, intercepts = weights[1:] - weights[:1], intercepts[1:] - intercepts[:1]
    model = LogisticRegression(C=penalty)
    model.coef_, model.intercept_, model.classes_ = weights, intercepts, classes
    return model


def _normalized(features: Array) -> torch.Tensor:
    # In double precision: the features of a random ViT differ in the fifth digit, so that their
    # cosine similarities differ in the tenth.
    return torch.nn.functional.normalize(torch.from_numpy(features.astype(np.float64)), dim=1)
