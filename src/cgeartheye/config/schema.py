"""The one schema of a run.

Every field that a user can set is here, with its default, its unit and its reason. A config file
(see `files.py`) binds one of the classes at the end of this page.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Triple = tuple[float, float, float]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]


def _in_order(shares: tuple[float, float]) -> tuple[float, float]:
    if not 0 < shares[0] <= shares[1] <= 1:
        raise ValueError("must be two rising shares of the image, above 0 and up to 1")
    return shares


Colour = tuple[int, int, int]
Shares = Annotated[tuple[float, float], AfterValidator(_in_order)]


_GSD = (
    "metres a pixel of the images, at which scenes are mapped; none: what the first training image "
    "says, or else backbone.gsd"
)


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


class Network(Section):
    """The network that turns an image into tokens."""

    name: str = Field(
        description="tiny, small, base, large, huge or giant; or timm/<model> for a timm backbone"
    )
    weights: Path | None = Field(
        None, description="safetensors or .pth in any published naming; none: random weights"
    )
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
    layer_scale: float = Field(
        1e-5, gt=0, description="of random weights; short trainings learn faster from 0.1 to 1"
    )
    compile: bool = Field(False, description="torch.compile every block")
    checkpoint_activations: bool = Field(
        False, description="trade a second forward pass for memory in training"
    )


class Backbone(Network):
    """A network, and how far it is tuned."""

    tuning: Literal["frozen", "lora", "full"] = "frozen"
    lora: Lora = Lora()


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
    gsd: float | None = Field(None, gt=0, description=_GSD)
    image_size: Positive = Field(518, description="pixels a side of the network's input")
    resize: Positive | None = Field(
        None, description="short side before the centre crop of a test; none: image_size * 532/518"
    )
    crop_area: Shares = Field(
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
        if self.stretch and not self.stretch[0] < self.stretch[1]:
            raise ValueError("stretch must be two rising values")
        if self.resize_to < self.image_size:
            raise ValueError("resize must not be smaller than image_size, which is cut out of it")
        return self

    @property
    def resize_to(self) -> int:
        """Short side in pixels that a test image is resized to before its centre is cropped."""
        return self.resize or round(self.image_size * 532 / 518)


class MaskedData(Section):
    """What all data with a mask for each image, or for each pair of images, have in common.

    A part (`train`, `val`, `test`) is a folder of images and one of masks below `root`, where
    `{part}` stands for its name and `*` for any folder, the same in all. Without `{part}` the
    images are split with `train_fraction` and `split_seed`. What belongs together has the same
    stem before its ending, whatever the types of the files.
    """

    root: Path
    masks: str | None = Field(None, description="none: the catalogue's, or {part}/Label")
    mask_ending: str | None = Field(
        None, description="of a mask's name behind the stem, e.g. _RGB; none: the catalogue's"
    )
    train: str = "train"
    val: str = "val"
    test: str | None = Field(None, description="none: the same as val")
    train_fraction: Fraction = 0.8
    split_seed: int = 0
    gsd: float | None = Field(None, gt=0, description=_GSD)
    image_size: Positive = Field(518, description="pixels a side of the network's input")
    scale: tuple[float, float] = Field(
        (0.5, 2.0), description="range of the random resizing before a training crop"
    )
    largest_class: Share = Field(
        0.75, description="a training crop is drawn again while one class covers more of it"
    )
    distortion: bool = Field(True, description="random brightness, contrast, saturation and hue")
    bands: tuple[Positive, Positive, Positive] = (1, 2, 3)
    stretch: tuple[float, float] | None = Field(
        None, description="values that become 0 and 255, as for scene classification"
    )
    batch_size: Positive = Field(8, description="crops a process and micro-batch")
    workers: int = Field(2, ge=0, description="loader processes a training process")

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> "MaskedData":
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale must be two rising factors above 0")
        if self.stretch and not self.stretch[0] < self.stretch[1]:
            raise ValueError("stretch must be two rising values")
        return self


class SegmentationData(MaskedData):
    """Images with a mask each: a class for every pixel.

    The mask of `<images>/<stem><image_ending>` is `<masks>/<stem><mask_ending>`. Masks hold an
    index, grey or with a palette, or, where `colours` are given, are pictures in these colours.
    """

    catalog: Literal["iSAID", "cropland", "LoveDA", "Potsdam"] | None = Field(
        None, description="a published data set: fixes classes, mask values, colours and layout"
    )
    classes: tuple[str, ...] | None = Field(
        None, description="class names by index, where there is no catalogue entry"
    )
    values: tuple[int, ...] | None = Field(
        None, description="mask value of each class; none: the catalogue's, or 0, 1, 2 and so on"
    )
    colours: tuple[Colour, ...] | None = Field(
        None, description="of the classes, where masks are pictures; none: masks hold values"
    )
    unlabelled: tuple[int | Colour, ...] | None = Field(
        None,
        description="mask values or colours that mean: not labelled; none: the catalogue's, or "
        "255 if no class has it",
    )
    images: str | None = Field(None, description="none: the catalogue's, or {part}/Img")
    image_ending: str = Field("", description="of an image's name behind the stem, e.g. _sat")

    @model_validator(mode="after")
    def _classes_are_clear(self) -> "SegmentationData":
        if (self.classes is None) == (self.catalog is None):
            raise ValueError("name the classes, or the catalogue's data set that has them")
        if self.values and self.colours:
            raise ValueError("masks hold values or colours: give one of the two")
        for name in ("classes", "values", "colours"):
            given = getattr(self, name) or ()
            if len(set(given)) < len(given):
                raise ValueError(f"{name} has something twice: each class has its own")
            if self.classes and given and len(given) != len(self.classes):
                raise ValueError(f"{name} must have one for each of {len(self.classes)} classes")
            if len(given) > 254:
                raise ValueError("a mask has at most 254 classes")
        both = {*(self.values or ()), *(self.colours or ())} & {*(self.unlabelled or ())}
        if both:
            raise ValueError(f"{both.pop()} cannot be a class and unlabelled at once")
        return self


class ChangeData(MaskedData):
    """Images of two dates, and a mask of what changed between them.

    The mask of `<before>/<stem><before_ending>` and `<after>/<stem><after_ending>` is
    `<masks>/<stem><mask_ending>`. It holds 0 where nothing changed and 1 or 255 where something
    did; a JPEG, which blurs values, is cut at 128.
    """

    catalog: Literal["LEVIR-CD", "SYSU-CD", "CDD"] | None = Field(
        None, description="a published data set: finds the spellings of its folder"
    )
    before: str = Field("{part}/Image1", description="folder of the images of the first date")
    after: str = Field("{part}/Image2", description="likewise of the second date")
    before_ending: str = Field("", description="of an image's name behind the stem, e.g. _2016")
    after_ending: str = Field("", description="likewise")
    values: tuple[int, int] | None = Field(
        None, description="mask values of unchanged and changed; none: 0, and 1 or 255"
    )
    unlabelled: tuple[int, ...] = Field((), description="mask values that mean: not labelled")
    scale: tuple[float, float] = Field(
        (1.0, 1.0), description="range of the random resizing before a training crop"
    )
    largest_class: Share = Field(
        1.0, description="a training crop is drawn again while one class covers more of it"
    )
    rotation: float = Field(
        180.0,
        ge=0,
        le=180,
        description="degrees by which half of the training crops are turned, at most",
    )

    @model_validator(mode="after")
    def _dates_differ(self) -> "ChangeData":
        if (self.before, self.before_ending) == (self.after, self.after_ending):
            raise ValueError("before and after name the same images: correct one, or its ending")
        meanings = [*(self.values or ()), *self.unlabelled]
        if len(set(meanings)) < len(meanings):
            raise ValueError("values and unlabelled must all differ")
        return self


class DetectionData(Section):
    """Images with boxes around the objects of some classes.

    A part (`train`, `val`, `test`) is a folder of images below `root` and their annotations, where
    `{part}` stands for its name and `*` for any folder. Without `{part}` the images are split with
    `train_fraction` and `split_seed`. Annotations are a COCO file (.json), or a folder of files
    with the stems of the images: DIOR-R's or VOC's (.xml), DOTA's or YOLO's (.txt).
    """

    root: Path
    catalog: Literal["DIOR", "DIOR-R", "DOTA"] | None = Field(
        None, description="a published data set: fixes classes and layout"
    )
    boxes: Literal["horizontal", "oriented"] = Field(
        "horizontal",
        description="what is learnt; horizontal ones are drawn around oriented annotations, "
        "oriented ones are fitted to COCO's outlines",
    )
    classes: tuple[str, ...] | None = Field(
        None, description="class names by index; none: the catalogue's, or those of the COCO file"
    )
    images: str | None = Field(None, description="none: the catalogue's, or images/{part}")
    annotations: str | None = Field(
        None, description="none: the catalogue's, or what is found below the root"
    )
    lists: str | None = Field(
        None,
        description="file with the stems of a part's images, a line each, e.g. "
        "ImageSets/Main/{part}.txt; none: all images of the folder",
    )
    train: str = "train"
    val: str = "val"
    test: str | None = Field(None, description="none: the same as val")
    train_fraction: Fraction = 0.8
    split_seed: int = 0
    gsd: float | None = Field(None, gt=0, description=_GSD)
    image_size: Positive = Field(784, description="pixels a side of the network's input")
    resize: bool = Field(
        True,
        description="test images are resized so that their longer side is image_size; false: they "
        "are seen at their own scale, larger ones window by window",
    )
    scale: tuple[float, float] = Field(
        (0.5, 2.0),
        description="range of the random resizing before a training crop, beside that of a test",
    )
    flips: Literal["none", "horizontal", "both", "all"] = Field(
        "all", description="of training crops; all: both, and quarter turns"
    )
    distortion: bool = Field(False, description="random brightness, contrast, saturation and hue")
    visible: Share = Field(
        0.3, description="a box is left out of a training crop that shows less of its area"
    )
    smallest: float = Field(
        2.0, ge=0, description="pixels; boxes with a shorter side are left out of training crops"
    )
    bands: tuple[Positive, Positive, Positive] = (1, 2, 3)
    stretch: tuple[float, float] | None = Field(
        None, description="values that become 0 and 255, as for scene classification"
    )
    batch_size: Positive = Field(4, description="images a process and micro-batch")
    workers: int = Field(2, ge=0, description="loader processes a training process")

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> "DetectionData":
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale must be two rising factors above 0")
        if self.stretch and not self.stretch[0] < self.stretch[1]:
            raise ValueError("stretch must be two rising values")
        if self.image_size % 14:
            raise ValueError(f"image_size must be a multiple of 14, not {self.image_size}")
        if self.classes and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes has a name twice: each class has its own")
        return self


class SegmentationDecoder(Section):
    """What turns feature maps into classes."""

    kind: Literal["upernet", "light"] = "upernet"
    layers: tuple[int, ...] | None = Field(
        None, description="of the backbone; none: four, evenly spaced, the last among them"
    )
    channels: Positive = Field(512, description="inside UPerNet; the light head uses half")
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
    """What turns feature maps of two dates into changed and unchanged."""

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
    """The query detector that turns feature maps into boxes: DINO (Zhang et al. 2022)."""

    layers: tuple[int, ...] | None = Field(
        None, description="of the backbone; none: three, evenly spaced, the last among them"
    )
    channels: Positive = 256
    queries: Positive = Field(900, description="boxes that are proposed for an image")
    encoder_layers: int = Field(6, ge=0)
    decoder_layers: Positive = 6
    heads: Positive = Field(8, description="of attention; a divisor of channels")
    points: Positive = Field(4, description="that a head of deformable attention samples a level")
    hidden: Positive = Field(2048, description="of the feed-forward layers")
    denoising: int = Field(100, ge=0, description="noised true boxes a training image; 0: without")
    label_noise: Share = Field(0.25, description="share of them that are given a random class")
    box_noise: float = Field(
        1.0, ge=0, description="by how many half sides their corners are moved at most"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "DetectionDecoder":
        if self.layers is not None and len(self.layers) != 3:
            raise ValueError(f"the detector takes 3 layers, not {len(self.layers)}")
        if self.channels % self.heads or self.channels % 4:
            raise ValueError(
                f"channels must be a multiple of 4 and of heads: {self.channels} of {self.heads}"
            )
        return self


class SlidingWindow(Section):
    """How an image larger than the network's input is predicted."""

    overlap: float = Field(1 / 3, ge=0, lt=1, description="share of a window's side")
    batch_size: Positive = Field(8, description="windows a forward pass")
    flips: bool = Field(True, description="with --tta: average over the four flips of a window")
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0,),
        min_length=1,
        description="with --tta: average over these; 2 doubles an image",
    )


