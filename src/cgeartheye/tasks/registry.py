"""What differs between tasks, behind one contract."""

from collections.abc import Callable, Mapping
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
from cgeartheye.tasks.model_io import TestResult
from cgeartheye.tasks.scene.pipeline import ScenePipeline
from cgeartheye.tasks.segmentation.pipeline import SegmentationPipeline
from cgeartheye.training.trainer import Data


class TaskPipeline(Protocol):
    """How the model of a config is built, fed, tested and used.

    A task is a `training.trainer.Task` and an `nn.Module` with `backbone`, `decoder`, `classes`.
    """

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

    def find(self, inputs: list[Path]) -> Mapping[Any, str]:
        """Return the names of what is to be predicted, by its path, or paths.

        Args:
            inputs: images or folders of them; of two dates, those of one and of the other.

        Raises:
            UserError: a path that does not exist, no images, or images without a partner.
        """

    def predict(self, task: Any, found: Mapping[Any, str], out: Path) -> None:
        """Predict what was found.

        Args:
            task: on its device.
            found: see `find`.
            out: a table, or a folder of masks.
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
