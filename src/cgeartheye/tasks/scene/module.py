"""Scene classification: a linear layer on the features of a backbone."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgeartheye.config import Normalization, SceneClassification
from cgeartheye.data.transforms.image import Normalize
from cgeartheye.inference.engines import Engine
from cgeartheye.metrics.classification import ClassificationMetrics
from cgeartheye.models.backbone import Model
from cgeartheye.models.backbone.timm_adapter import TimmBackbone
from cgeartheye.models.linear import LightClassifier, LinearClassifier
from cgeartheye.training.loaders import Batch


@dataclass(frozen=True)
class ScenePrediction:
    """Predictions for a batch.

    Attributes:
        probabilities: `[B, classes]`, float32, rows sum to 1.
        features: `[B, C]`, see `SceneTask.encode`.
    """

    probabilities: Tensor
    features: Tensor


class SceneTask(nn.Module):
    """A backbone and a linear classifier; see `training.trainer.Task`.

    Batches hold `label` `[B]` and either `image` uint8 `[B, 3, H, W]` or, from the cache,
    `features` `[B, C]`.
    """

    monitor = "top1"
    cacheable = True
    engine: Engine | None = None  # computes `graph` in place of the modules
    backbone: Model

    def __init__(
        self,
        backbone: Model,
        normalization: Normalization,
        classes: tuple[str, ...],
        config: SceneClassification,
        tta: bool = False,
    ):
        """Put a classifier on a backbone.

        Args:
            backbone: built by `cgeartheye.models.backbone.build`.
            normalization: of the backbone's weights.
            classes: names by index.
            config: tuning, decoder and label smoothing.
            tta: average the probabilities of an image and its mirror image.
        """
        super().__init__()
        self.backbone = backbone
        self.light = config.decoder.kind == "light"
        self.channels = backbone.embed_dim + (_map_channels(backbone) if self.light else 0)
        decoder = LightClassifier if self.light else LinearClassifier
        self.decoder: nn.Module = decoder(self.channels, len(classes))
        self.normalize = Normalize(normalization.mean, normalization.std)
        self.classes = classes
        self.frozen = config.backbone.tuning == "frozen"
        self.label_smoothing = config.label_smoothing
        self.tta = tta

    def train(self, mode: bool = True) -> Self:
        """Switch to training; a frozen backbone stays as it is in a test."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Channels of what `encode` returns for an image."""
        return (self.channels,)

    @property
    def encoder_facts(self) -> dict[str, object]:
        """All that features depend on beside the backbone's weights and the images."""
        return {"patches": "mean"} if self.light else {}

    def encode(self, images: Tensor) -> Tensor:
        """Map images uint8 `[B, 3, H, W]` to features `[B, C]`.

        They are the class token; for the light decoder the mean of the patch tokens follows.
        """
        layers = [self.backbone.depth - 1] if self.light else None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            cls, maps = self.backbone(self.normalize(images), layers=layers)
        return torch.cat([cls, *(each.mean((2, 3)) for each in maps)], dim=1)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy with smoothed labels (Szegedy et al. 2016)."""
        logits = self.decoder(self.features(batch))
        loss = F.cross_entropy(logits.float(), batch["label"], label_smoothing=self.label_smoothing)
        return {"cross_entropy": loss}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the training loss: what DDP and FSDP call."""
        return self.training_loss(batch)

    def predict(self, batch: Batch) -> ScenePrediction:
        """Predict classes."""
        if "features" in batch:
            features = batch["features"]
            probabilities = self._classify(features)
        else:
            probabilities, features = self.outputs(batch["image"])
        if self.tta:
            probabilities = (probabilities + self.probabilities(batch["image"].flip(-1))) / 2
        return ScenePrediction(probabilities, features)

    def probabilities(self, images: Tensor) -> Tensor:
        """Map images uint8 `[B, 3, S, S]` to probabilities float32 `[B, classes]`."""
        return self.outputs(images)[0]

    def graph(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what an exported model does: probabilities `[B, classes]`, features `[B, C]`."""
        features = self.encode(images)
        return self._classify(features), features

    def outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what `graph` does, computed by the engine if there is one."""
        return self.engine(images) if self.engine else self.graph(images)

    def metrics(self) -> ClassificationMetrics:
        """Return new, empty metrics."""
        return ClassificationMetrics(len(self.classes))

    def measure(
        self, metrics: ClassificationMetrics, prediction: ScenePrediction, batch: Batch
    ) -> None:
        """See `training.trainer.Task`."""
        metrics.update(prediction.probabilities, batch["label"])

    def features(self, batch: Batch) -> Tensor:
        """Return the features of a batch, from the cache or encoded, `[B, C]`."""
        return batch["features"] if "features" in batch else self.encode(batch["image"])

    def _classify(self, features: Tensor) -> Tensor:
        logits: Tensor = self.decoder(features)
        return logits.float().softmax(-1)


def _map_channels(backbone: Model) -> int:
    """Return the channels of the last layer's map."""
    if len(backbone.blocks):
        return backbone.embed_dim
    assert isinstance(backbone, TimmBackbone)
    return backbone.maps[-1][0]