class FeatureCache(Section):
    """Frozen features, encoded once and read in every epoch (see `training/features.py`)."""

    enabled: bool = Field(True, description="used where the backbone is frozen")
    views: Positive = Field(8, description="augmented views of each training image")
    batch_size: Positive = Field(64, description="images a forward pass while encoding")
    budget_gb: float = Field(
        20.0, ge=0, description="of each part's features on the disk; what takes more is not cached"
    )
    folder: Path | None = Field(None, description="none: `features` beside the run directory")


class Training(Section):
    """Optimiser (AdamW), schedule, precision and what is written when."""

    epochs: Positive = 100
    steps: Positive | None = Field(None, description="optimiser steps, in place of epochs")
    lr: float = Field(1e-4, gt=0)
    decoder_lr: float = Field(10.0, gt=0, description="factor of lr for all but the backbone")
    schedule: Literal["cosine", "poly"] = Field(
        "cosine", description="how lr falls to 0 after the warm-up; poly: in a straight line"
    )
    lr_batch: Positive | None = Field(
        None, description="global batch that lr is meant for; lr is scaled to the one in use"
    )
    weight_decay: float = Field(0.05, ge=0, description="none on norms, biases and tokens")
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_epochs: float = Field(5.0, ge=0, description="at most half of the training")
    warmup_steps: int | None = Field(None, ge=0, description="in place of warmup_epochs")
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


