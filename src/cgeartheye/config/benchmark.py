"""The file of a benchmark's table: backbones, data sets, protocols, seeds."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from cgeartheye.config.base import Positive, Section
from cgeartheye.config.model import Backbone

# Names become folders.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$")]


class BenchmarkData(Section):
    """A data set of a table: a task and its data, or a config that has both."""

    config: Path | None = Field(
        None, description="a config file of a task, whose backbone is replaced"
    )
    task: (
        Literal[
            "scene_classification", "semantic_segmentation", "change_detection", "object_detection"
        ]
        | None
    ) = None
    data: dict[str, Any] = Field({}, description="fields of the task's data")
    set: dict[str, Any] = Field(
        {}, description="other fields of its config, e.g. training.epochs: 20"
    )
    protocols: tuple[str, ...] | None = Field(
        None, description="that are run on it; none: all that fit its task"
    )
    figure: str | None = Field(
        None,
        description="that is compared; none: top1, miou, f1 or ap50, by task",
    )
    published: str | None = Field(
        None, description="data set of the publication whose figures stand beside ours, e.g. AID"
    )

    @model_validator(mode="after")
    def _has_a_task(self) -> "BenchmarkData":
        if (self.config is None) == (self.task is None):
            raise ValueError("set either config, or task and data")
        return self


class Protocol(Section):
    """A way to measure a backbone.

    `knn`, `linear` and `few` (linear with few labels) probe features of scenes and train nothing;
    `light` and `published` train a decoder on the frozen backbone, the light one or that of the
    data set's config; `lora` adapts the backbone beside the latter.
    """

    kind: Literal["knn", "linear", "few", "light", "published", "lora"]
    k: Positive = Field(20, description="neighbours of knn")
    labels: Positive = Field(5, description="known labels a class of few")
    draws: Positive = Field(5, description="of these labels, for each seed")
    set: dict[str, Any] = Field(
        {}, description="fields of the task's config, e.g. training.epochs: 20"
    )


class BenchmarkTable(Section):
    """A table: a cell for each backbone, data set, protocol and seed."""

    backbones: dict[Name, Backbone] = Field(min_length=1)
    datasets: dict[Name, BenchmarkData] = Field(min_length=1)
    protocols: dict[Name, Protocol] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="of trainings and draws"
    )
    data_root: Path | None = Field(
        None, description="folder that the data sets' relative roots are in; none: the current one"
    )
    set: dict[str, Any] = Field(
        {},
        description="fields of every cell's config, e.g. training.device: cpu; those of a data set "
        "and of a protocol win over it",
    )
    resamples: Positive = Field(2000, description="of bootstrap intervals and permutation tests")

    @model_validator(mode="after")
    def _names_are_known(self) -> "BenchmarkTable":
        for name, dataset in self.datasets.items():
            unknown = set(dataset.protocols or ()) - set(self.protocols)
            if unknown:
                raise ValueError(f"{name} names a protocol that is not there: {min(unknown)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds has one twice")
        return self
