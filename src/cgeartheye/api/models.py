"""Trained models of every task, and what they predict for images."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cgeartheye.api.images import Images, as_inputs, is_path
from cgeartheye.api.isolation import own_random_state
from cgeartheye.api.messages import python_words
from cgeartheye.api.notebook import table
from cgeartheye.api.predictions import (
    BoxPrediction,
    ClassPrediction,
    Legend,
    MaskPrediction,
    Prediction,
    Predictions,
    loader,
)
from cgeartheye.apps.registry import find_run
from cgeartheye.commands import tasks
from cgeartheye.config import Config
from cgeartheye.config.loader import override
from cgeartheye.data.arrays import Stretch
from cgeartheye.tasks.inputs import Input
from cgeartheye.tasks.model_io import device_of
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.training.distributed import local_device
from cgeartheye.utils.colors import distinct_colors
from cgeartheye.utils.console import muted
from cgeartheye.utils.errors import UserError

MAP_SCORE = 0.3  # of objects in pictures, where the model was not tested

_KINDS: dict[str, Callable[[Input, Legend, Any], Prediction]] = {
    "scene_classification": ClassPrediction,
    "semantic_segmentation": MaskPrediction,
    "change_detection": MaskPrediction,
    "object_detection": BoxPrediction,
}


class Model:
    """A trained model; made by `load_model`.

    Attributes:
        loaded: what the commands know of it.
    """

    def __init__(self, loaded: tasks.LoadedModel) -> None:
        self.loaded = loaded

    @property
    def path(self) -> Path:
        """Its `model.safetensors`."""
        return self.loaded.files.path

    @property
    def task(self) -> str:
        """Task of the model: `scene_classification`, `semantic_segmentation` and so on."""
        return self.config.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by index."""
        classes: tuple[str, ...] = self.loaded.task.classes
        return classes

    @property
    def config(self) -> Config:
        """The config that it was trained with."""
        return self.loaded.config

    @property
    def gsd(self) -> float | None:
        """GSD in m/px of what it saw in training, if known."""
        return self.loaded.files.gsd

    @property
    def image_size(self) -> int:
        """Pixels a side of what it sees at a time."""
        return self.config.data.image_size

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return device_of(self.loaded.task)

    @property
    def module(self) -> nn.Module:
        """The network: `backbone` and `decoder`; of an exported graph without weights."""
        module: nn.Module = self.loaded.task
        return module

    def predict(
        self,
        images: Images,
        after: Images | None = None,
        *,
        score_threshold: float = 0.05,
        stretch: Stretch = None,
        batch_size: int | None = None,
        workers: int = 0,
        progress: bool = True,
    ) -> Predictions[Any]:
        """Predict images of any size.

        Args:
            images: a file (JPEG, PNG, TIFF, BMP), a folder, an array or tensor `[H, W, 3]`,
                `[3, H, W]`, `[H, W]` or of several images `[N, ...]`, an image of Pillow's; or a
                sequence of these. Arrays are uint8 0..255, float 0..1, or of 16 bits.
            after: for a model of change the images of the second date; those of two folders belong
                together by their names, others by their order.
            score_threshold: least score of an object, 0..1.
            stretch: values that become 0 and 255, of arrays of any type and of files of 16 bits;
                none: those of the training, or the 1st and 99th percentile of each image.
            batch_size: images a forward pass; none: as in the training.
            workers: processes that read files; 0: this one.
            progress: whether a bar is shown, where there is more than one batch.

        Returns:
            In order `ClassPrediction`, `MaskPrediction` or `BoxPrediction`, one for each image.

        Raises:
            UserError: an unreadable image, an array that is no image, or one date where the model
                sees two.

        Examples:
            >>> import cgeartheye as cge
            >>> model = cge.load_model("runs/mine")
            >>> predictions = model.predict("chips/")
            >>> len(predictions), predictions[0].label in model.classes
            (16, True)
            >>> predictions.to_frame().columns.tolist()
            ['name', 'class', 'score']
        """
        changed: dict[str, Any] = {"data.workers": workers}
        if batch_size is not None:
            changed["data.batch_size"] = batch_size
        if stretch is not None:
            changed["data.stretch"] = stretch
        config = override(self.config, changed)
        loaded = tasks.LoadedModel(self.loaded.files, pipeline_for(config), self.loaded.task)
        inputs = self._inputs(images, after, stretch)
        small = len(inputs) <= config.data.batch_size
        with python_words(), own_random_state(), muted(not progress or small):
            found = list(loaded.predict(inputs))
        if self.task == "object_detection":
            found = [one[one.scores >= score_threshold] for one in found]
        legend = self._legend(config)

        def write(indices: list[int], out: Path) -> str:
            return loaded.write([inputs[i] for i in indices], [found[i] for i in indices], out)

        kind = _KINDS[self.task]
        items = [kind(one, legend, each) for one, each in zip(inputs, found, strict=True)]
        return Predictions(items, write)

    def check_dates(self, after: object) -> None:
        """Make sure that there are as many dates as the model sees.

        Args:
            after: the second date; none: there is one date.

        Raises:
            UserError: there are not.
        """
        if self.task == "change_detection" and after is None:
            raise UserError(f"{self.path} detects change between two dates: give `after` too")
        if self.task != "change_detection" and after is not None:
            raise UserError(f"{self.path} sees one date, not two: leave `after` out")

    def __repr__(self) -> str:
        return f"<Model {self.path}: {self.task.replace('_', ' ')}, {len(self.classes)} classes>"

    def _repr_html_(self) -> str:
        return table(
            {
                "model": self.path,
                "task": self.task.replace("_", " "),
                "classes": ", ".join(self.classes),
                "backbone": f"{self.config.backbone.name}, {self.config.backbone.tuning}",
                "image size": f"{self.image_size} pixels",
                "GSD": f"{self.gsd:.3g} m/px" if self.gsd else "not known",
                "device": self.device,
            }
        )

    def _inputs(self, images: Images, after: Images | None, stretch: Stretch) -> list[Input]:
        config, deep = self.config, self.config.data.stretch
        self.check_dates(after)
        if after is None:
            return as_inputs(images, stretch, deep)
        if is_path(images) and is_path(after):
            return pipeline_for(config).find([Path(images), Path(after)])  # type: ignore[arg-type]
        first, second = as_inputs(images, stretch, deep), as_inputs(after, stretch, deep)
        if len(first) != len(second):
            raise UserError(
                f"{len(first)} images of the first date and {len(second)} of the second: give as "
                "many of both, in the same order"
            )
        return [
            Input((*one.images, *other.images), other.name)
            for one, other in zip(first, second, strict=True)
        ]

    def _legend(self, config: Config) -> Legend:
        colors = pipeline_for(config).colors or distinct_colors(len(self.classes))
        score = self.loaded.files.score_threshold
        return Legend(
            self.classes,
            tuple(colors),
            MAP_SCORE if score is None else score,
            loader(config.data.bands, config.data.stretch),
        )