class SemanticSegmentation(Section):
    """Semantic segmentation: a decoder on feature maps of several layers."""

    task: Literal["semantic_segmentation"] = "semantic_segmentation"
    backbone: Backbone
    data: SegmentationData
    decoder: SegmentationDecoder = SegmentationDecoder()
    window: SlidingWindow = SlidingWindow()
    training: Training = Training()
    cache: FeatureCache = FeatureCache()
    work_dir: Path | None = Field(
        None, description="the run directory; none: runs/<name of the config file>"
    )


class ChangeDetection(Section):
    """Change detection: a decoder on the feature maps of two dates."""

    task: Literal["change_detection"] = "change_detection"
    backbone: Backbone
    data: ChangeData
    decoder: ChangeDecoder = ChangeDecoder()
    window: SlidingWindow = SlidingWindow()
    training: Training = Training()
    cache: FeatureCache = FeatureCache()
    work_dir: Path | None = Field(
        None, description="the run directory; none: runs/<name of the config file>"
    )


class ObjectDetection(Section):
    """Object detection: boxes, horizontal or oriented, around the objects of some classes."""

    task: Literal["object_detection"] = "object_detection"
    backbone: Backbone
    data: DetectionData
    decoder: DetectionDecoder = DetectionDecoder()
    detections: Positive = Field(300, description="boxes of an image that are kept, the best")
    window: SlidingWindow = Field(
        SlidingWindow(batch_size=1), description="how images that are not resized are seen"
    )
    training: Training = Training()
    cache: FeatureCache = FeatureCache()
    work_dir: Path | None = Field(
        None, description="the run directory; none: runs/<name of the config file>"
    )


