"""Fields of every training, of a task or of a backbone."""

from typing import Literal

from pydantic import Field

from cgeartheye.config.base import Positive, Section, Share


class Optimization(Section):
    """Optimizer (AdamW), schedule, precision and what is written when.

    The learning rate rises in a straight line from `warmup_from`, then falls to `lr_end`.
    """

    lr: float = Field(1e-4, gt=0)
    base_batch_size: Positive | None = Field(
        None, description="global batch that lr is meant for; lr is scaled to the one in use"
    )
    lr_scaling: Literal["linear", "sqrt"] = Field(
        "linear", description="in proportion to the batch, or to its root"
    )
    schedule: Literal["cosine", "linear"] = Field(
        "cosine", description="how lr falls after the warm-up"
    )
    lr_end: float = Field(0.0, ge=0, description="at the last step")
    warmup_steps: int | None = Field(
        None, ge=0, description="in which lr rises; none: as many as epochs, or a share, name"
    )
    warmup_from: Share = Field(
        0.25, description="share of lr at the first step; 0: the first step already has a rate"
    )
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = Field(None, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    sharding: Literal["ddp", "fsdp"] = Field(
        "ddp", description="fsdp shards weights and optimizer: full tuning of huge and giant"
    )
    log_every: Positive = Field(10, description="steps between two lines of metrics.jsonl")
    seed: int = Field(0, ge=0)
    tensorboard: bool = False


class Training(Optimization):
    """A training of a task."""

    epochs: Positive = 100
    steps: Positive | None = Field(None, description="optimizer steps, in place of epochs")
    decoder_lr_mult: float = Field(10.0, gt=0, description="factor of lr for all but the backbone")
    weight_decay: float = Field(0.05, ge=0, description="none on norms, biases and tokens")
    warmup_epochs: float = Field(5.0, ge=0, description="at most half of the training")
    grad_accum_steps: Positive = Field(1, description="micro-batches a step")
    evaluate_every: Positive = Field(1, description="epochs")
    patience: Positive | None = Field(
        None, description="stop after this many evaluations without a better one"
    )
    checkpoint_minutes: float = Field(
        5.0, ge=0, description="at most so much is lost when a training is killed"
    )


class PretrainingSchedule(Optimization):
    """A pre-training."""

    steps: Positive = 125_000
    lr: float = Field(2e-3, gt=0)
    base_batch_size: Positive | None = Field(1024, description="global batch that lr is meant for")
    lr_scaling: Literal["linear", "sqrt"] = Field(
        "sqrt", description="noise of the gradient falls with the root of the batch"
    )
    lr_end: float = Field(1e-6, ge=0, description="at the last step")
    warmup: Share = Field(0.1, description="share of the steps in which lr rises")
    warmup_from: Share = 0.0
    layer_decay: float = Field(
        0.9, gt=0, le=1, description="of lr from each layer to the one below"
    )
    patch_embed_lr_mult: float = Field(
        0.2, gt=0, description="factor of lr for the patch embedding"
    )
    weight_decay: tuple[float, float] = Field((0.04, 0.2), description="at the first and last step")
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
    checkpoint_every: Positive = Field(1000, description="steps; the last two are kept")
    keep_every: Positive | None = Field(
        None, description="steps; these checkpoints are kept for good"
    )
