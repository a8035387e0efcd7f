"""What changes from step to step: learning rate, weight decay, momentum, temperature."""

import math
from typing import Any

import torch
from torch import nn

from cgeartheye.config import Objective, PretrainingSchedule
from cgeartheye.training.optimizer import decays, peak_lr


class Schedule:
    """The settings of each step of a pre-training."""

    def __init__(self, objective: Objective, training: PretrainingSchedule, global_batch: int):
        self._objective, self._training = objective, training
        self._peak = peak_lr(training, global_batch)

    def lr(self, step: int) -> float:
        """Learning rate: linear warm-up, then a cosine to `lr_end`."""
        warmup = self._share(self._training.warmup)
        if step < warmup:
            return self._peak * (step + 1) / warmup
        return _cosine(self._peak, self._training.lr_end, step - warmup, self._steps - warmup)

    def weight_decay(self, step: int) -> float:
        """Weight decay: a cosine from the first value to the second."""
        return _cosine(*self._training.weight_decay, step, self._steps)

    def momentum(self, step: int) -> float:
        """Momentum of the teacher."""
        return _cosine(self._objective.momentum, self._objective.momentum_end, step, self._steps)

    def teacher_temperature(self, step: int) -> float:
        """Temperature of the teacher: a linear warm-up, then constant."""
        first, last = self._objective.teacher_temperature
        warmup = self._share(self._objective.teacher_warmup)
        return first + (last - first) * min(1.0, step / warmup) if warmup else last

    def freezes_prototypes(self, step: int) -> bool:
        """Whether the heads' last layer stays as it is."""
        return step < self._share(self._training.freeze_prototypes)

    def freezes_backbone(self, step: int) -> bool:
        """Whether only the heads learn, where the backbone has weights to begin with."""
        return step < self._share(self._training.freeze_backbone)

    def warms_up(self, step: int) -> bool:
        """Whether the learning rate or the teacher's temperature still rises."""
        longest = max(self._training.warmup, self._objective.teacher_warmup)
        return step < self._share(longest)

    @property
    def _steps(self) -> int:
        return self._training.steps

    def _share(self, share: float) -> int:
        return round(share * self._steps)


def adamw(student: nn.Module, depth: int, training: PretrainingSchedule) -> torch.optim.AdamW:
    """AdamW over a student, in groups of equal learning rate and weight decay.

    From each layer to the one below the learning rate falls by `layer_decay` (Clark et al. 2020),
    and the patch embedding's by `patch_embed_lr_mult` besides; weight decay acts on matrices only.
    Each group has a factor `lr_factor`, and `decays`.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            key = _lr_factor(name, depth, training), decays(name, parameter)
            groups.setdefault(key, []).append(parameter)
    described: list[dict[str, Any]] = [
        {"params": parameters, "lr_factor": factor, "decays": decayed}
        for (factor, decayed), parameters in groups.items()
    ]
    return torch.optim.AdamW(described, lr=training.lr, betas=training.betas, fused=True)


def _lr_factor(name: str, depth: int, training: PretrainingSchedule) -> float:
    parts = name.split(".")
    if parts[0] != "backbone" or parts[1] == "norm":
        return 1.0
    if parts[1] == "blocks":
        return training.layer_decay ** (depth - int(parts[2]))
    patches = training.patch_embed_lr_mult if parts[1] == "patch_embed" else 1.0
    return training.layer_decay ** (depth + 1) * patches


def _cosine(first: float, last: float, step: int, steps: int) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