class Views(Section):
    """What teacher and student see of a sample (see `pretraining/views.py`)."""

    global_size: Positive = Field(224, description="pixels a side of the 2 global crops")
    global_area: Shares = Field((0.32, 1.0), description="share of the image that one covers")
    local_crops: int = Field(8, ge=0)
    local_size: Positive = Field(98, description="pixels a side of a local crop")
    local_area: Shares = Field((0.05, 0.32), description="share of the image that one covers")
    brightness: float = Field(0.4, ge=0, lt=1, description="jitter: factor from 1 - x to 1 + x")
    contrast: float = Field(0.4, ge=0, lt=1, description="likewise")
    saturation: float = Field(0.4, ge=0, lt=1, description="likewise")
    jitter_probability: float = Field(0.8, ge=0, le=1, description="share of crops with jitter")
    masked_share: Shares = Field(
        (0.1, 0.5), description="share of the patches that is masked, in one global crop of two"
    )
    seasons: Literal["replace", "extra", "off"] = Field(
        "replace",
        description="crops of the place's other seasons replace local crops, or are added to them",
    )
    season_crops: Positive = Field(3, description="crops of other seasons a sample, at most")
    season_area: Shares = Field((0.05, 1.0), description="share of the image that one covers")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Views":
        for side in (self.global_size, self.local_size):
            if side % 14:
                raise ValueError(f"global_size and local_size must be multiples of 14, not {side}")
        if self.seasons == "replace" and self.season_crops > self.local_crops:
            raise ValueError("season_crops replace local_crops, so they cannot be more")
        return self


