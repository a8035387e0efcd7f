"""Which points of a dense detector stand for which object, and the losses of all.

Task-aligned assignment (Feng et al. 2021, "TOOD: Task-aligned one-stage object detection"): the
points in an object whose score and box agree best with it, of whatever level, and targets for the
score that measure how well they do.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cgeartheye.models.detection.box_coder import BoxCoder
from cgeartheye.models.detection.light import Points
from cgeartheye.models.detection.matcher import Targets

ALPHA, BETA = 1.0, 4.0  # powers of score and overlap; TOOD has 6, which learns later
TOP = 13  # points that an object has at most
GAMMA = 2.0  # of the quality focal loss
_LEAST_IOU = 0.05  # so that scores still order the best of bad boxes


class Assigned(NamedTuple):
    """Points that stand for objects: int64 `[A]` each, and how well.

    Attributes:
        image: index of the image.
        point: of the point.
        object: of the object in the image.
        quality: target of the score, float32 `[A]`, 0..1.
    """

    image: Tensor
    point: Tensor
    object: Tensor
    quality: Tensor


@torch.no_grad()
def assign(
    logits: Tensor, boxes: Tensor, points: Points, truth: Targets, coder: BoxCoder
) -> Assigned:
    """Assign points to the objects of a batch.

    Candidates are the points in an object, and those next to its center, so that the smallest has
    some. A point that several objects ask for goes to the one it is aligned with best.

    Args:
        logits: `[B, P, K]`.
        boxes: `[B, P, numbers]`.
        points: of both.
        truth: the objects.
        coder: of the boxes.
    """
    parts = []
    for image, count in enumerate(truth.counts):
        wanted, labels = truth.boxes[image, :count], truth.labels[image, :count]
        inside = (coder.local(points.centers, wanted[:, None]).abs() < 1).all(-1)
        away = (points.centers - wanted[:, None, :2]).abs().amax(-1, keepdim=True)
        number, point = (inside | (away < points.cells)[..., 0]).nonzero(as_tuple=True)
        iou = coder.iou(boxes[image, point].float(), wanted[number]).float().clamp_min(_LEAST_IOU)
        scores = logits[image, point, labels[number]].float().sigmoid()
        aligned = torch.zeros(count, len(points.centers), device=logits.device)
        aligned[number, point] = scores**ALPHA * iou**BETA
        overlaps = torch.zeros_like(aligned)
        overlaps[number, point] = iou
        best, where = aligned.topk(min(TOP, aligned.shape[1]), dim=1)
        chosen = torch.zeros_like(aligned).scatter_(1, where, best)
        if not count:
            continue
        alignment, owner = chosen.max(0)
        (point,) = alignment.nonzero(as_tuple=True)
        owner, alignment = owner[point], alignment[point]
        overlap = overlaps[owner, point]
        most = alignment.new_zeros(2, count)
        for row, values in zip(most, (alignment, overlap), strict=True):
            row.scatter_reduce_(0, owner, values, "amax")
        quality = alignment / most[0, owner] * most[1, owner]
        parts.append((torch.full_like(point, image), point, owner, quality))
    if not parts:
        none = torch.zeros(0, dtype=torch.int64, device=logits.device)
        return Assigned(none, none, none, logits.new_zeros(0, dtype=torch.float32))
    return Assigned(*(torch.cat(column) for column in zip(*parts, strict=True)))


def aligned_losses(
    logits: Tensor, boxes: Tensor, assigned: Assigned, truth: Targets, coder: BoxCoder, total: float
) -> dict[str, Tensor]:
    """Return the losses by name: of the scores of all points and of the boxes of those assigned.

    Args:
        logits: `[B, P, K]`.
        boxes: `[B, P, numbers]`.
        assigned: see `assign`.
        truth: the objects.
        coder: of the boxes.
        total: that the losses are divided by: the qualities' sum, the mean over processes.
    """
    image, point, number, quality = assigned
    target = torch.zeros_like(logits, dtype=torch.float32)
    target[image, point, truth.labels[image, number]] = quality
    logits = logits.float()
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    classes = (loss * (logits.sigmoid() - target).abs() ** GAMMA).sum() / total
    apart = coder.overlap_loss(boxes[image, point].float(), truth.boxes[image, number])
    return {"class": classes, "box": (apart * quality).sum() / total}
