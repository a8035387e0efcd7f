"""Data that tasks learn from and are tested on."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cgeartheye.config.base import (
    Color,
    Factors,
    Fraction,
    Limits,
    Names,
    Positive,
    Section,
    Share,
    Shares,
)

_GSD = (
    "GSD in m/px of the images, at which scenes are mapped; none: that of the first training "
    "image, or else backbone.gsd"
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
    classes: Names | None = Field(
        None, description="class names by index; none: the catalog's, or the sorted folder names"
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
    stretch: Limits | None = Field(
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
    def _resize_is_enough(self) -> "SceneData":
        if self.resize_to < self.image_size:
            raise ValueError("resize must not be smaller than image_size, which is cut out of it")
        return self

    @property
    def resize_to(self) -> int:
        """Short side in pixels that a test image is resized to before its centre is cropped."""
        return self.resize or round(self.image_size * 532 / 518)


class MaskedData(Section):
    """Fields of all data with a mask for each image, or for each pair of images.

    A part (`train`, `val`, `test`) is a folder of images and one of masks below `root`, where
    `{part}` stands for its name and `*` for any folder, the same in all. Without `{part}` the
    images are split with `train_fraction` and `split_seed`. What belongs together has the same
    stem before its ending, whatever the types of the files.
    """

    root: Path
    masks: str | None = Field(None, description="none: the catalog's, or {part}/Label")
    mask_suffix: str | None = Field(
        None, description="of a mask's name behind the stem, e.g. _RGB; none: the catalog's"
    )
    train: str = "train"
    val: str = "val"
    test: str | None = Field(None, description="none: the same as val")
    train_fraction: Fraction = 0.8
    split_seed: int = 0
    gsd: float | None = Field(None, gt=0, description=_GSD)
    image_size: Positive = Field(518, description="pixels a side of the network's input")
    scale: Factors = Field(
        (0.5, 2.0), description="range of the random resizing before a training crop"
    )
    max_class_ratio: Share = Field(
        0.75, description="a training crop is drawn again while one class covers more of it"
    )
    color_jitter: bool = Field(True, description="random brightness, contrast, saturation and hue")
    bands: tuple[Positive, Positive, Positive] = (1, 2, 3)
    stretch: Limits | None = Field(
        None, description="values that become 0 and 255, as for scene classification"
    )
    batch_size: Positive = Field(8, description="crops a process and micro-batch")
    workers: int = Field(2, ge=0, description="loader processes a training process")


class SegmentationData(MaskedData):
    """Images with a mask each: a class for every pixel.

    The mask of `<images>/<stem><image_suffix>` is `<masks>/<stem><mask_suffix>`. Masks hold an
    index, grey or with a palette, or, where `colors` are given, are pictures in these colors.
    """

    catalog: Literal["iSAID", "cropland", "LoveDA", "Potsdam"] | None = Field(
        None, description="a published data set: fixes classes, mask values, colors and layout"
    )
    classes: Names | None = Field(
        None, description="class names by index, where there is no catalog entry"
    )
    values: tuple[int, ...] | None = Field(
        None, description="mask value of each class; none: the catalog's, or 0, 1, 2 and so on"
    )
    colors: tuple[Color, ...] | None = Field(
        None, description="of the classes, where masks are pictures; none: masks hold values"
    )
    unlabeled: tuple[int | Color, ...] | None = Field(
        None,
        description="mask values or colors that mean: not labelled; none: the catalog's, or "
        "255 if no class has it",
    )
    images: str | None = Field(None, description="none: the catalog's, or {part}/Img")
    image_suffix: str = Field("", description="of an image's name behind the stem, e.g. _sat")

    @model_validator(mode="after")
    def _classes_are_clear(self) -> "SegmentationData":
        if (self.classes is None) == (self.catalog is None):
            raise ValueError("the classes are unknown: set either classes or catalog")
        if self.values and self.colors:
            raise ValueError("values and colors exclude each other: set one of the two")
        for name in ("classes", "values", "colors"):
            given = getattr(self, name) or ()
            if len(set(given)) < len(given):
                raise ValueError(f"{name} has a duplicate entry: give each class its own")
            if self.classes and given and len(given) != len(self.classes):
                raise ValueError(f"{name} must have one for each of {len(self.classes)} classes")
            if len(given) > 254:
                raise ValueError("a mask has at most 254 classes")
        both = {*(self.values or ()), *(self.colors or ())} & {*(self.unlabeled or ())}
        if both:
            raise ValueError(f"{both.pop()} is both a class and in unlabeled: remove one")
        return self


class ChangeData(MaskedData):
    """Images of two dates, and a mask of what changed between them.

    The mask of `<before>/<stem><before_suffix>` and `<after>/<stem><after_suffix>` is
    `<masks>/<stem><mask_suffix>`. It holds 0 where nothing changed and 1 or 255 where something
    did; a JPEG, which blurs values, is cut at 128.
    """

    catalog: Literal["LEVIR-CD", "SYSU-CD", "CDD"] | None = Field(
        None, description="a published data set: finds the spellings of its folder"
    )
    before: str = Field("{part}/Image1", description="folder of the images of the first date")
    after: str = Field("{part}/Image2", description="folder of the images of the second date")
    before_suffix: str = Field("", description="of an image's name behind the stem, e.g. _2016")
    after_suffix: str = Field("", description="the same for the second date")
    values: tuple[int, int] | None = Field(
        None, description="mask values of unchanged and changed; none: 0, and 1 or 255"
    )
    unlabeled: tuple[int, ...] = Field((), description="mask values that mean: not labelled")
    scale: Factors = Field(
        (1.0, 1.0), description="range of the random resizing before a training crop"
    )
    max_class_ratio: Share = Field(
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
        if (self.before, self.before_suffix) == (self.after, self.after_suffix):
            raise ValueError("before and after name the same images: correct one, or its ending")
        meanings = [*(self.values or ()), *self.unlabeled]
        if len(set(meanings)) < len(meanings):
            raise ValueError("values and unlabeled must all differ")
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
    classes: Names | None = Field(
        None, description="class names by index; none: the catalog's, or those of the COCO file"
    )
    images: str | None = Field(None, description="none: the catalog's, or images/{part}")
    annotations: str | None = Field(
        None, description="none: the catalog's, or what is found below the root"
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
    image_size: int = Field(784, ge=28, description="pixels a side of the network's input")
    resize: bool = Field(
        True,
        description="test images are resized so that their longer side is image_size; false: they "
        "are seen at their own scale, larger ones window by window",
    )
    scale: Factors = Field(
        (0.5, 2.0),
        description="range of the random resizing before a training crop, beside that of a test",
    )
    flips: Literal["none", "horizontal", "both", "all"] = Field(
        "all", description="of training crops; all: both, and quarter turns"
    )
    color_jitter: bool = Field(False, description="random brightness, contrast, saturation and hue")
    min_visibility: Share = Field(
        0.3, description="a box is left out of a training crop that shows less of its area"
    )
    min_box_size: float = Field(
        2.0, ge=0, description="pixels; boxes with a shorter side are left out of training crops"
    )
    bands: tuple[Positive, Positive, Positive] = (1, 2, 3)
    stretch: Limits | None = Field(
        None, description="values that become 0 and 255, as for scene classification"
    )
    batch_size: Positive = Field(4, description="images a process and micro-batch")
    workers: int = Field(2, ge=0, description="loader processes a training process")

    @model_validator(mode="after")
    def _fits(self) -> "DetectionData":
        if self.classes and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes has a name twice: each class has its own")
        return self
