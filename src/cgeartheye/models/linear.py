"""The decoder of scene classification."""

from torch import Tensor, nn


class LinearClassifier(nn.Linear):
    """A linear layer from the class token to class scores."""

    def __init__(self, embed_dim: int, classes: int):
        super().__init__(embed_dim, classes)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, cls_BC: Tensor) -> Tensor:
        """Map class tokens `[B, C]` to logits `[B, classes]`, in float32 for any input."""
        return super().forward(cls_BC.to(self.weight.dtype))