class PretrainingData(Section):
    """Unlabelled images, packed by `cgeartheye pretrain pack`."""

    store: Path
    batch_size: Positive = Field(64, description="samples a process and step")
    workers: int = Field(2, ge=0, description="loader processes a training process")
    hold: Literal["disk", "memory", "device"] = Field(
        "disk",
        description="where images are read from: the store; memory, decoded once; or the "
        "accelerator, decoded once, where the crops are then made in batches",
    )


class Heads(Section):
    """The projection heads of DINO and iBOT."""

    prototypes: Positive = 65536
    hidden: Positive = 2048
    bottleneck: Positive = 256
    shared: bool = Field(False, description="one head for class tokens and for patches")


class Objective(Section):
    """Losses and teacher."""

    masked_weight: float = Field(1.0, ge=0, description="of iBOT's loss beside DINO's; 0: without")
    koleo_weight: float = Field(0.0, ge=0, description="of KoLeo's loss; 0: without")
    centring: Literal["softmax", "sinkhorn"] = "softmax"
    centre_momentum: float = Field(0.9, ge=0, lt=1)
    student_temperature: float = Field(0.1, gt=0)
    teacher_temperature: tuple[float, float] = Field(
        (0.04, 0.07), description="at the first step and after the warm-up"
    )
    teacher_warmup: Share = Field(0.1, description="share of the steps in which it rises")
    momentum: float = Field(0.992, ge=0, le=1, description="of the teacher, an EMA of the student")
    momentum_end: float = Field(
        0.992, ge=0, le=1, description="at the last step; a cosine leads there"
    )


