"""The loss of a step: the student's views against the teacher's targets."""

import torch
from torch import Tensor, nn

from cgeartheye.config import Objective
from cgeartheye.pretraining.losses import (
    Centre,
    dino_loss,
    ibot_loss,
    koleo_loss,
    sinkhorn_knopp,
)


class Losses(nn.Module):
    """DINO, iBOT and KoLeo on one batch of views; keeps the teacher's centres."""

    def __init__(self, objective: Objective, prototypes: int):
        """Start with centres at zero, or without any for Sinkhorn-Knopp."""
        super().__init__()
        self.objective = objective
        self.class_centre = self.patch_centre = None
        if objective.centring == "softmax":
            self.class_centre = Centre(prototypes, objective.centre_momentum)
            self.patch_centre = Centre(prototypes, objective.centre_momentum)

    def forward(
        self,
        student: nn.Module,
        teacher: nn.Module,
        views: tuple[Tensor, Tensor | None, Tensor],
        temperature: float,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Compare student and teacher.

        Args:
            student: a `Branch`; it receives gradients.
            teacher: likewise; it receives none.
            views: of B samples: global crops `[2 * B, 3, G, G]`, local crops `[L * B, 3, S, S]` or
                none, both view by view; masks bool `[2 * B, G/14, G/14]` of the global crops.
            temperature: the teacher's.

        Returns:
            The weighted losses by name, whose sum is minimised; the teacher's targets for the class
            tokens, `[2 * B, K]`; and its class tokens of the first view, `[B, C]`.
        """
        settings = self.objective
        large, small, masks = views
        projected = None
        if settings.masked_weight:
            projected = masks.flatten().nonzero().squeeze(1)
        with torch.no_grad():
            logits, patches, classes = teacher([large], None, projected)
            targets = _targets(self.class_centre, logits, temperature)
            if patches is not None:
                patch_targets = _targets(self.patch_centre, patches, temperature)
        crops = [large] if small is None else [large, small]
        hidden = masks if settings.masked_weight else None
        seen, seen_patches, seen_classes = student(crops, hidden, projected)
        losses = {"dino": dino_loss(seen, targets, settings.student_temperature)}
        if seen_patches is not None:
            masked = ibot_loss(seen_patches, patch_targets, masks, settings.student_temperature)
            losses["masked"] = settings.masked_weight * masked
        if settings.koleo_weight:
            globals_VBC = seen_classes[: len(large)].unflatten(0, (2, -1))
            losses["koleo"] = settings.koleo_weight * koleo_loss(globals_VBC)
        return losses, targets, classes[: len(large) // 2]


def _targets(centre: Centre | None, logits: Tensor, temperature: float) -> Tensor:
    if centre is None:
        return sinkhorn_knopp(logits, temperature)
    targets: Tensor = centre(logits, temperature)
    return targets
