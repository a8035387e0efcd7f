"""A pre-training."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cgeartheye.config.base import Positive, Section, Share, Shares
from cgeartheye.config.data import SceneData
from cgeartheye.config.model import Network
from cgeartheye.config.tasks import FeatureCache


class Views(Section):
    """What teacher and student see of a sample (see `pretraining/views/sampling.py`)."""

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


class PretrainingSchedule(Section):
    """Optimiser (AdamW), schedule, precision and what is written when."""

    steps: Positive = 125_000
    lr: float = Field(2e-3, gt=0)
    base_batch_size: Positive | None = Field(
        1024, description="global batch that lr is meant for; none: any, lr is not scaled"
    )
    lr_scaling: Literal["linear", "sqrt"] = Field(
        "sqrt", description="of lr by the ratio of the global batch to base_batch_size"
    )
    lr_end: float = Field(1e-6, ge=0)
    warmup: Share = Field(0.1, description="share of the steps in which lr rises from 0")
    layer_decay: float = Field(
        0.9, gt=0, le=1, description="of lr from each layer to the one below"
    )
    patch_embed_lr_mult: float = Field(
        0.2, gt=0, description="factor of lr for the patch embedding"
    )
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


class OnlineKnn(Section):
    """A labelled set on which the teacher's features are measured while it learns."""

    data: SceneData
    every: Positive = Field(1000, description="steps")


class Pretraining(Section):
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
    work_dir: Path | None = Field(
        None, description="the run directory; none: runs/<name of the config file>"
    )

    @model_validator(mode="after")
    def _gsd_is_known(self) -> "Pretraining":
        if self.backbone.gsd is None:
            raise ValueError("backbone.gsd is needed: metres a pixel of the images, about")
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
