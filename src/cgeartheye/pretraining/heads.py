"""The projection head of DINO (Caron et al. 2021) and iBOT (Zhou et al. 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgeartheye.models.backbone.onednn_linear import Linear, linear


class ProjectionHead(nn.Module):
    """Maps tokens to their likeness to each of many prototypes.

    Attributes:
        mlp: the three layers up to the bottleneck.
        prototypes: the last layer.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int):
        """Build a head with random weights.

        Args:
            width: channels of a token.
            hidden: channels between the three layers.
            bottleneck: channels of the unit vector that is compared with the prototypes.
            prototypes: K, how many there are.
        """
        super().__init__()
        self.mlp = nn.Sequential(
            Linear(width, hidden),
            nn.GELU(),
            Linear(hidden, hidden),
            nn.GELU(),
            Linear(hidden, bottleneck),
        )
        self.prototypes = Prototypes(bottleneck, prototypes)
        self.reset_parameters()

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `[..., C]` to cosines `[..., K]`, the logits, in -1..1."""
        return self.prototypes(F.normalize(self.mlp(tokens), dim=-1))  # type: ignore[no-any-return]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new random weights."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.prototypes.weight, std=0.02)


class Prototypes(nn.Module):
    """A linear layer without bias whose rows count as unit vectors, whatever their length.

    It is weight normalisation (Salimans and Kingma 2016) with the length fixed to 1.
    """

    def __init__(self, width: int, prototypes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(prototypes, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., width]` to `[..., K]`."""
        return linear(x, F.normalize(self.weight, dim=-1), None)
