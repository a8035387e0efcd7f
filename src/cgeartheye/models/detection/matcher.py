"""Which query stands for which object: the cheapest one-to-one assignment (Carion et al. 2020)."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cgeartheye.models.detection.box_coder import BoxCoder

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss (Lin et al. 2017)
_CLASS_COST = 2.0


class Targets(NamedTuple):
    """The objects of a batch of images, padded to as many as any of them has.

    Attributes:
        boxes: `[B, N, numbers]`, see `BoxCoder`.
        labels: int64 `[B, N]`, 0 in the padding.
        counts: of each image's objects.
    """

    boxes: Tensor
    labels: Tensor
    counts: list[int]

    @property
    def present(self) -> Tensor:
        """Which places are not padding, bool `[B, N]`."""
        numbers = torch.arange(self.labels.shape[1], device=self.labels.device)
        return numbers < torch.tensor(self.counts, device=self.labels.device)[:, None]


class Pairs(NamedTuple):
    """Indices of what belongs together, int64 `[P]` each."""

    layer: Tensor
    image: Tensor
    query: Tensor
    object: Tensor


def pad_targets(boxes: list[Tensor], labels: list[Tensor], coder: BoxCoder, side: int) -> Targets:
    """Pad the annotated objects of a batch.

    Args:
        boxes: of each image, in pixels as `BoxCoder.encode` takes them.
        labels: int64 `[n]` of each.
        coder: of the boxes.
        side: pixels of the (square) images.
    """
    counts = [len(part) for part in labels]
    device, most = labels[0].device, max(counts)
    padded = torch.zeros(len(counts), most, coder.box_dim, device=device)
    classes = torch.zeros(len(counts), most, dtype=torch.int64, device=device)
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        padded[number, : len(label)] = coder.encode(box.float(), side)
        classes[number, : len(label)] = label
    return Targets(padded, classes, counts)


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, truth: Targets, coder: BoxCoder) -> Pairs:
    """Assign a query to each object, in each layer on its own.

    Of more objects than queries those are left out that would cost most.

    The costs of all layers and images are computed and fetched at once; what remains is one call
    of scipy's solver for each.

    Args:
        logits: `[L, B, Q, K]`.
        boxes: `[L, B, Q, numbers]`.
        truth: the objects.
        coder: of the boxes.
    """
    found: list[tuple[np.ndarray, ...]] = []
    if max(truth.counts):
        costs = _costs(logits.float(), boxes.float(), truth, coder).cpu().numpy()
        # A loss that is not finite ends the training with a sentence; the solver knows none.
        costs = np.nan_to_num(costs, nan=1e9, posinf=1e9, neginf=-1e9)
        for layer, of_layer in enumerate(costs):
            for image, count in enumerate(truth.counts):
                queries, objects = linear_sum_assignment(of_layer[image, :, :count])
                whole = np.full_like(queries, layer), np.full_like(queries, image)
                found.append((*whole, queries, objects))
    indices = np.concatenate(found, axis=1) if found else np.zeros((4, 0), np.int64)
    return Pairs(*torch.from_numpy(indices).to(logits.device))


def _costs(logits: Tensor, boxes: Tensor, truth: Targets, coder: BoxCoder) -> Tensor:
    """`[L, B, Q, N]`: of the class as the focal loss has it, and of the box."""
    chances = logits.sigmoid()
    positive = ALPHA * (1 - chances) ** GAMMA * -(chances + 1e-8).log()
    negative = (1 - ALPHA) * chances**GAMMA * -(1 - chances + 1e-8).log()
    labels = truth.labels[None, :, None].expand(*logits.shape[:3], -1)
    classes = _CLASS_COST * (positive - negative).gather(-1, labels)
    return classes + coder.distance(boxes[..., None, :], truth.boxes[None, :, None])
