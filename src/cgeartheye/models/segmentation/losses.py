"""The losses of segmentation; pixels that are not labelled count nowhere."""

import torch
import torch.nn.functional as F
from torch import Tensor

NOT_LABELED = 255  # in a mask
_ALMOST_NOTHING = 1e-6


def cross_entropy(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over the labelled pixels; 0 where there are none.

    Args:
        logits: float `[B, K, H, W]`.
        mask: integers `[B, H, W]`, 0..K-1 or 255.
        class_weights: `[K]`; a pixel weighs as much as its class, in the sum and in the mean.

    Returns:
        A scalar, float32.
    """
    truth, labeled = mask.long(), mask != NOT_LABELED
    total = F.cross_entropy(
        logits.float(), truth, weight=class_weights, ignore_index=NOT_LABELED, reduction="sum"
    )
    if class_weights is None:
        return total / labeled.sum().clamp_min(1)
    weight = (class_weights[truth * labeled] * labeled).sum()
    return total / weight.clamp_min(_ALMOST_NOTHING)


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the Dice loss: 1 - 2 |P G| / (|P| + |G|), the mean over classes (Milletari 2016).

    Probabilities P and truth G are summed over the labelled pixels of the whole batch. Classes
    that the truth does not hold are left out: they would only add a constant, and what is wrongly
    taken for them is missing elsewhere.

    Args:
        logits: float `[B, K, H, W]`.
        mask: integers `[B, H, W]`, 0..K-1 or 255.

    Returns:
        A scalar, float32, 0..1; 0 where nothing is labelled.
    """
    labeled = mask != NOT_LABELED
    truth = mask.long() * labeled
    probabilities = logits.softmax(1, dtype=torch.float32) * labeled[:, None]
    hits = probabilities.gather(1, truth[:, None]).flatten()
    none = hits.new_zeros(logits.shape[1])
    shared = none.index_add(0, truth.flatten(), hits)
    support = none.index_add(0, truth.flatten(), labeled.flatten().to(hits.dtype))
    sizes = probabilities.sum((0, 2, 3)) + support
    losses = 1 - 2 * shared / sizes.clamp_min(_ALMOST_NOTHING)
    present = support > 0
    return (losses * present).sum() / present.sum().clamp_min(1)
