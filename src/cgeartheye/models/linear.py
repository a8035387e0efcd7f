"""Decoders of scene classification."""

import torch
from torch import Tensor, nn

_LEAST = 1e-4  # deviation of a channel over its mean; less is rounding of half precision


class LinearClassifier(nn.Linear):
    """A linear layer from the class token to class scores."""

    def __init__(self, embed_dim: int, classes: int):
        super().__init__(embed_dim, classes)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, features_BC: Tensor) -> Tensor:
        """Map features `[B, C]` to logits `[B, classes]`, in float32 for any input."""
        return super().forward(features_BC.to(self.weight.dtype))


class LightClassifier(nn.Module):
    """A linear layer on standardised features: class token and mean of the patch tokens.

    Channels differ in mean and spread by orders of magnitude, between networks too, so that without
    it a learning rate suits few of them (He et al. 2022 put a batch norm there; statistics of the
    training features depend neither on the batch nor on the number of processes).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, classes: int):
        """Build a decoder with random weights, for features that are standardised already.

        Args:
            width: C, channels of the features.
            classes: K.
        """
        super().__init__()
        self.linear = LinearClassifier(width, classes)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def standardise(self, features_NC: Tensor) -> None:
        """Take the statistics of training features `[N, C]`; a constant channel counts nothing."""
        deviation, mean = torch.std_mean(features_NC.double(), dim=0, correction=0)
        varies = deviation > _LEAST * mean.abs()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, 1 / deviation, 0.0))

    def forward(self, features_BC: Tensor) -> Tensor:
        """Map features `[B, C]` to logits `[B, K]`."""
        features_BC = features_BC.to(self.mean.dtype)
        logits: Tensor = self.linear((features_BC - self.mean) * self.scale)
        return logits
