"""What differs between tasks, behind one contract."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from cgeartheye.config import (
    ChangeDetection,
    Color,
    Config,
    Normalization,
    ObjectDetection,
    SceneClassification,
)
from cgeartheye.data.checks.findings import CheckResult
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.tasks.change.pipeline import ChangePipeline
from cgeartheye.tasks.detection.pipeline import DetectionPipeline
from cgeartheye.tasks.inputs import Input
from cgeartheye.tasks.model_io import TestResult
from cgeartheye.tasks.scene.pipeline import ScenePipeline
from cgeartheye.tasks.segmentation.pipeline import SegmentationPipeline
from cgeartheye.training.trainer import Data


class TaskPipeline(Protocol):
    """How the model of a config is built, fed, tested and used.

    A task is a `training.trainer.Task` and an `nn.Module` with `backbone`, `decoder`, `classes`.
    """

    @property
    def parts(self) -> Any:
        """The data sets that are trained on, `train`, and evaluated on, `val` and `test`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the data, by index."""

    @property
    def colors(self) -> tuple[Color, ...] | None:
        """Of the classes, where they have any."""

    def gsd(self) -> float | None:
        """Metres a pixel of what the network sees of the images, if they or the config tell."""

    def facts(self) -> Mapping[str, float | None]:
        """What else of the data `model.json` holds, for mapping."""

    def task(self, built: BackboneBundle, classes: tuple[str, ...], tta: bool) -> Any:
        """Put a new decoder on a backbone.

        Args:
            built: the backbone.
            classes: names by index.
            tta: average predictions over changed views of an image.
        """

    def published_decoder(
        self, path: Path, tensors: Mapping[str, Tensor], classes: int
    ) -> dict[str, Tensor]:
        """Return the decoder's tensors out of those of a published checkpoint.

        Raises:
            UserError: it holds none, or one for another number of classes.
        """

    def data(self, task: Any, built: BackboneBundle) -> Data:
        """Return what is trained on and evaluated on.

        Raises:
            UserError: files are missing or cannot be read.
        """

    def check_out(self, out: Path, tested: bool) -> None:
        """Refuse a place for predictions before any work is done.

        Args:
            out: a table of classes or boxes, or a folder of masks.
            tested: whether the predictions are those of a test.

        Raises:
            UserError: an ending of no known format, or a file where a folder must be.
        """

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

    def write(
        self,
        classes: tuple[str, ...],
        inputs: Sequence[Input],
        predictions: Iterable[Any],
        out: Path,
    ) -> str:
        """Write predictions.

        Args:
            classes: names by index.
            inputs: what was predicted.
            predictions: for each of them, as `predict` yields them.
            out: a table, or a folder of masks.

        Returns:
            A line on what was predicted, for the console.

        Raises:
            UserError: a file cannot be written, or GeoJSON of images that have no place on Earth.
        """

    def check(
        self, normalization: Normalization, progress: Callable[[int, int], None]
    ) -> CheckResult:
        """Examine the data."""


def pipeline_for(config: Config) -> TaskPipeline:
    """Return the recipe of a config's task."""
    if isinstance(config, SceneClassification):
        return ScenePipeline(config)
    if isinstance(config, ChangeDetection):
        return ChangePipeline(config)
    if isinstance(config, ObjectDetection):
        return DetectionPipeline(config)
    return SegmentationPipeline(config)
