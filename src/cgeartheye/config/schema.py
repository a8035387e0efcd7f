"""The one schema of a run.

Every field that a user can set is here, with its default, its unit and its reason. A config file
(see `files.py`) binds one of the classes at the end of this page.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Triple = tuple[float, float, float]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A part of a config: immutable, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Normalisation(Section):
    """Mean and standard deviation of each band, for pixel values on the scale 0..255."""

    mean: Triple = (123.675, 116.28, 103.53)
    std: Triple = (58.395, 57.12, 57.375)


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021) of the attention and MLP layers."""

    rank: Positive = 8
    alpha: float = Field(16.0, gt=0)


class Backbone(Section):
    """The network that turns an image into tokens, its weights, and how far they are tuned."""

    name: str = Field(
        description="tiny, small, base, large, huge or giant; or timm/<model> for a timm backbone"
    )
    weights: Path | None = Field(
        None, description="safetensors or .pth in any published naming; none: random weights"
    )
    tuning: Literal["frozen", "lora", "full"] = "frozen"
    lora: Lora = Lora()
    normalisation: Normalisation | None = Field(
        None, description="what the weights were trained with, where their file does not say it"
    )
    gsd: float | None = Field(
        None, gt=0, description="metres a pixel the weights were trained at, likewise"
    )
    registers: int | None = Field(
        None, ge=0, description="register tokens; none: as many as the weights have"
    )
    drop_path: float = Field(0.0, ge=0, lt=1)
    compile: bool = Field(False, description="torch.compile every block")
    checkpoint_activations: bool = Field(
        False, description="trade a second forward pass for memory while tuning"
    )


class SceneData(Section):
    """Images with one class each.

    A part (`train`, `val`, `test`) is a path below `root`: a list file with lines
    `Port/port_263.jpg 20`, or a folder of class folders. Without parts, `root` itself is a folder
    of class folders, split by class with `train_fraction` and `split_seed`.
    """

    root: Path
    catalog: Literal["AID", "RESISC45"] | None = Field(
        None, description="a published data set: fixes the classes and their order"
    )
    classes: tuple[str, ...] | None = Field(
        None, description="class names by index; none: the catalogue's, or the sorted folder names"
    )
    train: str | None = None
    val: str | None = None
    test: str | None = Field(None, description="none: the same as val")
    train_fraction: Fraction = 0.8
    split_seed: int = 0
    image_size: Positive = Field(518, description="pixels a side of the network's input")
    resize: Positive | None = Field(
        None, description="short side before the centre crop of a test; none: image_size * 532/518"
    )
    crop_area: tuple[float, float] = Field(
        (0.08, 1.0), description="share of the image that a random training crop covers"
    )
    bands: tuple[Positive, Positive, Positive] = Field(
        (1, 2, 3), description="which bands of an image with more than three are red, green, blue"
    )
    stretch: tuple[float, float] | None = Field(
        None,
        description="values that become 0 and 255 where pixels have more than 8 bits; "
        "none: the 1st and 99th percentile of each image",
    )
    batch_size: Positive = Field(32, description="images a process and micro-batch")
    workers: int = Field(2, ge=0, description="loader processes a training process")

    @model_validator(mode="after")
    def _parts_come_together(self) -> "SceneData":
        if (self.train is None) != (self.val is None):
            raise ValueError("train and val go together: name both, or neither for a random split")
        if self.test is not None and self.train is None:
            raise ValueError("test needs train and val beside it")
        return self

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> "SceneData":
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(
                "crop_area must be two rising shares of the image, above 0 and up to 1"
            )
        if self.stretch and not self.stretch[0] < self.stretch[1]:
            raise ValueError("stretch must be two rising values")
        if self.resize_to < self.image_size:
            raise ValueError("resize must not be smaller than image_size, which is cut out of it")
        return self

    @property
    def resize_to(self) -> int:
        """Short side in pixels that a test image is resized to before its centre is cropped."""
        return self.resize or round(self.image_size * 532 / 518)


class FeatureCache(Section):
    """Frozen features, encoded once and read in every epoch (see `training/features.py`)."""

    enabled: bool = Field(True, description="used where the backbone is frozen")
    views: Positive = Field(8, description="augmented views of each training image")
    batch_size: Positive = Field(64, description="images a forward pass while encoding")
    folder: Path | None = Field(None, description="none: `features` beside the run directory")


class Training(Section):
    """Optimiser (AdamW), schedule, precision and what is written when."""

    epochs: Positive = 100
    lr: float = Field(1e-4, gt=0)
    lr_batch: Positive | None = Field(
        128, description="global batch that lr is meant for; lr is scaled to the one in use"
    )
    weight_decay: float = Field(0.05, ge=0, description="none on norms, biases and tokens")
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_epochs: float = Field(5.0, ge=0, description="at most half of the epochs")
    warmup_from: float = Field(0.25, gt=0, le=1, description="share of lr at the first step")
    clip_norm: float | None = Field(None, gt=0)
    accumulate: Positive = Field(1, description="micro-batches a step")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    sharding: Literal["ddp", "fsdp"] = Field(
        "ddp", description="fsdp shards weights and optimiser: full tuning of huge and giant"
    )
    evaluate_every: Positive = Field(1, description="epochs")
    patience: Positive | None = Field(
        None, description="stop after this many evaluations without a better one"
    )
    checkpoint_minutes: float = Field(
        5.0, ge=0, description="at most so much is lost when a training is killed"
    )
    log_every: Positive = Field(10, description="steps between two lines of metrics.jsonl")
    seed: int = 0
    tensorboard: bool = False


class SceneClassification(Section):
    """Scene classification: a linear layer on the class token."""

    task: Literal["scene_classification"] = "scene_classification"
    backbone: Backbone
    data: SceneData
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    training: Training = Training()
    cache: FeatureCache = FeatureCache()
    work_dir: Path | None = Field(
        None, description="the run directory; none: runs/<name of the config file>"
    )


Config = SceneClassification
