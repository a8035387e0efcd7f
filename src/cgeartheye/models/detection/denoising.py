"""Noised true boxes as further queries of a training: contrastive denoising (Zhang et al. 2022).

Each object is given twice, moved a little (positive) and moved more (negative): the first must find
back, the second must be classified as no object. Copies of all objects form a group; groups do not
see each other, and the other queries see none of them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cgeartheye.models.detection.matcher import Targets

_TURN = math.pi / 12  # by which a positive is turned at most, for a box noise of 1


class Noised(NamedTuple):
    """The further queries of a batch, always as many.

    Attributes:
        queries: `[B, D, C]`.
        boxes: `[B, D, numbers]`.
        attn_mask: which query must not see which, bool `[D + Q, D + Q]`.
        object: int64 `[B, D]`, the object that each was made of.
        positive: bool `[B, D]`.
        real: bool `[B, D]`; the others are padding.
    """

    queries: Tensor
    boxes: Tensor
    attn_mask: Tensor
    object: Tensor
    positive: Tensor
    real: Tensor


class Denoising(nn.Module):
    """Makes noised queries; module names are mmdetection's."""

    def __init__(
        self, classes: int, channels: int, count: int, label_noise: float, box_noise_scale: float
    ):
        """Build with random weights.

        Args:
            classes: K.
            channels: C, of a query.
            count: positives of an image, at most; there are as many negatives.
            label_noise: share of the labels that are drawn anew.
            box_noise_scale: half sides by which the sides of a positive are moved at most; those of
                a negative are moved by once to twice as much.
        """
        super().__init__()
        self.count, self.label_noise, self.box_noise_scale = count, label_noise, box_noise_scale
        self.label_embedding = nn.Embedding(classes, channels)

    def forward(self, truth: Targets, queries: int) -> Noised:
        """Draw the noise from torch's generator.

        Args:
            truth: the objects.
            queries: Q, how many others there are.
        """
        chosen, real = self._choose(truth)
        batch, objects = chosen.shape
        groups = max(1, self.count // max(objects, 1))
        unused = 2 * (self.count - groups * objects)
        picked = torch.cat([chosen.repeat(1, 2 * groups), chosen.new_zeros(batch, unused)], 1)
        present = torch.cat([real.repeat(1, 2 * groups), real.new_zeros(batch, unused)], 1)
        slot = torch.arange(2 * self.count, device=chosen.device)
        pair = max(objects, 1)
        positive = (slot // pair % 2 == 0) & present
        if truth.labels.shape[1]:
            labels = truth.labels.gather(1, picked)
            box_dim = truth.boxes.shape[-1]
            boxes = truth.boxes.gather(1, picked[..., None].expand(-1, -1, box_dim))
        else:
            labels = picked
            boxes = truth.boxes.new_zeros(batch, 2 * self.count, truth.boxes.shape[-1])
        anew = torch.rand(labels.shape, device=labels.device) < self.label_noise
        drawn = torch.randint_like(labels, self.label_embedding.num_embeddings)
        content = self.label_embedding(torch.where(anew, drawn, labels))
        group = slot // (2 * pair)
        attn_mask = torch.zeros(len(slot) + queries, len(slot) + queries, dtype=torch.bool)
        attn_mask = attn_mask.to(slot.device)
        attn_mask[: len(slot), : len(slot)] = group[:, None] != group
        attn_mask[len(slot) :, : len(slot)] = True
        return Noised(content, self._move(boxes, ~positive), attn_mask, picked, positive, present)

    def _choose(self, truth: Targets) -> tuple[Tensor, Tensor]:
        """Indices of objects `[B, n]`, drawn where there are too many, and which are real."""
        present = truth.present
        if present.shape[1] <= self.count:
            return torch.arange(present.shape[1], device=present.device).expand_as(present), present
        order = torch.rand(present.shape, device=present.device).where(present, 2.0).argsort(1)
        chosen = order[:, : self.count]
        return chosen, present.gather(1, chosen)

    def _move(self, boxes: Tensor, further: Tensor) -> Tensor:
        """Move the four sides of boxes, each along its own axis, and turn oriented ones."""
        sign = torch.randint(2, (*boxes.shape[:-1], 4), device=boxes.device) * 2 - 1
        far = torch.rand(sign.shape, device=boxes.device) + further[..., None]
        half = boxes[..., 2:4] / 2
        left, top, right, bottom = (
            ((sign * far * self.box_noise_scale).unflatten(-1, (2, 2)) * half[..., None, :])
            .flatten(-2)
            .unbind(-1)
        )
        across, down = (left + right) / 2, (top + bottom) / 2
        sides = (boxes[..., 2:4] + torch.stack([right - left, bottom - top], -1)).abs()
        parts = [boxes[..., :2] + torch.stack([across, down], -1), sides]
        if boxes.shape[-1] == 5:
            angle = boxes[..., 4]
            cos, sin = angle.cos(), angle.sin()
            moved = torch.stack([across * cos - down * sin, across * sin + down * cos], -1)
            spin = 2 * torch.rand_like(angle) - 1
            spin = spin + spin.sign() * further
            turned = torch.remainder(angle + spin * self.box_noise_scale * _TURN, math.pi)
            parts = [boxes[..., :2] + moved, sides, turned[..., None]]
        noised = torch.cat(parts, -1)
        return torch.cat([noised[..., :4].clamp(0, 1), noised[..., 4:]], -1)
