"""Cross-validation by place: what a decoder says of ground that it has not seen."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from cgeartheye.embeddings.decoder import fit_components
from cgeartheye.embeddings.labels import LabelledPatches
from cgeartheye.embeddings.store import Embedding, Ints, Reals

BLOCK = 20
"""Patches a side of a place: what the backbone sees at once, so that within it all is alike."""

_FOLDS = 5


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Scores of labelled patches by decoders whose fit left out their place.

    Attributes:
        scores: of the classes, before the softmax, `[N, K]`; -inf for a class that the fit did not
            have.
        classes: that the labels give `[N]`.
        labels: number of the label that each patch is of, from 0 on `[N]`.
        folds: number of the fit that left out each patch `[N]`.
    """

    scores: Reals
    classes: Ints
    labels: Ints
    folds: Ints

    @property
    def weights(self) -> Reals:
        """Weight of each patch: equal for classes, and for the labels of one; their sum is 1."""
        weights = 1 / np.bincount(self.labels)[self.labels]
        per_class = np.bincount(self.classes, weights)
        return np.asarray(weights / per_class[self.classes] / len(np.unique(self.classes)))

    @property
    def accuracy(self) -> float:
        """Mean over the classes of the mean over their labels, 0..1."""
        right = self.scores.argmax(-1) == self.classes
        return float((self.weights * right).sum())


def leave_places_out(patches: LabelledPatches, embedding: Embedding) -> HeldOut | None:
    """Fit without some places, and score them, until each was left out once.

    A place is a square of `BLOCK` patches; a label that reaches over several is of one. Patches of
    one place are nearly copies: leaving out single ones would only show that.

    Args:
        patches: that are labelled.
        embedding: of the scene.

    Returns:
        The scores; none where a class has labels in one place alone.
    """
    first, number = np.unique(patches.labels, return_index=True, return_inverse=True)[1:]
    rows, columns = patches.rows[first] // BLOCK, patches.columns[first] // BLOCK
    groups = (rows * 1_000_000 + columns)[number]
    places = [len(np.unique(groups[patches.classes == k])) for k in np.unique(patches.classes)]
    count = min(_FOLDS, *places)
    if count < 2 or len(places) < 2:
        return None
    x_ND = embedding.components(patches.rows, patches.columns)
    scores = np.zeros((len(patches), len(patches.names)))
    folds = np.zeros(len(patches), np.int64)
    split = StratifiedGroupKFold(count).split(x_ND, patches.classes, groups)
    for fold, (fit, held) in enumerate(split):
        if len(np.unique(patches.classes[fit])) < 2:
            return None
        made = fit_components(x_ND[fit], patches.classes[fit], patches.labels[fit], patches.names)
        scores[held], folds[held] = made.scores(x_ND[held]), fold
    return HeldOut(scores, patches.classes, number.astype(np.int64), folds)
