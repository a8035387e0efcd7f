"""A decoder that is fitted again after each click: logistic regression on stored features."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cgeartheye.embeddings.labels import LabelledPatches
from cgeartheye.embeddings.store import Embedding, Ints, Reals
from cgeartheye.utils.errors import UserError


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

    def scores(self, components: Reals) -> Reals:
        """Map components `[..., D]` to scores `[..., K]`, before the softmax."""
        return np.asarray(components @ self.weights + self.bias)

    def tempered(self, temperature: float) -> "Decoder":
        """Return the decoder with its scores divided by a temperature (see `calibration`)."""
        return Decoder(self.weights / temperature, self.bias / temperature, self.names)

    def probabilities(self, components: Reals) -> Reals:
        """Map components `[..., D]` to probabilities float32 `[..., K]`."""
        scores = self.scores(components)
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

    Raises:
        UserError: labels of other classes, if there are any, are outside or were taken back.
    """
    left = np.unique(patches.classes)
    if len(left) < 2:
        raise UserError(
            f"where {embedding.name} has data, later labels leave those of the class "
            f"{patches.names[left[0]] if len(left) else 'none'} alone: label a place of another "
            "class, that no later label covers"
        )
    x_ND = embedding.components(patches.rows, patches.columns)
    return fit_components(x_ND, patches.classes, patches.labels, patches.names)


def fit_components(x_ND: Reals, classes: Ints, labels: Ints, names: tuple[str, ...]) -> Decoder:
    """Fit the decoder to components of patches; see `fit_decoder`.

    Args:
        x_ND: float32.
        classes: of the patches, of at least two; one that none has gets the score -inf.
        labels: number of the label that each patch is of.
        names: of the classes.
    """
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
