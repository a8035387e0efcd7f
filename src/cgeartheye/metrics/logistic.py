"""Multinomial logistic regression along a path of penalties, faster than one by one.

The features are turned to their principal axes and each weight is measured in units of its own
curvature, so that L-BFGS sees a problem that is nearly round; and each fit begins where those
before point to, because weights are smooth in the logarithm of the penalty.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

Array = np.ndarray

COARSE = 1e-5
"""Relative fall of the loss in a step at which a fit ends that only chooses the penalty."""
FINE = 1e-7
STEPS = 300


@dataclass
class LogisticPath:
    """Fits to the same features, best each with a weaker penalty than the one before.

    Minimises, as scikit-learn does, C times the summed cross-entropy plus half the squared weights;
    the intercepts are free.
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
        self._squares_RN = (self._z_NR**2).T.contiguous()
        self._labels_N1 = torch.from_numpy(self.labels).long()[:, None]
        even = (1 - 1 / self.classes) / self.classes
        self._curvature = self._curvature_of(torch.full((len(x_ND), self.classes), even))

    def fit(self, c: float, tolerance: float = FINE) -> tuple[Array, Array]:
        """Return weights `[K, D]` and intercepts `[K]`, float64.

        Args:
            c: inverse strength of the penalty, above 0.
            tolerance: the relative fall of the loss at which steps end.
        """
        count, penalty = len(self._z_NR), 1 / (c * len(self._z_NR))
        curvature = self._curvature.copy()
        curvature[:-1] += penalty
        units = np.sqrt(curvature)
        labels = self._labels_N1

        def loss(flat: Array) -> tuple[float, Array]:
            w = flat.reshape(units.shape) / units
            logs_NK = self._log_softmax(w)
            value = -float(logs_NK.gather(1, labels).double().mean())
            errors_NK = logs_NK.exp_()
            errors_NK.scatter_add_(1, labels, torch.full_like(labels, -1, dtype=torch.float32))
            gradient = np.vstack([self._z_NR.T @ errors_NK, errors_NK.sum(0)[None]]) / count
            gradient = gradient.astype(np.float64)
            gradient[:-1] += penalty * w[:-1]
            return value + penalty / 2 * float((w[:-1] ** 2).sum()), (gradient / units).ravel()

        found = minimize(
            loss,
            (self._extrapolated(units.shape) * units).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"ftol": tolerance, "gtol": 0.0, "maxiter": STEPS},
        )
        w = found.x.reshape(units.shape) / units
        self._take(w)
        return (self._axes_DR.double().numpy() @ w[:-1]).T, w[-1]

    def begin(self, weights: Array, intercepts: Array) -> None:
        """Let the next fit begin at weights `[K, D]` and intercepts `[K]`."""
        self._take(np.vstack([self._axes_DR.double().numpy().T @ weights.T, intercepts]))

    def _take(self, w: Array) -> None:
        shares = self._log_softmax(w).exp_()
        self._curvature = self._curvature_of(shares * (1 - shares))
        self._found = [*self._found[-2:], w]

    def _log_softmax(self, w: Array) -> Tensor:
        weights = torch.from_numpy(w).float()
        return torch.addmm(weights[-1], self._z_NR, weights[:-1]).log_softmax(1)

    def _curvature_of(self, variances_NK: Tensor) -> Array:
        """Return the diagonal of the Hessian of the mean cross-entropy, `[R + 1, K]`."""
        sums = torch.vstack([self._squares_RN @ variances_NK, variances_NK.sum(0)])
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
