"""The losses of a query detector, over all of its layers at once."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from cgeartheye.models.detection.box_coder import BoxCoder
from cgeartheye.models.detection.denoising import Noised
from cgeartheye.models.detection.matcher import ALPHA, GAMMA, Targets, match


@dataclass(frozen=True)
class Outputs:
    """Outputs of a detector in a training.

    Attributes:
        logits: `[L, B, Q, K]`: of the proposals, then of each layer of the decoder.
        boxes: `[L, B, Q, numbers]`, see `BoxCoder`.
        noised: the denoising queries, if there are any.
        noised_logits: `[L - 1, B, D, K]`, what became of them in the decoder.
        noised_boxes: `[L - 1, B, D, numbers]`.
    """

    logits: Tensor
    boxes: Tensor
    noised: Noised | None
    noised_logits: Tensor
    noised_boxes: Tensor


def set_criterion(
    outputs: Outputs, truth: Targets, coder: BoxCoder, objects: float, noised: float
) -> dict[str, Tensor]:
    """Return the weighted losses by name, summed over layers, each a mean over objects.

    Args:
        outputs: of a detector.
        truth: what it was to find.
        coder: of the boxes.
        objects: that the losses are divided by: those of the batch, the mean over processes.
        noised: the same of noised positives.
    """
    pairs = match(outputs.logits, outputs.boxes, truth, coder)
    targets = torch.zeros_like(outputs.logits, dtype=torch.float32)
    labels = truth.labels[pairs.image, pairs.object]
    targets[pairs.layer, pairs.image, pairs.query, labels] = 1
    boxes = outputs.boxes[pairs.layer, pairs.image, pairs.query].float()
    losses = {"class": _focal(outputs.logits, targets).sum() / objects}
    for name, loss in coder.losses(boxes, truth.boxes[pairs.image, pairs.object]).items():
        losses[name] = loss.sum() / objects
    if outputs.noised is not None:
        losses |= _noised_losses(outputs, outputs.noised, truth, coder, noised)
    return losses


def _noised_losses(
    outputs: Outputs, noised: Noised, truth: Targets, coder: BoxCoder, positives: float
) -> dict[str, Tensor]:
    layer, image, query = noised.positive.expand(len(outputs.noised_logits), -1, -1).nonzero(
        as_tuple=True
    )
    objects = noised.object[image, query]
    targets = torch.zeros_like(outputs.noised_logits, dtype=torch.float32)
    targets[layer, image, query, truth.labels[image, objects]] = 1
    classes = _focal(outputs.noised_logits, targets) * noised.real[..., None]
    losses = {"noised_class": classes.sum() / positives}
    boxes = outputs.noised_boxes[layer, image, query].float()
    for name, loss in coder.losses(boxes, truth.boxes[image, objects]).items():
        losses[f"noised_{name}"] = loss.sum() / positives
    return losses


def _focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the focal loss (Lin et al. 2017) of each number, float32."""
    loss: Tensor = sigmoid_focal_loss(logits.float(), targets, alpha=ALPHA, gamma=GAMMA)
    return loss
