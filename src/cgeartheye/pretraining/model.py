"""Student and teacher."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from cgeartheye.config import Heads, Objective
from cgeartheye.models.backbone import VisionTransformer
from cgeartheye.pretraining.heads import ProjectionHead


class Seen(NamedTuple):
    """Outputs of a branch for crops; parts that no loss needs are none, or empty.

    Attributes:
        classes: class tokens `[V * B, C]`.
        class_logits: their projections `[V * B, K]`.
        patch_logits: projections of chosen patches `[P, K]`.
        class_targets: predictions of a frozen teacher's features of the crops `[V * B, D]`.
        patch_targets: of its maps, `[2 * B, n, D']` and `[L * B, m, D']`.
    """

    classes: Tensor
    class_logits: Tensor | None
    patch_logits: Tensor | None
    class_targets: Tensor | None
    patch_targets: list[Tensor]


class SSLNetwork(nn.Module):
    """A backbone with its heads: the student, or the teacher that follows it.

    Attributes:
        backbone: the network that is learned.
        class_head: projects class tokens (DINO).
        patch_head: projects patch tokens (iBOT).
        class_target_head: predicts a frozen teacher's features of an image (distillation).
        patch_target_head: predicts its maps.
    """

    def __init__(
        self,
        backbone: VisionTransformer,
        heads: Heads,
        objective: Objective,
        widths: tuple[int, int] = (0, 0),
    ):
        """Put new heads on a backbone.

        Args:
            backbone: random, or with weights.
            heads: of DINO and iBOT; `shared` uses one for both kinds of tokens.
            objective: names which of the two are needed.
            widths: channels of the targets of a class token and of a patch in distillation.
        """
        super().__init__()
        self.backbone = backbone
        width, masked = backbone.embed_dim, objective.ibot_weight > 0
        shape = heads.hidden, heads.bottleneck, heads.prototypes
        self.class_head = self.patch_head = None
        if objective.dino_weight or (masked and heads.shared):
            self.class_head = ProjectionHead(width, *shape)
        if masked:
            own = not heads.shared
            self.patch_head = ProjectionHead(width, *shape) if own else self.class_head
        self.class_target_head, self.patch_target_head = (
            nn.Linear(width, count) if count else None for count in widths
        )
        # DDP waits for the gradient of all that requires one.
        backbone.mask_token.requires_grad_(masked)

    def forward(
        self,
        crops: list[Tensor],
        masks: Tensor | None,
        projected: Tensor | None,
        kept: tuple[Tensor, Tensor] | None = None,
    ) -> Seen:
        """Encode crops, project them and predict targets.

        Args:
            crops: the global crops, `[2 * B, 3, G, G]`, and for the student the local ones,
                `[L * B, 3, S, S]`.
            masks: bool `[2 * B, G/14, G/14]`, the patches of the global crops that are hidden.
            projected: indices of the P patches, counted over all global crops, that are projected.
            kept: the patches of both that are encoded; none: all.
        """
        chosen = None if kept is None else kept[: len(crops)]
        tokens = self.backbone.forward_crops(crops, [masks, *[None] * (len(crops) - 1)], chosen)
        classes = torch.cat([cls for cls, _ in tokens])
        class_logits = patch_logits = class_targets = None
        patch_targets = []
        if self.class_head is not None:
            class_logits = self.class_head(classes)
        if self.patch_head is not None and projected is not None:
            patch_logits = self.patch_head(tokens[0][1].flatten(0, 1)[projected])
        if self.class_target_head is not None:
            class_targets = self.class_target_head(classes)
        if self.patch_target_head is not None:
            patch_targets = [self.patch_target_head(patches) for _, patches in tokens]
        return Seen(classes, class_logits, patch_logits, class_targets, patch_targets)

    def features(self, images: Tensor) -> Tensor:
        """Return class tokens `[B, C]` of normalised images."""
        cls: Tensor = self.backbone(images)[0]
        return cls

    def heads(self) -> Iterator[ProjectionHead]:
        """Yield each head that projects, once."""
        if self.class_head is not None:
            yield self.class_head
        if self.patch_head is not None and self.patch_head is not self.class_head:
            yield self.patch_head


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Update the teacher as the exponential moving average of the student (DINO).

    Args:
        teacher: changed in place.
        student: of the same structure.
        momentum: share of the teacher that stays, 0..1.
    """
    if isinstance(teacher, FSDPModule):
        # Without a backward pass its outermost parameters are still gathered.
        teacher.reshard()
    pairs = list(zip(_local(teacher.parameters()), _local(student.parameters()), strict=True))
    torch._foreach_lerp_([t for t, _ in pairs], [s for _, s in pairs], 1 - momentum)


def drop_grads(parameters: Iterable[nn.Parameter]) -> None:
    """Keep parameters as they are in the coming step of the optimizer."""
    for parameter in parameters:
        parameter.grad = None


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Compute without gradients and without drop path while the block runs."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


def _local(parameters: Iterable[nn.Parameter]) -> Iterator[Tensor]:
    """Yield the part of each parameter that this process holds."""
    for parameter in parameters:
        yield parameter.to_local() if isinstance(parameter, DTensor) else parameter
