"""Common part of tasks that give every pixel a class: windows, losses, metrics."""

from abc import abstractmethod

import torch
from torch import Tensor

from cgeartheye.config import ChangeDetection, Normalization, SemanticSegmentation
from cgeartheye.inference.sliding_window import slide
from cgeartheye.models.backbone import Model
from cgeartheye.models.segmentation import cross_entropy, dice
from cgeartheye.tasks.base import FeatureMapTask
from cgeartheye.training.loaders import Batch
from cgeartheye.utils.errors import UserError

DenseConfig = SemanticSegmentation | ChangeDetection

MAPS = 4  # where the config names no layers


class DenseTask(FeatureMapTask):
    """A backbone and a decoder; see `training.trainer.Task`.

    What is predicted at once, an image or the images of two dates, is one tensor `[C, H, W]`: a
    *picture*. Training batches hold `mask` uint8 `[B, S, S]` and either pictures `[B, C, S, S]` or,
    from the cache, `features`. Others hold lists of pictures and, to be measured, of masks
    `[H, W]`, of any sizes; or, from the cache, `encoded` pictures.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        backbone: Model,
        normalization: Normalization,
        classes: tuple[str, ...],
        config: DenseConfig,
        tta: bool,
    ):
        """Take a backbone; the decoder is put on it by who inherits this.

        Args:
            backbone: built by `cgeartheye.models.backbone.build`.
            normalization: of the backbone's weights.
            classes: names by index.
            config: decoder, losses, windows.
            tta: average over the flips and scales that `config.window` names.

        Raises:
            UserError: see `FeatureMapTask`; or class weights that are not as many as classes.
        """
        super().__init__(backbone, normalization, config, MAPS)
        self.classes = classes
        self.tta = tta
        self.window = config.window
        self.dice = config.decoder.dice
        weights = config.decoder.class_weights
        if weights and len(weights) != len(classes):
            raise UserError(
                f"decoder.class_weights has {len(weights)} entries for {len(classes)} classes: "
                "give one for each"
            )
        self.register_buffer(
            "class_weights", torch.tensor(weights) if weights else None, persistent=False
        )

    @abstractmethod
    def image_stacks(self, batch: Batch) -> Tensor | list[Tensor]:
        """Return the pictures of a batch: stacked where they have one size, else a list."""

    @abstractmethod
    def encode(self, image_stacks: Tensor) -> Tensor:
        """Map pictures `[B, C, H, W]`, uint8 or float, to feature maps `[B, ...]`."""

    @abstractmethod
    def _decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode features that are on the device; see `decode`."""

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Map what `encode` returns, or the cache kept of it, to logits `[B, classes, *size]`."""
        return self._decode(features.to(next(self.parameters()).device).float(), size)

    def logits(self, windows: Tensor, size: tuple[int, int]) -> Tensor:
        """Map windows `[B, C, S, S]`, uint8 or float, to logits float32 `[B, classes, *size]`."""
        return self.decode(self.encode(windows), size)

    def losses(self, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy, and the Dice loss where it weighs anything."""
        losses = {"cross_entropy": cross_entropy(logits, mask, self.class_weights)}
        if self.dice:
            losses["dice"] = self.dice * dice(logits, mask)
        return losses

    def probabilities(self, windows: Tensor) -> Tensor:
        """Map windows uint8 `[B, C, S, S]` to probabilities float32 `[B, classes, S, S]`."""
        return self.outputs(windows)[0]

    def graph(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map windows uint8 `[B, C, S, S]` to probabilities float32 `[B, classes, S, S]`."""
        height, width = images.shape[-2:]
        return (self.logits(images, (height, width)).softmax(1, dtype=torch.float32),)

    def predict(self, batch: Batch) -> list[Tensor]:
        """Return the class of every pixel, uint8 `[H, W]` for each picture.

        One batch is windowed by itself, so that its predictions are the same to the last bit
        whichever process makes them.
        """
        encoded = "encoded" in batch
        maps = slide(
            batch["encoded"] if encoded else self.image_stacks(batch),
            self.decode if encoded else self._slid_logits,
            self.side,
            self.window.overlap,
            self.window.batch_size,
            flips=self.tta and self.window.flips,
            scales=self.window.scales if self.tta else (1.0,),
        )
        return [probabilities.max(0)[1].to(torch.uint8) for probabilities in maps]

    def _slid_logits(self, windows: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits, or what their softmax takes for them: an engine's probabilities' logarithm."""
        return self.outputs(windows)[0].log() if self.engine else self.logits(windows, size)
