"""Non-maximum suppression of horizontal and oriented boxes, of any number."""

import numpy as np
import shapely
import torch
from torch import Tensor

from cgeartheye.boxes.convert import horizontal_of
from cgeartheye.boxes.detections import Detections
from cgeartheye.boxes.iou import overlap, paired_overlap

# Boxes that decide among themselves at once.
_BLOCK = 512
# Boxes that stay and are looked up at once; bounds the pairs held to this times all boxes.
_LOOKED_UP = 64


def nms(preds: Detections, threshold: float) -> Detections:
    """Drop each box that overlaps a better one of its class that stays.

    Greedy, best first; of equal scores the earlier box is the better one. Only pairs that a spatial
    index finds near each other are compared, a block of boxes at a time, so that the memory grows
    with the number of boxes and not with its square.

    Args:
        preds: boxes of either kind, in any order.
        threshold: a box goes when its intersection over union with one that stays is above this,
            0..1.

    Returns:
        Those that stay, best first.
    """
    order = preds.scores.argsort(descending=True, stable=True)
    boxes, labels = preds.boxes[order].cpu(), preds.labels[order].cpu()
    stays = torch.zeros(len(order), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        stays[members] = _stay(boxes[members], threshold)
    return preds[order[stays.to(order.device)]]


def _stay(boxes: Tensor, threshold: float) -> Tensor:
    """Return which boxes `[n, 4]` or `[n, 5]` of one class stay, best first: bool `[n]`."""
    frames = boxes.double() if boxes.shape[1] == 4 else horizontal_of(boxes.double())
    envelopes = shapely.box(*frames.numpy().T)
    tree = shapely.STRtree(envelopes)
    stays = np.ones(len(boxes), dtype=bool)
    for start in range(0, len(boxes), _BLOCK):
        end = min(start + _BLOCK, len(boxes))
        block = start + np.flatnonzero(stays[start:end])
        # Within the block the better ones decide first; only those that stay reach further.
        beaten = (overlap(boxes[block], boxes[block]) > threshold).triu(diagonal=1).numpy()
        for one, others in zip(block, beaten, strict=True):
            if stays[one]:
                stays[block[others]] = False
        block = block[stays[block]]
        for first in range(0, len(block), _LOOKED_UP):
            part = block[first : first + _LOOKED_UP]
            better, worse = tree.query(envelopes[part])
            undecided = (worse >= end) & stays[worse]
            better, worse = part[better[undecided]], worse[undecided]
            above = paired_overlap(boxes[better], boxes[worse]) > threshold
            stays[worse[above.numpy()]] = False
    return torch.from_numpy(stays)
