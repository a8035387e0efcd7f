"""Student and teacher."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from cgeartheye.backbone import VisionTransformer
from cgeartheye.config import Heads
from cgeartheye.pretraining.heads import ProjectionHead


class Branch(nn.Module):
    """A backbone with its projection heads: the student, or the teacher.

    Attributes:
        backbone: the network that is learned.
        class_head: projects class tokens (DINO).
        patch_head: projects patch tokens (iBOT); none without the masked loss.
    """

    def __init__(self, backbone: VisionTransformer, heads: Heads, masked: bool):
        """Put new heads on a backbone.

        Args:
            backbone: random, or with weights.
            heads: their shape; `shared` uses one for both kinds of tokens.
            masked: whether patches are projected.
        """
        super().__init__()
        self.backbone = backbone
        shape = heads.hidden, heads.bottleneck, heads.prototypes
        self.class_head = ProjectionHead(backbone.embed_dim, *shape)
        self.patch_head: ProjectionHead | None = None
        if masked:
            own = not heads.shared
            self.patch_head = ProjectionHead(backbone.embed_dim, *shape) if own else self.class_head
        # DDP waits for the gradient of all that requires one.
        backbone.mask_token.requires_grad_(masked)

    def forward(
        self, crops: list[Tensor], masks: Tensor | None, projected: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Encode and project crops.

        Args:
            crops: the global crops, `[2 * B, 3, G, G]`, and for the student the local ones,
                `[L * B, 3, S, S]`.
            masks: bool `[2 * B, G/14, G/14]`, the patches of the global crops that are hidden.
            projected: indices of the P patches, counted over all global crops, that are projected.

        Returns:
            Logits of the class tokens of all crops, `[V * B, K]`; of the patches, `[P, K]`; and
            the class tokens themselves, `[V * B, C]`.
        """
        tokens = self.backbone.forward_crops(crops, [masks, *[None] * (len(crops) - 1)])
        classes = torch.cat([cls for cls, _ in tokens])
        patches = None
        if self.patch_head is not None and projected is not None:
            patches = self.patch_head(tokens[0][1].flatten(0, 1)[projected])
        return self.class_head(classes), patches, classes

    def features(self, images: Tensor) -> Tensor:
        """Return class tokens `[B, C]` of normalised images."""
        cls: Tensor = self.backbone(images)[0]
        return cls

    def heads(self) -> Iterator[ProjectionHead]:
        """Yield each head once."""
        yield self.class_head
        if self.patch_head is not None and self.patch_head is not self.class_head:
            yield self.patch_head


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher towards the student: an exponential moving average (DINO)."""
    if isinstance(teacher, FSDPModule):
        # Without a backward pass its outermost parameters are still gathered.
        teacher.reshard()
    pairs = list(zip(_local(teacher.parameters()), _local(student.parameters()), strict=True))
    torch._foreach_lerp_([t for t, _ in pairs], [s for _, s in pairs], 1 - momentum)


def forget_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Keep parameters as they are in the coming step of the optimiser."""
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