class PretrainingSchedule(Section):
    """Optimiser (AdamW), schedule, precision and what is written when."""

    steps: Positive = 125_000
    lr: float = Field(2e-3, gt=0)
    lr_batch: Positive | None = Field(
        1024, description="global batch that lr is meant for; scaled by the root of the ratio"
    )
    lr_end: float = Field(1e-6, ge=0)
    warmup: Share = Field(0.1, description="share of the steps in which lr rises from 0")
    layer_decay: float = Field(
        0.9, gt=0, le=1, description="of lr from each layer to the one below"
    )
    patch_embed_lr: float = Field(0.2, gt=0, description="factor of lr for the patch embedding")
    weight_decay: tuple[float, float] = Field((0.04, 0.2), description="at the first and last step")
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = Field(3.0, gt=0)
    freeze_prototypes: Share = Field(
        0.01, description="share of the steps in which the heads' last layer stays as it is"
    )
    freeze_backbone: Share = Field(
        0.02,
        description="share of the steps in which only the heads learn, where the backbone has "
        "weights to begin with",
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    sharding: Literal["ddp", "fsdp"] = "ddp"
    log_every: Positive = Field(10, description="steps between two lines of metrics.jsonl")
    checkpoint_every: Positive = Field(1000, description="steps; the last two are kept")
    keep_every: Positive | None = Field(
        None, description="steps; these checkpoints are kept for good"
    )
    seed: int = 0
    tensorboard: bool = False


class Watch(Section):
    """A labelled set on which the teacher's features are measured while it learns."""

    data: SceneData
    every: Positive = Field(1000, description="steps")


class Pretraining(Section):
    """Learning a backbone without labels: DINO, masked patches (iBOT), seasons."""

    task: Literal["pretraining"] = "pretraining"
    backbone: Network
    data: PretrainingData
    views: Views = Views()
    heads: Heads = Heads()
    objective: Objective = Objective()
    training: PretrainingSchedule = PretrainingSchedule()
    start_from: Path | None = Field(
        None,
        description="run or checkpoint of an earlier stage: student, teacher and heads go on; "
        "backbone.weights instead starts from a backbone alone, with new heads",
    )
    watch: Watch | None = None
    work_dir: Path | None = Field(
        None, description="the run directory; none: runs/<name of the config file>"
    )

    @model_validator(mode="after")
    def _gsd_is_known(self) -> "Pretraining":
        if self.backbone.gsd is None:
            raise ValueError("backbone.gsd is needed: metres a pixel of the images, about")
        return self


class PlaceDesign(Section):
    """Which cells of the globe are sampled (see `jlssd/design.py`)."""

    regions: Path = Field(description="a vector file of polygons")
    region_column: str | None = Field(
        None, description="names the regions; none: name, else the rows' numbers"
    )
    landcover: tuple[str, ...] = Field(
        min_length=1, description="classes such as WorldCover's, one mosaic: any paths of GDAL"
    )
    elevation: tuple[str, ...] = Field(min_length=1, description="in metres, likewise")
    cells: Positive = Field(
        1000, description="metres a side of a cell, on an equal-area projection"
    )
    total: Positive = Field(description="places that are wanted in all")
    band_height: float = Field(200.0, gt=0, description="metres of elevation a band")
    classes: Path | None = Field(
        None, description="table from values of the land cover to classes; none: WorldCover's"
    )


class ChipCutting(Section):
    """How chips are cut at the places (see `jlssd/cut.py`)."""

    mosaics: dict[str, tuple[str, ...]] = Field(
        min_length=1, description="of each season: COG, VRT or folders; any path that GDAL opens"
    )
    size: Positive = Field(1024, description="pixels a side of a chip")
    gsd: float = Field(0.75, gt=0, description="metres a pixel")
    max_nodata: Share = Field(0.05, description="share of a chip without data, at most")
    max_cloud: Share = Field(0.3, description="share of a chip below cloud, at most")


class ChipQuality(Section):
    """Limits of what `jlssd/quality.py` measures; a chip beyond one is dropped.

    Of 51 classes of real scenes (0.3 to 8 m) with 40 images each none is below `min_sharpness`, and
    none above `max_haze`; `max_cloud` takes bright beaches and roofs of some.
    """

    max_nodata: Share = Field(0.05, description="share of pixels without data")
    max_saturated: Share = Field(0.3, description="snow and sand come near it, other ground not")
    min_sharpness: Share = Field(
        0.35, description="half of real scenes fall below when blurred by 2 to 3 pixels"
    )
    min_contrast: Share = Field(0.008, description="2 of 255 levels: still water has 3 or more")
    min_entropy: float = Field(2.0, ge=0, le=8, description="bits; 4 levels of equal share")
    max_cloud: Share = Field(0.3, description="share of valid pixels below cloud")
    max_haze: Share = Field(
        0.65, description="what haze through which 30 % of the light comes makes; deserts have 0.62"
    )


class Curation(Section):
    """How redundant places are thinned (see `jlssd/curation.py`)."""

    backbone: Network = Field(description="frozen; its class tokens say what looks alike")
    keep: Positive = Field(description="places")
    image_size: Positive = Field(224, description="pixels a side at which it sees a chip")
    batch_size: Positive = Field(64, description="chips a forward pass")
    clusters: tuple[Positive, ...] = Field(
        (1000, 50),
        min_length=2,
        max_length=3,
        description="of each level, the finest first; fewer where places are few",
    )
    iterations: Positive = Field(20, description="of k-means")
    resamplings: int = Field(
        3, ge=0, description="of coarse levels, which spread their centroids over what is rare"
    )
    duplicates: float = Field(
        0.97,
        gt=0,
        le=1,
        description="cosine similarity within a cluster, above which one of two places goes",
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")

    @model_validator(mode="after")
    def _levels_are_nested(self) -> "Curation":
        if any(fine <= coarse for fine, coarse in pairwise(self.clusters)):
            raise ValueError("clusters must fall from level to level, as in [1000, 50]")
        if self.image_size % 14:
            raise ValueError(f"image_size must be a multiple of 14, not {self.image_size}")
        return self


class Jlssd(Section):
    """From maps and mosaics to the store of a pre-training: `cgeartheye jlssd build`."""

    task: Literal["jlssd"] = "jlssd"
    licence: str = Field(min_length=1, description="of the images, as the data card says it")
    design: PlaceDesign
    cut: ChipCutting
    quality: ChipQuality = ChipQuality()
    curation: Curation
    seed: int = 0
    workers: int = Field(2, ge=0, description="processes that read")
    work_dir: Path | None = Field(
        None, description="where all tables and the store go; none: runs/<name of the config file>"
    )


# What the commands of tasks take.
Config = SceneClassification | SemanticSegmentation | ChangeDetection | ObjectDetection
KINDS: dict[str, type[Config] | type[Pretraining] | type[Jlssd]] = {
    "scene_classification": SceneClassification,
    "semantic_segmentation": SemanticSegmentation,
    "change_detection": ChangeDetection,
    "object_detection": ObjectDetection,
    "pretraining": Pretraining,
    "jlssd": Jlssd,
}
