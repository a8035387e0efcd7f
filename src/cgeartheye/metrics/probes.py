"""Quality of features by themselves: nearest neighbours and linear probes, on arrays."""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Array = np.ndarray

# Inverse strength of the penalty, tried in powers of ten on a part of the training features.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)


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


def linear_probe(train: Array, labels: Array, seed: int = 0) -> Pipeline:
    """Fit multinomial logistic regression to standardised features.

    The penalty is chosen on a fifth of the training features, by class; where a class has fewer
    than five it is 1.

    Args:
        train: features `[N, C]`.
        labels: int `[N]`.
        seed: of the split.

    Returns:
        An estimator with `predict`.
    """
    penalty = 1.0
    if np.bincount(labels)[np.unique(labels)].min() >= 5:
        split = StratifiedShuffleSplit(1, test_size=0.2, random_state=seed)
        fit, held_out = next(split.split(train, labels))
        scores = [
            _logistic(c, train[fit], labels[fit]).score(train[held_out], labels[held_out])
            for c in PENALTIES
        ]
        penalty = PENALTIES[int(np.argmax(scores))]
    return _logistic(penalty, train, labels)


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


def _logistic(penalty: float, train: Array, labels: Array) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=300))
    with warnings.catch_warnings():
        # Past 300 steps the figures no longer move, whatever the gradient says.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(train, labels)


def _normalized(features: Array) -> torch.Tensor:
    # In double precision: the features of a random ViT differ in the fifth digit, so that their
    # cosine similarities differ in the tenth.
    return torch.nn.functional.normalize(torch.from_numpy(features.astype(np.float64)), dim=1)
