"""Contract behind which tasks differ."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgeartheye.config import Color, Config, Normalization
from cgeartheye.data.checks.findings import CheckResult
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.tasks.inputs import Input, find_inputs
from cgeartheye.tasks.model_io import TestResult, device_of
from cgeartheye.tasks.sources import SourceFactory
from cgeartheye.tasks.verdict import advice
from cgeartheye.training.loaders import Batch, FileSource, Source
from cgeartheye.training.run_dir import read_history
from cgeartheye.training.samplers import test_order
from cgeartheye.training.trainer import Data, autocast
from cgeartheye.utils.console import bar


class TaskPipeline(ABC):
    """Pipeline of a task: its model is fed, tested and used.

    A command makes one and passes it on: the data are indexed once, when they are first asked for.
    A task is a `training.trainer.Task` and an `nn.Module` with `backbone`, `decoder`, `classes`.

    Attributes:
        config: of the run.
    """

    config: Config

    @property
    @abstractmethod
    def parts(self) -> Any:
        """The data sets of images, as `train`, `val` and, where the config has one, `test`."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the data's classes, by index."""

    @property
    def colors(self) -> tuple[Color, ...] | None:
        """Colors of the classes, where the data have any."""
        return None

    @abstractmethod
    def gsd(self) -> float | None:
        """Return the GSD in m/px of what the network sees, if images or config have it."""

    def assumed_gsd(self, built: BackboneBundle) -> str | None:
        """Return what is assumed where neither images nor config have a GSD, and what follows.

        Args:
            built: the backbone, whose GSD is then taken.
        """
        if self.gsd() is not None:
            return None
        unknown = "the images record no resolution: "
        if built.gsd is None:
            return f"{unknown}set data.gsd in m/px, or a map is made at the scene's own"
        sentence = f"{unknown}{built.gsd:g} m/px, that of the weights, is assumed; set data.gsd"
        if self.config.task == "scene_classification":
            cell = self.config.data.image_size * built.gsd
            sentence += f"; cells of a map will be {cell:.0f} m"
        return sentence

    def facts(self) -> Mapping[str, float | None]:
        """Return what else of the data `model.json` holds, for mapping."""
        return {}

    @abstractmethod
    def published_decoder(
        self, path: Path, tensors: Mapping[str, Tensor], classes: int
    ) -> dict[str, Tensor]:
        """Return the decoder's tensors out of those of a published checkpoint.

        Args:
            path: of the checkpoint.
            tensors: all that it holds.
            classes: number of the data's classes.

        Raises:
            UserError: it holds none, or one for another number of classes.
        """

    @abstractmethod
    def data(self, task: Any, built: BackboneBundle) -> Data:
        """Return what is trained on and evaluated on.

        Args:
            task: on its device.
            built: its backbone.

        Raises:
            UserError: files are missing or cannot be read.
        """

    @abstractmethod
    def training_files(self, sources: SourceFactory) -> FileSource:
        """Return the source that reads training images from files, whatever is cached."""

    def try_step(self, task: Any, built: BackboneBundle) -> tuple[float, int]:
        """Compute the loss of one batch and its gradients.

        Args:
            task: on its device.
            built: its backbone.

        Returns:
            The loss, and how many images it is of.

        Raises:
            UserError: an image cannot be read, or data that do not fit the model.
        """
        files = self.training_files(SourceFactory(self.config, task, built))
        count = min(self.config.data.batch_size, len(files))
        (batch,) = files.load([[(index, index) for index in range(count)]])
        with autocast(device_of(task), self.config.training.precision):
            loss = torch.stack(list(task.train().training_loss(batch).values())).sum()
        loss.backward()
        return loss.item(), count

    @abstractmethod
    def check_out(self, out: Path, tested: bool) -> None:
        """Refuse a place for predictions before any work is done.

        Args:
            out: a table of classes or boxes, or a folder of masks.
            tested: whether the predictions are those of a test.

        Raises:
            UserError: an ending of no known format, or a file where a folder must be.
        """

    @abstractmethod
    def test(
        self, task: Any, built: BackboneBundle, out: Path | None, show_dir: Path | None
    ) -> TestResult:
        """Test on the test part; every process calls it.

        Args:
            task: on its device.
            built: its backbone.
            out: every prediction goes there: a table, or a folder of masks.
            show_dir: a folder for a picture of every prediction.
        """

    def find(self, inputs: list[Path]) -> list[Input]:
        """Return what is to be predicted.

        Args:
            inputs: images or folders of them; of two dates, those of one and of the other.

        Raises:
            UserError: a path that does not exist, no images, or images without a partner.
        """
        return find_inputs(inputs)

    @abstractmethod
    def predict(self, task: Any, inputs: Sequence[Input]) -> Iterator[Any]:
        """Yield the prediction for each input, in order.

        Args:
            task: on its device.
            inputs: see `find`.

        Yields:
            Of a scene the probabilities float32 `[classes]`, of pixels their classes uint8
            `[H, W]`, of objects `Detections` in pixels of the image.

        Raises:
            UserError: an image cannot be read.
        """

    @abstractmethod
    def write(
        self,
        classes: tuple[str, ...],
        inputs: Sequence[Input],
        predictions: Iterable[Any],
        out: Path,
        dem: str | None = None,
    ) -> str:
        """Write predictions.

        Args:
            classes: names by index.
            inputs: what was predicted.
            predictions: for each of them, as `predict` yields them.
            out: a table, or a folder of masks.
            dem: heights for GeoJSON of images with RPCs alone; see `read_georeference`.

        Returns:
            A line on what was predicted, for the console.

        Raises:
            UserError: a file cannot be written, or GeoJSON of images that have no place on Earth.
        """

    @abstractmethod
    def check(
        self, normalization: Normalization, progress: Callable[[int, int], None]
    ) -> CheckResult:
        """Examine the data.

        Args:
            normalization: of the backbone.
            progress: called with how many of how many images are done.
        """

    @property
    def tested_part(self) -> str:
        """Name of the part that is tested."""
        data, folder = self.config.data, self.config.work_dir
        if data.test not in (None, data.val):
            return f"test part ({data.test})"
        assert folder is not None
        if sum(record["kind"] == "val" for record in read_history(folder)) == 1:
            return "validation part, on which nothing was chosen: the last epoch was tested"
        return "validation part, on which the best epoch was chosen"

    def verdict(
        self, found: list[str], support: Sequence[float], classes: tuple[str, ...]
    ) -> list[str]:
        """Return what was not learned, and why that may be.

        Args:
            found: what stands out in a test; see `verdict`.
            support: samples of each class.
            classes: names by index.
        """
        if not found:
            return []
        assert self.config.work_dir is not None
        history = read_history(self.config.work_dir)
        return [*found, advice(self.config, history, support, classes)]

    @torch.no_grad()
    def predictions(self, task: Any, source: Source) -> Iterator[Any]:
        """Yield the task's predictions for each batch of a source, in order."""
        task.eval()
        order = test_order(len(source), self.config.data.batch_size, 0, 1)
        device, precision = device_of(task), self.config.training.precision
        batches: Iterator[Batch] = source.load(order)
        with bar("predicting", len(source), "images") as progress:
            for samples, batch in zip(order, batches, strict=True):
                with autocast(device, precision):
                    prediction = task.predict(batch)
                yield prediction
                progress.advance(len(samples))
