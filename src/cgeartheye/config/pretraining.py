"""A pre-training."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cgeartheye.config.base import Positive, Run, Section, Share, Shares
from cgeartheye.config.data import SceneData
from cgeartheye.config.model import Network
from cgeartheye.config.tasks import FeatureCache
from cgeartheye.config.training import PretrainingSchedule


class Views(Section):
    """Views of a sample for teacher and student (see `pretraining/views/sampling.py`)."""

    global_size: Positive = Field(224, description="pixels a side of the 2 global crops")
    global_area: Shares = Field((0.32, 1.0), description="share of the image that one covers")
    local_crops: int = Field(8, ge=0)
    local_size: Positive = Field(98, description="pixels a side of a local crop")
    local_area: Shares = Field((0.05, 0.32), description="share of the image that one covers")
    brightness: float = Field(0.4, ge=0, lt=1, description="jitter: factor from 1 - x to 1 + x")
    contrast: float = Field(0.4, ge=0, lt=1, description="jitter: as brightness")
    saturation: float = Field(0.4, ge=0, lt=1, description="jitter: as brightness")
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
    preload: Literal["disk", "memory", "device"] = Field(
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
    """Self-supervised losses, and the teacher that follows the student."""

    dino_weight: float = Field(1.0, ge=0, description="of DINO's loss; 0: without")
    ibot_weight: float = Field(1.0, ge=0, description="of iBOT's loss beside DINO's; 0: without")
    koleo_weight: float = Field(0.0, ge=0, description="of KoLeo's loss; 0: without")
    centering: Literal["softmax", "sinkhorn"] = "softmax"
    center_momentum: float = Field(0.9, ge=0, lt=1)
    student_temperature: float = Field(0.1, gt=0)
    teacher_temperature: tuple[float, float] = Field(
        (0.04, 0.07), description="at the first step and after the warm-up"
    )
    teacher_warmup: Share = Field(0.1, description="share of the steps in which it rises")
    momentum: float = Field(0.992, ge=0, le=1, description="of the teacher, an EMA of the student")
    momentum_end: float = Field(
        0.992, ge=0, le=1, description="at the last step; a cosine leads there"
    )


class Teacher(Section):
    """A frozen network whose features the student learns to predict: distillation.

    Linear heads, thrown away afterwards, map the student's class token to the teacher's pooled
    features and its patch tokens to the teacher's last map (see `pretraining/distillation.py`).
    """

    backbone: Network = Field(
        description="with weights: any size of ours, or timm/<model>, convolutional ones too"
    )
    image_size: Positive = Field(224, description="pixels a side of what the teacher sees")
    view: Literal["image", "crop"] = Field(
        "image",
        description="image: it sees whole images, once; its maps are cached, and cut like the "
        "crops; crop: it sees each crop, mixed like the student's, in every step",
    )
    targets: Literal["standardize", "whiten"] = Field(
        "standardize", description="scale each channel, or the principal components, to variance 1"
    )
    components: Positive | None = Field(
        None, description="leading principal components that are kept, with whiten; none: all"
    )
    loss: Literal["smooth_l1", "cosine", "both"] = Field("both", description="both: their sum")
    class_target: Literal["image", "crop"] = Field(
        "image",
        description="image: a class token learns the teacher's features of the whole image; crop: "
        "the mean over its crop of what a convolutional teacher pools, with view=image",
    )
    class_weight: float = Field(1.0, ge=0, description="of the loss of class tokens")
    patch_weight: float = Field(1.0, ge=0, description="of the loss of patch tokens")
    mixup: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the pairs of samples whose images, and targets, are mixed (Zhang et "
        "al. 2018)",
    )
    kept_patches: Share = Field(
        1.0,
        description="share of a global crop's patches that the student sees; the others cost "
        "nothing (He et al. 2022)",
    )
    layers: tuple[int, ...] = Field(
        (-1,), description="layers, or stages, whose maps are learned, side by side"
    )
    cache: FeatureCache = Field(
        FeatureCache(views=1), description="of what the teacher makes of whole images"
    )


class OnlineKnn(Section):
    """A labelled set on which the teacher's features are measured while it learns."""

    data: SceneData
    every: Positive = Field(1000, description="steps")


class Pretraining(Run):
    """Learning a backbone without labels: DINO, masked patches (iBOT), seasons, distillation.

    Without `backbone.weights` it begins with random ones, never with those that ship.
    """

    task: Literal["pretraining"] = "pretraining"
    backbone: Network
    data: PretrainingData
    views: Views = Views()
    heads: Heads = Heads()
    objective: Objective = Objective()
    teacher: Teacher | None = Field(
        None, description="a frozen teacher beside, or in place of, the self-supervised losses"
    )
    training: PretrainingSchedule = PretrainingSchedule()
    start_from: Path | None = Field(
        None,
        description="run or checkpoint of an earlier stage: student, teacher and heads go on; "
        "backbone.weights instead starts from a backbone alone, with new heads",
    )
    online_knn: OnlineKnn | None = None

    @model_validator(mode="after")
    def _gsd_is_known(self) -> "Pretraining":
        if self.backbone.gsd is None:
            raise ValueError(
                "backbone.gsd is not set: give the approximate GSD of the images in m/px"
            )
        return self

    @model_validator(mode="after")
    def _losses_fit(self) -> "Pretraining":
        objective, teacher = self.objective, self.teacher
        if teacher is None:
            if not (objective.dino_weight or objective.ibot_weight):
                raise ValueError("nothing to learn: give objective.dino_weight, or a teacher")
            return self
        if not (teacher.class_weight or teacher.patch_weight):
            raise ValueError("teacher.class_weight and teacher.patch_weight are both 0")
        if objective.ibot_weight and teacher.kept_patches < 1:
            raise ValueError(
                "teacher.kept_patches below 1 leaves patches out that objective.ibot_weight "
                "needs: set one to 1 or the other to 0"
            )
        if teacher.mixup and self.data.batch_size % 2:
            raise ValueError("teacher.mixup mixes pairs: data.batch_size must be even")
        if teacher.components and teacher.targets != "whiten":
            raise ValueError("teacher.components goes with teacher.targets=whiten")
        return self
