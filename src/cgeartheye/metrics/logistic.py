"""Multinomial logistic regression along a path of penalties, faster than one by one.

The features are turned to their principal axes and each weight is measured in units of its own
curvature, so that L-BFGS sees a problem that is nearly round; and each fit begins where those
before point to, because weights are smooth in the logarithm of the penalty.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray

COARSE = 3e-4
"""Fall of the mean loss in a step at which a fit ends that only chooses the penalty."""
FINE = 1e-6
STEPS = 300
MEMORY = 10
"""Steps that L-BFGS remembers."""


@dataclass
class LogisticPath:
    """Fits to the same features, best each with a weaker penalty than the one before.

    Minimises, as scikit-learn does, C times the summed cross-entropy plus half the squared weights;
    the intercepts are free. Of two classes the weights are the difference of their two rows.
    """

    features: Array
    """`[N, D]`, best standardised."""
    labels: Array
    """int `[N]`, 0..K-1."""
    classes: int
    """K, 2 or more."""
    _found: list[Array] = field(default_factory=list, init=False)
    """The last three solutions, `[R + 1, K]`: a row an axis, the intercepts last."""

    def __post_init__(self) -> None:
        x_ND = torch.from_numpy(self.features).float()
        if len(x_ND) < x_ND.shape[1]:  # weights beside the span of the features are 0
            self._axes_DR = torch.linalg.svd(x_ND, full_matrices=False)[2].T
        else:
            self._axes_DR = torch.linalg.eigh((x_ND.T @ x_ND).double())[1].float()
        self._z_NR = x_ND @ self._axes_DR
        self._squares_NR = self._z_NR**2
        self._labels_N1 = torch.from_numpy(self.labels).long()[:, None]
        even = (1 - 1 / self.classes) / self.classes
        self._curvature = self._curvature_of(torch.full((len(x_ND), self.classes), even))

    def fit(self, c: float, tolerance: float = FINE) -> tuple[Array, Array]:
        """Return weights `[K, D]` and intercepts `[K]`, float64.

        Args:
            c: inverse strength of the penalty, above 0.
            tolerance: the fall of the mean loss in a step at which steps end.
        """
        count = len(self._z_NR)
        # The square of the difference of two opposite rows is twice the sum of their squares.
        penalty = (2 if self.classes == 2 else 1) / (c * count)
        curvature = self._curvature.copy()
        curvature[:-1] += penalty
        units = np.sqrt(curvature)
        labels = self._labels_N1
        last: tuple[Array, Tensor]

        def loss(flat: Array) -> tuple[float, Array]:
            nonlocal last
            w = flat.reshape(units.shape) / units
            logs_NK = self._log_softmax(w)
            value = -float(logs_NK.gather(1, labels).double().mean())
            # Shares below e^-40 would be numbers that processors are slow with.
            errors_NK = logs_NK.clamp_(min=-40).exp_()
            errors_NK.scatter_add_(1, labels, torch.full_like(labels, -1, dtype=torch.float32))
            last = flat, errors_NK
            # This order of the factors is the quicker one.
            sums = torch.vstack([(errors_NK.T @ self._z_NR).T, errors_NK.sum(0)])
            gradient: Array = sums.double().numpy() / count
            gradient[:-1] += penalty * w[:-1]
            return value + penalty / 2 * float((w[:-1] ** 2).sum()), (gradient / units).ravel()

        start = (self._extrapolated(units.shape) * units).ravel()
        found = minimize(loss, start, tolerance)
        if last[0] is not found:  # the last step was none
            loss(found)
        w = found.reshape(units.shape) / units
        shares_NK = last[1].scatter_add_(1, labels, torch.ones_like(labels, dtype=torch.float32))
        self._take(w, shares_NK)
        return (self._axes_DR.double().numpy() @ w[:-1]).T, w[-1]

    def begin(self, weights: Array, intercepts: Array) -> None:
        """Let the next fit begin at weights `[K, D]` and intercepts `[K]`."""
        w = np.vstack([self._axes_DR.double().numpy().T @ weights.T, intercepts])
        self._take(w, self._log_softmax(w).clamp_(min=-40).exp_())

    def _take(self, w: Array, shares_NK: Tensor) -> None:
        self._curvature = self._curvature_of(shares_NK * (1 - shares_NK))
        self._found = [*self._found[-2:], w]

    def _log_softmax(self, w: Array) -> Tensor:
        # Products with a multiple of 8 columns take half the time.
        weights = torch.zeros(len(w), self.classes + -self.classes % 8)
        weights[:, : self.classes] = torch.from_numpy(w)
        logits_NK = torch.addmm(weights[-1], self._z_NR, weights[:-1])[:, : self.classes]
        return logits_NK.log_softmax(1)

    def _curvature_of(self, variances_NK: Tensor) -> Array:
        """Return the diagonal of the Hessian of the mean cross-entropy, `[R + 1, K]`."""
        sums = torch.vstack([(variances_NK.T @ self._squares_NR).T, variances_NK.sum(0)])
        diagonal: Array = (sums.double() / len(variances_NK)).clamp(min=1e-12).numpy()
        return diagonal

    def _extrapolated(self, shape: tuple[int, int]) -> Array:
        """Return where the fits so far point to, a parabola through three of them."""
        if not self._found:
            return np.zeros(shape)
        *before, last = self._found
        if len(before) < 2:
            return 2 * last - before[0] if before else last
        parabola: Array = 3 * last - 3 * before[1] + before[0]
        return parabola


def minimize(loss: Callable[[Array], tuple[float, Array]], start: Array, tolerance: float) -> Array:
    """Return where a convex function is least, by L-BFGS (Nocedal and Wright 2006, algorithm 7.5).

    In units of the curvature a first step of length 1 is right, and the libraries' bookkeeping
    takes as long as the function.

    Args:
        loss: returns value and gradient.
        start: float64 `[n]`.
        tolerance: the fall of the value in a step at which steps end, relative above 1.
    """
    x, (value, gradient) = start, loss(start)
    steps: list[tuple[Array, Array, float]] = []
    for _ in range(STEPS):
        direction = -_inverse_hessian(gradient, steps)
        slope, length = float(gradient @ direction), 1.0
        point = x + direction
        ahead, ahead_gradient = loss(point)
        while ahead > value + 1e-4 * length * slope:
            length /= 2
            if length < 1e-3:  # no more than the noise of float32 is left
                return x
            point = x + length * direction
            ahead, ahead_gradient = loss(point)
        step, turn = point - x, ahead_gradient - gradient
        curvature = float(step @ turn)
        if curvature > 0:
            steps = [*steps[1 - MEMORY :], (step, turn, curvature)]
        fall, x, value, gradient = value - ahead, point, ahead, ahead_gradient
        if fall <= tolerance * max(abs(value), 1.0):
            break
    return x


def _inverse_hessian(gradient: Array, steps: list[tuple[Array, Array, float]]) -> Array:
    """Multiply by the inverse Hessian estimated from past steps (algorithm 7.4)."""
    found, shares = gradient.copy(), []
    for step, turn, curvature in reversed(steps):
        shares.append(float(step @ found) / curvature)
        found -= shares[-1] * turn
    if steps:
        _, turn, curvature = steps[-1]
        found *= curvature / float(turn @ turn)
    for (step, turn, curvature), share in zip(steps, reversed(shares), strict=True):
        found += (share - float(turn @ found) / curvature) * step
    return found
