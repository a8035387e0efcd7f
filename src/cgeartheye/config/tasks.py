"""Runs of the four tasks: decoder, training, and what they share."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cgeartheye.config.base import Positive, Run, Section, Share
from cgeartheye.config.data import ChangeData, DetectionData, SceneData, SegmentationData
from cgeartheye.config.model import Backbone
from cgeartheye.config.training import Training


class SceneDecoder(Section):
    """Decoder of the features of an image into classes."""

    kind: Literal["linear", "light"] = Field(
        "linear",
        description="a linear layer on the class token, or (light) on class token and mean of the "
        "patch tokens, standardised",
    )


class SegmentationDecoder(Section):
    """Decoder of feature maps into classes."""

    kind: Literal["upernet", "light"] = "upernet"
    layers: tuple[int, ...] | None = Field(
        None, description="of the backbone; none: four, evenly spaced, the last among them"
    )
    channels: Positive = Field(512, description="inside UPerNet; the light head uses half")
    pixels: bool = Field(
        True,
        description="the light head sees the image itself beside the features, for sharper edges; "
        "false: features alone, for a comparison of backbones",
    )
    auxiliary: float = Field(0.4, ge=0, description="weight of UPerNet's FCN head; 0: without")
    dice: float = Field(0.0, ge=0, description="weight of the Dice loss beside the cross-entropy")
    class_weights: tuple[float, ...] | None = Field(None, description="of the cross-entropy")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "SegmentationDecoder":
        if self.kind == "upernet" and self.layers is not None and len(self.layers) != 4:
            raise ValueError(f"UPerNet takes 4 layers, not {len(self.layers)}")
        if self.layers is not None and not self.layers:
            raise ValueError("layers must name one at least")
        if self.kind == "light" and self.channels % 8:
            raise ValueError(f"channels of the light head must be a multiple of 8: {self.channels}")
        return self


class ChangeDecoder(Section):
    """Decoder of feature maps of two dates into changed and unchanged."""

    kind: Literal["ban", "light"] = "ban"
    layers: tuple[int, ...] | None = Field(
        None, description="of the backbone; none: four, evenly spaced, the last among them"
    )
    channels: Positive = Field(128, description="inside BAN; the light head uses twice as many")
    symmetric: bool = Field(
        False, description="the same answer, to the last bit, whichever date comes first"
    )
    backbone_size: Positive = Field(
        224, description="pixels a side at which BAN shows the backbone its input; a multiple of 14"
    )
    side_weights: Path | None = Field(
        None, description="of BAN's side encoder MiT-B2, as mmsegmentation names them; none: random"
    )
    dice: float = Field(0.0, ge=0, description="weight of the Dice loss beside the cross-entropy")
    class_weights: tuple[float, float] | None = Field(
        None, description="of unchanged and changed in the cross-entropy"
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "ChangeDecoder":
        if self.kind == "ban" and self.layers is not None and len(self.layers) != 4:
            raise ValueError(f"BAN takes 4 layers, not {len(self.layers)}")
        if self.layers is not None and not self.layers:
            raise ValueError("layers must name one at least")
        if self.kind == "light" and self.channels % 4:
            raise ValueError(f"channels of the light head must be a multiple of 4: {self.channels}")
        if self.kind == "light" and self.side_weights:
            raise ValueError("the light head has no side encoder: side_weights are BAN's")
        if self.backbone_size % 14:
            raise ValueError(f"backbone_size must be a multiple of 14, not {self.backbone_size}")
        return self


class DetectionDecoder(Section):
    """Decoder of feature maps into boxes.

    A query detector, DINO (Zhang et al. 2022), or a dense one that learns from few images in
    minutes, to which only the first three fields matter.
    """

    kind: Literal["dino", "light"] = "dino"
    layers: tuple[int, ...] | None = Field(
        None,
        description="of the backbone; none: evenly spaced, the last among them: three for dino, "
        "four for light",
    )
    channels: Positive = Field(256, description="inside DINO; the light head uses half")
    queries: Positive = Field(900, description="boxes that are proposed for an image")
    encoder_layers: int = Field(6, ge=0)
    decoder_layers: Positive = 6
    heads: Positive = Field(8, description="of attention; a divisor of channels")
    num_points: Positive = Field(
        4, description="that a head of deformable attention samples a level"
    )
    ffn_dim: Positive = Field(2048, description="of the feed-forward layers")
    num_dn_queries: int = Field(
        100, ge=0, description="noised true boxes a training image; 0: without"
    )
    label_noise: Share = Field(0.25, description="share of them that are given a random class")
    box_noise_scale: float = Field(
        1.0, ge=0, description="by how many half sides their corners are moved at most"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "DetectionDecoder":
        if self.layers is not None and not self.layers:
            raise ValueError("layers must name one at least")
        if self.kind == "light":
            if self.channels % 32:
                raise ValueError(
                    f"channels of the light head must be a multiple of 32: {self.channels}"
                )
            return self
        if self.layers is not None and len(self.layers) != 3:
            raise ValueError(f"the query detector takes 3 layers, not {len(self.layers)}")
        if self.channels % self.heads or self.channels % 4:
            raise ValueError(
                f"channels must be a multiple of 4 and of heads: {self.channels} of {self.heads}"
            )
        return self


class SlidingWindow(Section):
    """Prediction of an image larger than the network's input."""

    # The cheapest without seams that costs no accuracy: benchmarks/map_overlap.py
    overlap: float = Field(1 / 12, ge=0, lt=1, description="share of a window's side")
    batch_size: Positive = Field(8, description="windows a forward pass")
    flips: bool = Field(True, description="with --tta: average over the four flips of a window")
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0,),
        min_length=1,
        description="with --tta: average over these; 2 doubles an image",
    )


