"""Values that change from step to step: learning rate, weight decay, momentum, temperature."""

from collections.abc import Callable

from cgeartheye.config import Objective, PretrainingSchedule
from cgeartheye.training.optimizer import cosine, scheduled_lr


class Schedule:
    """The settings of each step of a pre-training."""

    def __init__(self, objective: Objective, training: PretrainingSchedule, global_batch: int):
        self._objective, self._training, self._batch = objective, training, global_batch

    def lr(self, step: int) -> float:
        """Learning rate; see `training.optimizer`."""
        training = self._training
        warmup = training.warmup_steps
        if warmup is None:
            warmup = self._share(training.warmup)
        return scheduled_lr(step, training.steps, warmup, self._batch, training)

    def weight_decay(self, step: int) -> float:
        """Weight decay: a cosine from the first value to the second."""
        return cosine(*self._training.weight_decay, step / self._training.steps)

    def momentum(self, step: int) -> float:
        """Momentum of the teacher."""
        objective = self._objective
        return cosine(objective.momentum, objective.momentum_end, step / self._training.steps)

    def teacher_temperature(self, step: int) -> float:
        """Temperature of the teacher: a linear warm-up, then constant."""
        first, last = self._objective.teacher_temperature
        warmup = self._share(self._objective.teacher_warmup)
        return first + (last - first) * min(1.0, step / warmup) if warmup else last

    def freezes_prototypes(self, step: int) -> bool:
        """Return whether the heads' last layer stays as it is."""
        return step < self._share(self._training.freeze_prototypes)

    def freezes_backbone(self, step: int) -> bool:
        """Return whether only the heads learn, where the backbone has weights to begin with."""
        return step < self._share(self._training.freeze_backbone)

    def warms_up(self, step: int) -> bool:
        """Return whether the learning rate or the teacher's temperature still rises."""
        longest = max(self._training.warmup, self._objective.teacher_warmup)
        return step < self._share(longest)

    def _share(self, share: float) -> int:
        return round(share * self._training.steps)


def lr_factors(depth: int, training: PretrainingSchedule) -> Callable[[str], float]:
    """Return the factors of the learning rate of a student's parameters, by their names.

    From each layer to the one below the rate falls by `layer_decay` (Clark et al. 2020), and the
    patch embedding's by `patch_embed_lr_mult` besides.

    Args:
        depth: layers of the backbone.
        training: the factors.
    """

    def factor(name: str) -> float:
        parts = name.split(".")
        if parts[0] != "backbone" or parts[1] == "norm":
            return 1.0
        if parts[1] == "blocks":
            return training.layer_decay ** (depth - int(parts[2]))
        patches = training.patch_embed_lr_mult if parts[1] == "patch_embed" else 1.0
        return training.layer_decay ** (depth + 1) * patches

    return factor