def load_model(
    run: str | PathLike[str],
    *,
    device: str = "auto",
    tta: bool = False,
    engine: str | None = None,
    precision: str | None = None,
    **overrides: Any,
) -> Model:
    """Load a trained model of any task.

    Args:
        run: a run directory, its `model.safetensors`, what `train` returns, an exported folder, or
            the id of an application.
        device: auto, cpu, cuda, cuda:1 or mps; auto takes the best there is.
        tta: average predictions over changed views of an image: mirror images, and for pixels the
            config's scales.
        engine: torch, or onnx or openvino if the run was exported for it; none: that of an
            exported folder, else torch.
        precision: fp32, bf16 or fp16, or int8 of an export; none: as trained or exported.
        overrides: fields of the model's config by their dotted names, such as
            `**{"backbone.weights": "moved.safetensors"}` or `**{"window.overlap": 0.5}`.

    Returns:
        The model, ready to predict.

    Raises:
        UserError: there is no model, or its backbone's weights are gone or others.

    Examples:
        >>> import cgeartheye as cge
        >>> model = cge.load_model("runs/mine")
        >>> model.task, model.classes
        ('scene_classification', ('brick', 'field', 'water', 'wood'))
    """
    with own_random_state():
        loaded = tasks.load_model(
            find_run(Path(run)), overrides, local_device(device), tta, engine, precision
        )
    return Model(loaded)