class DetectionWindow(SlidingWindow):
    """The same for a detector: objects that are larger than the overlap may be cut."""

    overlap: float = Field(1 / 3, ge=0, lt=1, description="share of a window's side")
    batch_size: Positive = Field(1, description="windows a forward pass")


class FeatureCache(Section):
    """Frozen features, encoded once and read in every epoch (see `training/feature_cache.py`)."""

    enabled: bool = Field(True, description="used where the backbone is frozen")
    views: Positive = Field(8, description="augmented views of each training image")
    seed: int = Field(
        0, description="of these views: trainings with other seeds find the same features"
    )
    batch_size: Positive | None = Field(
        None, description="images a forward pass while encoding; none: 8 on a CPU, 64 elsewhere"
    )
    budget_gb: float = Field(
        20.0, ge=0, description="of each part's features on the disk; what takes more is not cached"
    )
    folder: Path | None = Field(None, description="none: `features` beside the run directory")

    def images_at_once(self, device: str) -> int:
        """Return how many images a forward pass encodes.

        On a CPU few: the system maps and zeroes anew what is 32 MiB and larger for each operation
        (findings/torch_cpu_32_mib_page_faults.sh), and what is small stays in the caches.

        Args:
            device: type of the one that encodes, as PyTorch names it.
        """
        return self.batch_size or (8 if device == "cpu" else 64)


class TaskRun(Run):
    """Fields of the runs of all tasks."""

    backbone: Backbone
    training: Training = Training()
    cache: FeatureCache = FeatureCache()


class SceneClassification(TaskRun):
    """Scene classification: a decoder of the features of an image."""

    task: Literal["scene_classification"] = "scene_classification"
    data: SceneData
    decoder: SceneDecoder = SceneDecoder()
    label_smoothing: float = Field(0.1, ge=0, lt=1)


class SemanticSegmentation(TaskRun):
    """Semantic segmentation: a decoder on feature maps of several layers."""

    task: Literal["semantic_segmentation"] = "semantic_segmentation"
    data: SegmentationData
    decoder: SegmentationDecoder = SegmentationDecoder()
    window: SlidingWindow = SlidingWindow()


class ChangeDetection(TaskRun):
    """Change detection: a decoder on the feature maps of two dates."""

    task: Literal["change_detection"] = "change_detection"
    data: ChangeData
    decoder: ChangeDecoder = ChangeDecoder()
    window: SlidingWindow = SlidingWindow()


class ObjectDetection(TaskRun):
    """Object detection: boxes, horizontal or oriented, around the objects of some classes."""

    task: Literal["object_detection"] = "object_detection"
    data: DetectionData
    decoder: DetectionDecoder = DetectionDecoder()
    max_detections: Positive = Field(300, description="boxes of an image that are kept, the best")
    window: DetectionWindow = Field(
        DetectionWindow(), description="how images that are not resized are seen"
    )
