"""Detections of an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """Boxes of an image, best first.

    Attributes:
        boxes: float32, horizontal `[n, 4]` as x0, y0, x1, y1, or oriented `[n, 5]` as in
            `boxes.convert`, in pixels.
        scores: float32 `[n]`, 0..1.
        labels: int64 `[n]`, indices of classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: Tensor | slice) -> Self:
        """Return some of them, by indices, a mask or a slice."""
        return type(self)(self.boxes[which], self.scores[which], self.labels[which])

    @property
    def centers(self) -> Tensor:
        """Centres of the boxes `[n, 2]`."""
        if self.boxes.shape[1] == 4:
            return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        return self.boxes[:, :2]

    def cpu(self) -> Self:
        """Return them in the main memory."""
        return type(self)(self.boxes.cpu(), self.scores.cpu(), self.labels.cpu())

    @classmethod
    def none(cls, box_dim: int) -> Self:
        """Return no boxes, of 4 or 5 numbers each."""
        return cls(torch.zeros(0, box_dim), torch.zeros(0), torch.zeros(0, dtype=torch.int64))

    @classmethod
    def concatenate(cls, parts: Sequence["Detections"]) -> Self:
        """Put several one behind the other, in order; at least one."""
        return cls(
            torch.cat([part.boxes for part in parts]),
            torch.cat([part.scores for part in parts]),
            torch.cat([part.labels for part in parts]),
        )
