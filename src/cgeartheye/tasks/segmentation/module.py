"""Semantic segmentation: a decoder on feature maps of several layers of a backbone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cgeartheye.config import Normalization, SegmentationDecoder, SemanticSegmentation
from cgeartheye.metrics.classification import SegmentationMetrics
from cgeartheye.models.backbone import Model
from cgeartheye.models.segmentation import LightDecoder, UPerNet, cross_entropy
from cgeartheye.models.segmentation.pixels import CHANNELS, PixelMap
from cgeartheye.tasks.dense.module import DenseTask
from cgeartheye.training.loaders import Batch


class SegmentationTask(DenseTask):
    """See `DenseTask`; pictures are images `[3, H, W]`, named `image` in a batch.

    Attributes:
        pixels: makes one more map of the images themselves, where the decoder sees that too.
    """

    monitor = "miou"
    decoder: UPerNet | LightDecoder

    def __init__(
        self,
        backbone: Model,
        normalization: Normalization,
        classes: tuple[str, ...],
        config: SemanticSegmentation,
        tta: bool = False,
    ):
        """Put a decoder on a backbone; see `DenseTask`."""
        super().__init__(backbone, normalization, classes, config, tta)
        self.auxiliary = config.decoder.auxiliary
        self.pixels: PixelMap | None = None
        if config.decoder.kind == "light" and config.decoder.pixels:
            self.channels = max(self.channels, CHANNELS)
            self.pixels = PixelMap(self.stride, self.channels)
        self.decoder = _decoder(self.channels, len(self.layers), len(classes), config.decoder)

    def image_stacks(self, batch: Batch) -> Tensor | list[Tensor]:
        """Return the images of a batch."""
        images: Tensor | list[Tensor] = batch["image"]
        return images

    @property
    def encoder_facts(self) -> dict[str, object]:
        """See `FeatureMapTask`."""
        return super().encoder_facts | ({"pixels": True} if self.pixels else {})

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Maps, channels, rows and columns of what `encode` returns for a window."""
        layers, *size = super().encoded_shape
        return layers + (self.pixels is not None), *size

    def encode(self, image_stacks: Tensor) -> Tensor:
        """Map images `[B, 3, H, W]`, uint8 or float, to feature maps `[B, maps, C, h, w]`.

        There is one for each layer, then that of the pixels if the decoder sees them.
        """
        maps: Tensor = self.maps(image_stacks)
        if self.pixels is None:
            return maps
        pixels = self.pixels(self.normalize(image_stacks))
        return torch.cat([maps, pixels[:, None].float()], dim=1)

    def _decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        logits: Tensor = self.decoder(features.unbind(1), size)
        return logits

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the decoder, and of its auxiliary head where it has one."""
        mask = batch["mask"]
        features = batch["features"] if "features" in batch else self.encode(batch["image"])
        logits, *auxiliary = self.decoder.training_logits(features.unbind(1), mask.shape[-2:])
        losses = self.losses(logits, mask)
        for extra in auxiliary:
            losses["auxiliary"] = self.auxiliary * cross_entropy(extra, mask, self.class_weights)
        return losses

    def metrics(self) -> SegmentationMetrics:
        """Return new, empty metrics."""
        return SegmentationMetrics(len(self.classes))

    def measure(
        self, metrics: SegmentationMetrics, prediction: Sequence[Tensor], batch: Batch
    ) -> None:
        """See `training.trainer.Task`."""
        for predicted, mask in zip(prediction, batch["mask"], strict=True):
            metrics.update(predicted, mask)


def _decoder(
    embed_dim: int, maps: int, classes: int, config: SegmentationDecoder
) -> UPerNet | LightDecoder:
    if config.kind == "upernet":
        return UPerNet(embed_dim, classes, config.channels, config.auxiliary > 0)
    return LightDecoder(embed_dim, maps, classes, config.channels // 2, config.pixels)
