"""Semantic segmentation: a decoder on feature maps of several layers of a backbone."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from cgeartheye.backbone import Model
from cgeartheye.backbone.vit import resolve_layers
from cgeartheye.config import Normalisation, SegmentationDecoder, SemanticSegmentation
from cgeartheye.data.transforms import Normalise
from cgeartheye.decoders import LightDecoder, UPerNet, cross_entropy, dice
from cgeartheye.errors import UserError
from cgeartheye.evaluation.metrics import SegmentationMetrics
from cgeartheye.tasks.sliding import slide
from cgeartheye.training.sources import Batch

MAPS = 4  # where the config names no layers


class SegmentationTask(nn.Module):
    """A backbone and a decoder; see `training.loop.Task`.

    Training batches hold `mask` uint8 `[B, S, S]` and either `image` uint8 `[B, 3, S, S]` or, from
    the cache, `features` `[B, layers, C, h, w]`. Others hold lists of images `[3, H, W]` and, to be
    measured, of masks `[H, W]`, of any sizes; or, from the cache, `encoded` images.
    """

    monitor = "miou"
    backbone: Model
    class_weights: Tensor | None

    def __init__(
        self,
        backbone: Model,
        normalisation: Normalisation,
        classes: tuple[str, ...],
        config: SemanticSegmentation,
        tta: bool = False,
    ):
        """Put a decoder on a backbone.

        Args:
            backbone: built by `cgeartheye.backbone.build`.
            normalisation: of the backbone's weights.
            classes: names by index.
            config: decoder, losses, windows.
            tta: average over the flips and scales that `config.window` names.

        Raises:
            UserError: layers that the backbone does not have, a backbone that is no plain
                transformer, or class weights that are not as many as classes.
        """
        super().__init__()
        self.backbone = backbone
        self.layers = _layers(backbone, config)
        self.decoder = _decoder(backbone.embed_dim, len(self.layers), len(classes), config.decoder)
        self.normalise = Normalise(normalisation.mean, normalisation.std)
        self.classes = classes
        self.frozen = config.backbone.tuning == "frozen"
        self.tta = tta
        self.side = config.data.image_size
        self.window = config.window
        self.losses = config.decoder
        weights = config.decoder.class_weights
        if weights and len(weights) != len(classes):
            raise UserError(
                f"decoder.class_weights has {len(weights)} entries for {len(classes)} classes: "
                "give one for each"
            )
        self.register_buffer(
            "class_weights", torch.tensor(weights) if weights else None, persistent=False
        )

    def train(self, mode: bool = True) -> Self:
        """Switch to training; a frozen backbone stays as it is in a test."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Map images uint8 or float `[B, 3, H, W]` to feature maps `[B, layers, C, h, w]`."""
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen),
            frozen_precision(images.device, self.frozen),
        ):
            maps: list[Tensor] = self.backbone(self.normalise(images), layers=self.layers)[1]
        return torch.stack(maps, dim=1).float()

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Layers, channels, rows and columns of what `encode` returns for a window."""
        grid = self.side // self.backbone.patch_size
        return len(self.layers), self.backbone.embed_dim, grid, grid

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, and the Dice and auxiliary losses where they weigh anything."""
        mask = batch["mask"]
        features = batch["features"] if "features" in batch else self.encode(batch["image"])
        logits, *auxiliary = self.decoder.training_logits(features.unbind(1), mask.shape[-2:])
        losses = {"cross_entropy": cross_entropy(logits, mask, self.class_weights)}
        if self.losses.dice:
            losses["dice"] = self.losses.dice * dice(logits, mask)
        for extra in auxiliary:
            loss = cross_entropy(extra, mask, self.class_weights)
            losses["auxiliary"] = self.losses.auxiliary * loss
        return losses

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the training loss: what DDP and FSDP call."""
        return self.training_loss(batch)

    def logits(self, windows: Tensor, size: tuple[int, int]) -> Tensor:
        """Map windows `[B, 3, S, S]`, uint8 or float, to logits float32 `[B, classes, *size]`."""
        return self.decode(self.encode(windows), size)

    def probabilities(self, windows: Tensor) -> Tensor:
        """Map windows uint8 `[B, 3, S, S]` to probabilities float32 `[B, classes, S, S]`."""
        height, width = windows.shape[-2:]
        return self.logits(windows, (height, width)).softmax(1, dtype=torch.float32)

    def predict(self, batch: Batch) -> list[Tensor]:
        """Return the class of every pixel, uint8 `[H, W]` for each image.

        One batch is windowed by itself, so that its predictions are the same to the last bit
        whichever process makes them.
        """
        encoded = "encoded" in batch
        maps = slide(
            batch["encoded" if encoded else "image"],
            self.decode if encoded else self.logits,
            self.side,
            self.window.overlap,
            self.window.batch_size,
            flips=self.tta and self.window.flips,
            scales=self.window.scales if self.tta else (1.0,),
        )
        return [probabilities.max(0)[1].to(torch.uint8) for probabilities in maps]

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Map feature maps of windows from the cache to logits."""
        features = features.to(next(self.parameters()).device).float()
        logits: Tensor = self.decoder(features.unbind(1), size)
        return logits

    def metrics(self) -> SegmentationMetrics:
        """Return new, empty metrics."""
        return SegmentationMetrics(len(self.classes))

    def measure(
        self, metrics: SegmentationMetrics, prediction: Sequence[Tensor], batch: Batch
    ) -> None:
        """Add a batch to the metrics."""
        for predicted, mask in zip(prediction, batch["mask"], strict=True):
            metrics.update(predicted, mask)


def frozen_precision(device: torch.device, frozen: bool) -> AbstractContextManager[None]:
    """Half precision for a frozen backbone where the device gains by it and training asks none."""
    if half_when_frozen(device) and frozen and not torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def half_when_frozen(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 faster than in float32."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _layers(backbone: Model, config: SemanticSegmentation) -> list[int]:
    """Return indices of the layers whose maps the decoder sees."""
    depth = backbone.depth
    if not len(backbone.blocks):
        raise UserError(
            f"{config.backbone.name} is no plain transformer, whose maps all have one size: "
            "segmentation takes tiny to giant, or a timm/vit_..."
        )
    even = [depth * (n + 1) // MAPS - 1 for n in range(MAPS)]
    layers = resolve_layers(config.decoder.layers or even, depth)
    if config.backbone.tuning != "frozen" and depth - 1 not in layers:
        raise UserError(
            f"decoder.layers must hold the last one, {depth - 1}, where the backbone is tuned: the "
            "layers above the decoder's would never learn"
        )
    return layers


def _decoder(
    embed_dim: int, maps: int, classes: int, config: SegmentationDecoder
) -> UPerNet | LightDecoder:
    if config.kind == "upernet":
        return UPerNet(embed_dim, classes, config.channels, config.auxiliary > 0)
    return LightDecoder(embed_dim, maps, classes, config.channels // 2)
