"""Maps of whole scenes by a trained model of any task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgeartheye.boxes import Detections
from cgeartheye.commands import tasks
from cgeartheye.commands.autotune import tune
from cgeartheye.commands.engines import choose_engine
from cgeartheye.config import Config
from cgeartheye.config.loader import override
from cgeartheye.mapping.options import Options
from cgeartheye.mapping.predictor import Detector, Predictor
from cgeartheye.mapping.run import map_scene
from cgeartheye.tasks import model_io
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.training import distributed
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest


class TaskPredictor:
    """A trained model as `mapping` knows it."""

    def __init__(self, task: Any, config: Config, gsd: float | None):
        """Take a model.

        Args:
            task: on its device.
            config: it was built with.
            gsd: m/px of what it saw in training, if known.
        """
        self._task = task.eval()
        self._precision = config.training.precision
        self.classes: tuple[str, ...] = task.classes
        self.window = config.data.image_size
        self.gsd = gsd
        self.device = model_io.device_of(task)

    def predict(self, images: Tensor) -> Tensor:
        """See `mapping.Predictor`."""
        with torch.inference_mode(), autocast(self.device, self._precision):
            probabilities: Tensor = self._task.probabilities(images)
        return probabilities


class TaskDetector:
    """A trained detector as `mapping` knows it."""

    def __init__(self, task: Any, config: Config, model: model_io.Model):
        """Take a model.

        Args:
            task: on its device.
            config: it was built with.
            model: its files.
        """
        self._task = task.eval()
        self._precision = config.training.precision
        self.classes: tuple[str, ...] = task.classes
        self.window = config.data.image_size
        self.gsd = model.gsd
        self.device = model_io.device_of(task)
        self.oriented: bool = task.oriented
        self.max_object_size, self.score_threshold = model.max_object_size, model.score_threshold

    def predict(self, images: Tensor) -> list[Detections]:
        """See `mapping.Detector`."""
        with torch.inference_mode(), autocast(self.device, self._precision):
            found: list[Detections] = self._task.predict_windows(images)
        return found


def map_scenes(
    run: Path,
    scenes: list[Path],
    out: Path,
    options: dict[str, Any],
    overrides: list[str],
    resume: bool = False,
    after: list[Path] | None = None,
    engine: str | None = None,
    precision: str | None = None,
    autotune: bool = False,
) -> dict[str, Any]:
    """Map a scene, or what changed between two, with a trained model; see `mapping.run.map_scene`.

    Args:
        run: a run directory or its `model.safetensors`, or an exported folder.
        scenes: a raster, or several and folders of them as one mosaic; of two dates the first.
        out: a folder for the map alone.
        options: fields of `mapping.Options`; bands, stretch and overlap that are not named are the
            model's own.
        overrides: `field=value` for the model's config, e.g. `training.precision=bf16`.
        resume: go on with an unfinished map.
        after: the second date, for a model of change.
        engine: see `choose_engine`.
        precision: see `choose_engine`.
        autotune: measure what is fastest here first, see `autotune`; what is named stays.

    Returns:
        What `map.json` holds.

    Raises:
        UserError: no model, a model of change without a second date or another with one, or what
            `map_scene` raises.
    """
    tuned = tune(run, engine, precision, overrides) if autotune else None
    if tuned:
        tuned.prepare()
        options = {"batch_size": tuned.batch_size} | options
        engine = engine or tuned.engine
    run, chosen = choose_engine(run, engine, precision)
    files = model_io.read_model(run)
    pipeline = pipeline_for(override(files.config, [*chosen, *overrides]))
    _refuse_dates(pipeline.config, run, after)
    with distributed.process_group(pipeline.config.training.device) as device:
        task, _ = tasks.restore(pipeline.config, files, device)
        if tuned:
            tuned.arrange(task)
        model = tasks.LoadedModel(files, pipeline, task)
        return map_with(model, scenes, out, options, resume, after)


def map_with(
    model: tasks.LoadedModel,
    scenes: list[Path],
    out: Path,
    options: dict[str, Any],
    resume: bool = False,
    after: list[Path] | None = None,
) -> dict[str, Any]:
    """Map with a model that is loaded; see `map_scenes`.

    Args:
        model: read and built.
        scenes: of the only or the first date, one mosaic.
        out: a folder for the map alone.
        options: fields of `mapping.Options` that are set.
        resume: go on with an unfinished map.
        after: scenes of the second date, for a model of change.
    """
    mapped = prepare(model, options, after)
    return map_scene(
        mapped.predictor,
        scenes,
        out,
        mapped.facts,
        mapped.options,
        model.pipeline.colors,
        resume,
        after,
    )


@dataclass(frozen=True)
class PreparedModel:
    """A loaded model as `mapping` takes it.

    Attributes:
        predictor: the model.
        facts: what identifies it.
        options: of the map; the model's own where nothing else is asked for.
    """

    predictor: Predictor | Detector
    facts: dict[str, Any]
    options: Options


def prepare(
    model: tasks.LoadedModel, options: dict[str, Any], after: list[Path] | None
) -> PreparedModel:
    """Return a loaded model as `mapping` takes it.

    Args:
        model: read and built.
        options: fields of `mapping.Options` that are set.
        after: scenes of the second date, for a model of change.

    Raises:
        UserError: a model of change without a second date, or another with one.
    """
    files, config = model.files, model.config
    _refuse_dates(config, files.path, after)
    own: dict[str, Any] = {
        "bands": config.data.bands,
        "stretch": config.data.stretch,
        "batch_size": config.data.batch_size,
    }
    if config.task != "scene_classification":
        own |= {"overlap": config.window.overlap, "batch_size": config.window.batch_size}
    asked = Options(**own | options)
    if files.gsd is None and asked.gsd is None:
        warn(
            "the GSD of the model's training is unknown, so the scene is mapped at its own: set "
            "--gsd"
        )
    facts: dict[str, Any] = {
        "path": str(files.path.resolve()),
        "sha256": files.graph.sha256 if files.graph else digest([files.path]),
        "backbone": files.backbone_fingerprint,
        "engine": files.graph.engine if files.graph else "torch",
        "precision": files.graph.precision if files.graph else config.training.precision,
    }
    predictor: Predictor | Detector
    if config.task == "object_detection":
        facts["max_detections"] = config.max_detections
        predictor = TaskDetector(model.task, config, files)
    else:
        predictor = TaskPredictor(model.task, config, files.gsd)
    return PreparedModel(predictor, facts, asked)


def _refuse_dates(config: Config, run: Path, after: list[Path] | None) -> None:
    if config.task == "change_detection" and after is None:
        raise UserError(f"{run} detects change between two dates: name --before and --after")
    if config.task != "change_detection" and after is not None:
        raise UserError(f"{run} sees one date, not two: name its scene without --before, --after")
