"""The loss of a step: the student's views against the teacher's targets."""

import torch
from torch import Tensor, nn

from cgeartheye.config import Objective
from cgeartheye.pretraining.distillation import Distillation
from cgeartheye.pretraining.loader import ViewBatch
from cgeartheye.pretraining.losses import Center, dino_loss, ibot_loss, koleo_loss, sinkhorn_knopp


class Losses(nn.Module):
    """DINO, iBOT, KoLeo and distillation on one batch of views; keeps the teacher's centres."""

    def __init__(
        self, objective: Objective, prototypes: int, distillation: Distillation | None = None
    ):
        """Start with centres at zero, or without any for Sinkhorn-Knopp."""
        super().__init__()
        self.objective, self.distillation = objective, distillation
        self.class_centre = self.patch_centre = None
        if objective.centering == "softmax":
            self.class_centre = Center(prototypes, objective.center_momentum)
            self.patch_centre = Center(prototypes, objective.center_momentum)

    def forward(
        self, student: nn.Module, teacher: nn.Module, views: ViewBatch, temperature: float
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor]:
        """Compare the student with the teacher that follows it, and with a frozen one.

        Args:
            student: a `SSLNetwork`; it receives gradients.
            teacher: a `SSLNetwork`; it receives none.
            views: of B samples.
            temperature: the teacher's.

        Returns:
            The weighted losses by name, whose sum is minimised; the teacher's targets for the class
            tokens, `[2 * B, K]`, or none without DINO; and class tokens of the first view,
            `[B, C]`: the teacher's, or without DINO and iBOT the student's.
        """
        settings = self.objective
        projected = followed = targets = None
        if settings.ibot_weight:
            projected = views.masks.flatten().nonzero().squeeze(1)
        if settings.dino_weight or settings.ibot_weight:
            with torch.no_grad():
                followed = teacher([views.globals], None, projected)
                if settings.dino_weight:
                    targets = _targets(self.class_centre, followed.class_logits, temperature)
                if followed.patch_logits is not None:
                    patches = _targets(self.patch_centre, followed.patch_logits, temperature)
        crops = [views.globals, views.locals] if len(views.locals) else [views.globals]
        hidden = views.masks if settings.ibot_weight else None
        seen = student(crops, hidden, projected, views.kept)
        losses = {}
        if targets is not None:
            loss = dino_loss(seen.class_logits, targets, settings.student_temperature)
            losses["dino"] = settings.dino_weight * loss
        if seen.patch_logits is not None:
            masked = ibot_loss(
                seen.patch_logits, patches, views.masks, settings.student_temperature
            )
            losses["masked"] = settings.ibot_weight * masked
        if settings.koleo_weight:
            globals_VBC = seen.classes[: len(views.globals)].unflatten(0, (2, -1))
            losses["koleo"] = settings.koleo_weight * koleo_loss(globals_VBC)
        if self.distillation is not None:
            losses |= self.distillation(seen.class_targets, seen.patch_targets, views)
        tokens = (followed or seen).classes.detach()
        return losses, targets, tokens[: len(views.globals) // 2]


def _targets(centre: Center | None, logits: Tensor, temperature: float) -> Tensor:
    if centre is None:
        return sinkhorn_knopp(logits, temperature)
    targets: Tensor = centre(logits, temperature)
    return targets
