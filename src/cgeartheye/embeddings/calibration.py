"""Calibrated probabilities: one temperature, found on places that were left out."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, softmax

from cgeartheye.embeddings.crossval import HeldOut, leave_places_out
from cgeartheye.embeddings.decoder import Decoder
from cgeartheye.embeddings.labels import LabelledPatches
from cgeartheye.embeddings.store import Embedding, Ints, Reals

_COLDEST, _HOTTEST = 1 / 20, 20.0
_BINS = 10
_LEAST = -50.0  # logarithm of a probability; of a class that a fit did not have it would be -inf


@dataclass(frozen=True)
class Calibration:
    """Distance of probabilities from shares of what is right, and what mends them.

    Attributes:
        temperature: that scores are divided by; above 1 the decoder was too sure. 1 where another
            would not lessen the error, as it happens with few labels.
        before: expected calibration error of the decoder's own probabilities, 0..1.
        after: the same with a temperature, each place's found without it.
    """

    temperature: float
    before: float
    after: float


def calibrate(held: HeldOut) -> Calibration:
    """Find the temperature, and measure what it is worth on places that it was not found on.

    Args:
        held: scores of `leave_places_out`.
    """
    scores, weights = held.scores, held.weights
    mended = np.empty_like(scores)
    for fold in np.unique(held.folds):
        own = held.folds == fold
        rest = find_temperature(
            scores[~own], held.classes[~own], weights[~own], len(np.unique(held.labels[~own]))
        )
        mended[own] = scores[own] / rest
    before, after = (
        calibration_error(softmax(each, axis=-1), held.classes, weights)
        for each in (scores, mended)
    )
    if after >= before:
        return Calibration(1.0, before, before)
    count = len(np.unique(held.labels))
    return Calibration(find_temperature(scores, held.classes, weights, count), before, after)


def calibrated(decoder: Decoder, patches: LabelledPatches, embedding: Embedding) -> Decoder:
    """Return a decoder with calibrated probabilities; the same where labels are in too few places.

    Args:
        decoder: fitted to `patches`.
        patches: that are labelled.
        embedding: of the scene.
    """
    held = leave_places_out(patches, embedding)
    return decoder.tempered(calibrate(held).temperature) if held else decoder


def find_temperature(scores_NK: Reals, classes_N: Ints, weights_N: Reals, count: int) -> float:
    """Return the temperature of the least weighted cross-entropy (Guo et al. 2017).

    With few labels all may be right, and no temperature would be cold enough: targets are therefore
    (count + 1) / (count + K) for the class of the label and 1 / (count + K) for others, as if each
    class had been seen once more (Platt 1999).

    Args:
        scores_NK: before the softmax.
        classes_N: that are right.
        weights_N: of the rows.
        count: of labels, which are fewer than their patches.

    Returns:
        1/20 to 20.
    """
    kinds = scores_NK.shape[1]
    targets = np.full(scores_NK.shape, 1 / (count + kinds))
    targets[np.arange(len(classes_N)), classes_N] = (count + 1) / (count + kinds)

    def loss(log_temperature: float) -> float:
        logs = log_softmax(scores_NK / np.exp(log_temperature), axis=-1)
        return -float(weights_N @ (targets * np.maximum(logs, _LEAST)).sum(-1))

    bounds = np.log(_COLDEST), np.log(_HOTTEST)
    from scipy.optimize import minimize_scalar  # takes a second, which a server would start later

    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def calibration_error(probabilities_NK: Reals, classes_N: Ints, weights_N: Reals) -> float:
    """Return the expected calibration error, in ten bins of confidence (Guo et al. 2017).

    Args:
        probabilities_NK: of the classes.
        classes_N: that are right.
        weights_N: of the rows.

    Returns:
        Mean distance of confidence and accuracy over the bins, 0..1.
    """
    confidence = probabilities_NK.max(-1)
    right = probabilities_NK.argmax(-1) == classes_N
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(bins, weights_N * (confidence - right))
    return float(np.abs(gaps).sum() / weights_N.sum())
