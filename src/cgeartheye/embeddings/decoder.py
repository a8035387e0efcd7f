"""A decoder that is fitted again after each click: logistic regression on stored features."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from cgeartheye.embeddings.labels import LabelledPatches
from cgeartheye.embeddings.store import Embedding, Ints, Reals

BLOCK = 20
"""Patches a side of a place: what the backbone sees at once, so that within it all is alike."""

_FOLDS = 5


@dataclass(frozen=True)
class Decoder:
    """Linear scores of classes on the components of patches.

    Attributes:
        weights: float32 `[D, K]`.
        bias: `[K]`.
        names: of the classes.
    """

    weights: Reals
    bias: Reals
    names: tuple[str, ...]

    def probabilities(self, components: Reals) -> Reals:
        """Map components `[..., D]` to probabilities float32 `[..., K]`."""
        scores = components @ self.weights + self.bias
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        return np.asarray(scores / scores.sum(-1, keepdims=True), np.float32)

    def decode(self, embedding: Embedding) -> Reals:
        """Return the probabilities of all patches of a scene, float32 `[rows, columns, K]`."""
        weights = (self.weights * embedding.projection.scale[:, None]).astype(np.float32)
        part = Decoder(weights, self.bias, self.names)
        return part.probabilities(embedding.vectors.astype(np.float32))


def fit_decoder(patches: LabelledPatches, embedding: Embedding) -> Decoder:
    """Fit the decoder; each class weighs the same, and so does each label within it.

    Args:
        patches: of at least two classes.
        embedding: of the scene.
    """
    x_ND = embedding.components(patches.rows, patches.columns)
    return _fit(x_ND, patches.classes, patches.labels, patches.names)


def estimate_accuracy(patches: LabelledPatches, embedding: Embedding) -> float | None:
    """Estimate the accuracy of the map by leaving out places, one group after the other.

    A place is a square of `BLOCK` patches; a label that reaches over several is of one. Patches of
    one place are nearly copies: leaving out single ones would only show that.

    Args:
        patches: that are labelled.
        embedding: of the scene.

    Returns:
        The mean over the classes of the mean over their labels, 0..1; none where a class has
        labels in one place alone.
    """
    first = np.unique(patches.labels, return_index=True)[1]
    number = np.searchsorted(patches.labels[first], patches.labels)
    rows, columns = patches.rows[first] // BLOCK, patches.columns[first] // BLOCK
    groups = (rows * 1_000_000 + columns)[number]
    places = [len(np.unique(groups[patches.classes == k])) for k in np.unique(patches.classes)]
    folds = min(_FOLDS, *places)
    if folds < 2 or len(places) < 2:
        return None
    x_ND = embedding.components(patches.rows, patches.columns)
    right = np.zeros(len(patches))
    for fit, held in StratifiedGroupKFold(folds).split(x_ND, patches.classes, groups):
        if len(np.unique(patches.classes[fit])) < 2:
            return None
        made = _fit(x_ND[fit], patches.classes[fit], patches.labels[fit], patches.names)
        right[held] = made.probabilities(x_ND[held]).argmax(-1) == patches.classes[held]
    labels = np.array([right[number == n].mean() for n in range(len(first))])
    classes = patches.classes[first]
    return float(np.mean([labels[classes == k].mean() for k in np.unique(classes)]))


def _fit(x_ND: Reals, classes: Ints, labels: Ints, names: tuple[str, ...]) -> Decoder:
    # One scale for all components: with few labels those of small variance are mostly noise.
    scale = float(np.sqrt((x_ND - x_ND.mean(0)).var(0).sum())) or 1.0
    sizes = np.bincount(labels)[labels]
    weights = 1 / sizes
    per_class = np.bincount(classes, weights)
    weights = weights / per_class[classes] * per_class.sum() / len(np.unique(classes))
    model = LogisticRegression(C=_PENALTY, max_iter=200)
    with warnings.catch_warnings():
        # Past 200 steps the map no longer changes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x_ND / scale, classes, sample_weight=weights)
    width, count = x_ND.shape[1], len(names)
    coefficients, bias = np.zeros((width, count)), np.full(count, -np.inf)
    found = model.classes_
    if len(found) == 2:  # scikit-learn has one row, of the second class against the first
        coefficients[:, found[1]], bias[found] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        coefficients[:, found], bias[found] = model.coef_.T, model.intercept_
    return Decoder((coefficients / scale).astype(np.float32), bias.astype(np.float32), names)


_PENALTY = 10.0  # inverse strength; measured by benchmarks/label_clicks.py
