"""Backbones: the network, its weights, how far it is tuned."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from cgeartheye.config.base import Positive, Section, Triple


def statistics_problem(mean: Triple, std: Triple) -> str:
    """Say why these cannot be mean and standard deviation of pixels 0..255; empty if they can."""
    if not all(0 < value < math.inf for value in std):
        return f"std {std} must be above 0"
    if max(mean) <= 1 and max(std) < 1:
        return f"mean {mean} and std {std} are of values 0..1: multiply both by 255"
    return ""


class Normalization(Section):
    """Mean and standard deviation of each band, for pixel values on the scale 0..255."""

    mean: Triple = (123.675, 116.28, 103.53)
    std: Triple = (58.395, 57.12, 57.375)

    @model_validator(mode="after")
    def _is_of_pixels(self) -> "Normalization":
        if problem := statistics_problem(self.mean, self.std):
            raise ValueError(problem)
        return self


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021) of the attention and MLP layers."""

    rank: Positive = 8
    alpha: float = Field(16.0, gt=0)


class Network(Section):
    """The network that turns an image into tokens."""

    name: str = Field(
        description="tiny, small, base, large, huge or giant; or timm/<model> for a timm backbone"
    )
    weights: Path | Literal["random"] | None = Field(
        None,
        description="safetensors or .pth in any published naming, or random (a file of that name "
        "is ./random); none: those that ship with the package for this size, else random",
    )
    normalization: Normalization | None = Field(
        None, description="what the weights were trained with, where their file does not state it"
    )
    gsd: float | None = Field(
        None,
        gt=0,
        description="GSD in m/px the weights were trained at, where their file does not state it",
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

    @field_validator("weights")
    @classmethod
    def _a_file_stays_one(cls, value: Path | str | None) -> Path | str | None:
        # Written to a config file, the path ./random would be the word.
        return value.absolute() if value == Path("random") else value


class Backbone(Network):
    """A network, and how far it is tuned."""

    tuning: Literal["frozen", "lora", "full"] = "frozen"
    seed: int | None = Field(None, description="of random weights; none: training.seed")
    lora: Lora = Lora()
