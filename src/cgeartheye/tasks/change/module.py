"""Change detection: a decoder on feature maps of two dates."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cgeartheye.config import ChangeDetection, Normalization
from cgeartheye.metrics.classification import ChangeMetrics
from cgeartheye.models.backbone import Model
from cgeartheye.models.change import BAN, DifferenceDecoder
from cgeartheye.models.change.ban import load_side_encoder
from cgeartheye.tasks.dense.module import DenseTask
from cgeartheye.training.loaders import Batch


class ChangeTask(DenseTask):
    """See `DenseTask`; a picture is `[6, H, W]`, both dates' red, green and blue.

    In a batch they are named `image1` and `image2`. The backbone sees both dates in one batch; a
    symmetric decoder, which promises the same bits in either order, sees what it made of each
    alone, as the last bit of a matrix product may depend on what else is in the batch.
    """

    monitor = "f1"

    def __init__(
        self,
        backbone: Model,
        normalization: Normalization,
        classes: tuple[str, ...],
        config: ChangeDetection,
        tta: bool = False,
    ):
        """Put a decoder on a backbone; see `DenseTask`."""
        super().__init__(backbone, normalization, classes, config, tta)
        decoder, inputs, outputs = config.decoder, self.channels, len(classes)
        self.symmetric = decoder.symmetric
        self.backbone_size = decoder.backbone_size
        self.cacheable = decoder.kind == "light"  # BAN's side encoder sees the images themselves
        self.decoder: BAN | DifferenceDecoder
        if decoder.kind == "ban":
            self.decoder = BAN(inputs, outputs, decoder.channels, decoder.symmetric)
            if decoder.side_weights:
                load_side_encoder(self.decoder, decoder.side_weights)
        else:
            maps, channels = len(self.layers), 2 * decoder.channels
            self.decoder = DifferenceDecoder(inputs, maps, outputs, channels, decoder.symmetric)

    def image_stacks(self, batch: Batch) -> Tensor | list[Tensor]:
        """Return the pairs of a batch."""
        before, after = batch["image1"], batch["image2"]
        if isinstance(before, Tensor):
            return torch.cat([before, after], dim=1)
        return [torch.cat(dates) for dates in zip(before, after, strict=True)]

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Dates, layers, channels, rows and columns of what `encode` returns for a window."""
        return 2, *super().encoded_shape

    def encode(self, image_stacks: Tensor) -> Tensor:
        """Map pairs `[B, 6, H, W]` to feature maps `[B, 2, layers, C, h, w]`."""
        dates = image_stacks.unflatten(1, (2, 3))
        if self.symmetric:
            return torch.stack([self.maps(images) for images in dates.unbind(1)], dim=1)
        maps: Tensor = self.maps(dates.flatten(0, 1)).unflatten(0, (-1, 2))
        return maps

    def _decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        assert isinstance(self.decoder, DifferenceDecoder), "BAN needs the images too"
        before, after = features.unbind(1)
        logits: Tensor = self.decoder(before.unbind(1), after.unbind(1), size)
        return logits

    def logits(self, windows: Tensor, size: tuple[int, int]) -> Tensor:
        """Map windows `[B, 6, S, S]`, uint8 or float, to logits float32 `[B, 2, *size]`."""
        if isinstance(self.decoder, DifferenceDecoder):
            return super().logits(windows, size)
        side = self.backbone_size
        # Without low-pass, as the published weights were learned with it.
        small = F.interpolate(windows.float(), (side, side), mode="bilinear")
        before, after = self.encode(small).unbind(1)
        images = [self.normalize(date) for date in windows.split(3, dim=1)]
        logits: Tensor = self.decoder(before.unbind(1), after.unbind(1), *images, size)
        return logits

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the decoder."""
        mask = batch["mask"]
        size = mask.shape[-2:]
        if "features" in batch:
            return self.losses(self.decode(batch["features"], size), mask)
        pairs = self.image_stacks(batch)
        assert isinstance(pairs, Tensor)
        return self.losses(self.logits(pairs, size), mask)

    def metrics(self) -> ChangeMetrics:
        """Return new, empty metrics."""
        return ChangeMetrics()

    def measure(self, metrics: ChangeMetrics, prediction: Sequence[Tensor], batch: Batch) -> None:
        """See `training.trainer.Task`."""
        for predicted, mask in zip(prediction, batch["mask"], strict=True):
            metrics.update(predicted, mask)
