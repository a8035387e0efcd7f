"""Commands on a model of any task: train, test, predict, check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cgeartheye.commands.engines import choose_engine
from cgeartheye.config import Config
from cgeartheye.config.loader import Overrides, override
from cgeartheye.models import backbone
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.models.backbone.checkpoint_io import check_fit, read_tensors
from cgeartheye.reports.scene import summary_table
from cgeartheye.tasks import model_io
from cgeartheye.tasks.broken_files import refuse_broken
from cgeartheye.tasks.data_identity import keep_identity
from cgeartheye.tasks.exports import is_exported
from cgeartheye.tasks.inputs import Input
from cgeartheye.tasks.outcomes import write_outcomes
from cgeartheye.tasks.pipeline import TaskPipeline
from cgeartheye.tasks.registry import build_task, pipeline_for
from cgeartheye.tasks.scene import writer
from cgeartheye.training import distributed
from cgeartheye.training.checkpoint import latest
from cgeartheye.training.run_dir import Run
from cgeartheye.training.trainer import Trainer
from cgeartheye.utils.console import log_info, show, warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_json


def train(config: Config, resume: bool = False, checkpoint: Path | None = None) -> dict[str, float]:
    """Train a model, then test the best one; see `Trainer` for what may go wrong.

    Args:
        config: the run.
        resume: go on with the run directory's last checkpoint, if there is one.
        checkpoint: go on with this one instead.

    Returns:
        The figures of the test, in every process.
    """
    resume = resume or checkpoint is not None
    with distributed.process_group(config.training.device) as device, Run(config, resume) as run:
        if checkpoint is None and resume:
            checkpoint = latest(run.checkpoints)
        pipeline = pipeline_for(config)
        _train(pipeline, run, device, checkpoint)
        return _test(pipeline, device)


def _train(pipeline: TaskPipeline, run: Run, device: torch.device, checkpoint: Path | None) -> None:
    """Train, and let go of the model."""
    config, classes = pipeline.config, pipeline.classes
    task, built = build(config, classes, device)
    _log_notes(built)
    if checkpoint is None:
        refuse_broken(pipeline.parts)
    else:
        model_io.refuse_other_weights(run.folder, config, built)
    keep_identity(run.folder, pipeline.parts, resume=checkpoint is not None)
    data = pipeline.data(task, built)
    if assumed := pipeline.assumed_gsd(built):
        warn(assumed)
    gsd = pipeline.gsd() or built.gsd
    trainer = Trainer(
        task,
        task.backbone.blocks,
        data,
        config.training,
        run,
        export=lambda model: model_io.write_weights(run.folder, model, config, built),
        resume=checkpoint,
    )
    # Not of a training that is refused: the weights that are there have the old description.
    model_io.write_metadata(run.folder, config, classes, built, gsd, pipeline.facts())
    trainer.train()


def build(
    config: Config, classes: tuple[str, ...], device: torch.device, tta: bool = False
) -> tuple[Any, BackboneBundle]:
    """Build a task with a new decoder.

    Args:
        config: of the run.
        classes: names by index.
        device: where to.
        tta: average predictions over changed views of an image.

    Raises:
        UserError: weights, or a decoder, that do not fit.
    """
    # Every process draws the same random weights.
    own = config.backbone.seed
    torch.manual_seed(config.training.seed if own is None else own)
    built = backbone.build(config.backbone, model_io.input_side(config))
    if own is not None:
        torch.manual_seed(config.training.seed)
    return build_task(config, built, classes, tta).to(device), built


def _log_notes(built: BackboneBundle) -> None:
    for note in built.notes:
        log_info(f"backbone: {note}")


def load(
    pipeline: TaskPipeline, path: Path, device: torch.device, tta: bool = False
) -> tuple[Any, BackboneBundle]:
    """Load a trained model.

    Args:
        pipeline: its config names the backbone of a published checkpoint; where a model of
            ours is stored apart from its backbone's weights, it names them.
        path: a run directory, its `model.safetensors`, or a published `.pth` with the decoder
            beside the backbone.
        device: where to.
        tta: average over changed views of an image.

    Raises:
        UserError: files are missing or do not fit.
    """
    if path.suffix in {".pth", ".pt"}:
        return _load_published(pipeline, path, device, tta)
    return restore(pipeline.config, model_io.read_model(path), device, tta)


def restore(
    config: Config, model: model_io.Model, device: torch.device, tta: bool = False
) -> tuple[Any, BackboneBundle]:
    """Build a trained model from its files.

    Args:
        config: its data and windows may be others than those of the training.
        model: the files.
        device: where to.
        tta: average over changed views of an image.

    Raises:
        UserError: a model of another task, files that do not fit, or of an exported model a size
            or views that its graph does not have.
    """
    if model.config.task != config.task:
        raise UserError(
            f"{model.path} is a model of {model.config.task}, the config of {config.task}: name a "
            "config and a model of the same task"
        )
    changed: dict[str, object] = {"data": config.data}
    if config.task != "scene_classification":
        changed["window"] = config.window
    if config.task == "object_detection":
        assert model.config.task == "object_detection"
        boxes = model.config.data.boxes
        if config.data.boxes != boxes:
            raise UserError(
                f"{model.path} finds {boxes} boxes, the config has {config.data.boxes} ones: set "
                f"data.boxes={boxes}, or name another model"
            )
        changed["max_detections"] = config.max_detections
    weights = config.backbone.weights
    if model.backbone_fingerprint and isinstance(weights, Path) and weights.exists():
        changed["backbone"] = model.config.backbone.model_copy(update={"weights": weights})
    own = model.config.model_copy(update=changed)
    if model.graph:
        return _outline(own, model, tta)
    task, built = build(own, model.classes, device, tta)
    return task, model_io.load_into(task, model, built, model_io.input_side(own))


def _outline(config: Config, model: model_io.Model, tta: bool) -> tuple[Any, BackboneBundle]:
    """Build a task without weights, whose graph an engine computes."""
    assert model.graph
    side = model.config.data.image_size
    if config.data.image_size != side:
        raise UserError(
            f"{model.graph.folder} was exported for windows of {side} pixels, not of "
            f"{config.data.image_size}: leave data.image_size as it is, or export the run again"
        )
    if tta and config.task in ("semantic_segmentation", "change_detection"):
        raise UserError(
            f"{model.graph.folder} is an exported model, which sees windows at one scale: leave "
            "--tta out, or name its run"
        )
    built = backbone.build_outline(config.backbone, model_io.input_side(config))
    with torch.device("meta"):
        task = build_task(config, built, model.classes, tta)
    task.engine, task.cacheable = model.graph.open(), False
    return task.eval(), built


def _load_published(
    pipeline: TaskPipeline, path: Path, device: torch.device, tta: bool
) -> tuple[Any, BackboneBundle]:
    config, classes = pipeline.config, pipeline.classes
    tensors, _, _ = read_tensors(path)
    decoder = pipeline.published_decoder(path, tensors, len(classes))
    own = config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"weights": path})}
    )
    task, built = build(own, classes, device, tta)
    _log_notes(built)
    check_fit(task.decoder.state_dict(), decoder, path, "decoder of the config")
    task.decoder.load_state_dict(decoder)
    return task, built


def test(
    config: Config,
    checkpoint: Path | None = None,
    out: Path | None = None,
    show_dir: Path | None = None,
    tta: bool = False,
    engine: str | None = None,
    precision: str | None = None,
) -> dict[str, float]:
    """Test a model on the test part; write `test.json` and `report.html`.

    Args:
        config: the run.
        checkpoint: a run directory, its `model.safetensors` or a published `.pth`; none: the
            config's run directory.
        out: every prediction: a table of classes, or a folder of masks.
        show_dir: a folder for pictures of every prediction.
        tta: average over changed views of an image.
        engine: see `choose_engine`; an export has its report in its own folder.
        precision: see `choose_engine`.

    Returns:
        The figures, in every process.
    """
    if engine or precision:
        assert config.work_dir is not None
        checkpoint, overrides = choose_engine(checkpoint or config.work_dir, engine, precision)
        config = override(config, overrides)
    if checkpoint is not None and is_exported(checkpoint):
        config = config.model_copy(update={"work_dir": checkpoint})
    pipeline = pipeline_for(config)
    if out:
        pipeline.check_out(out, tested=True)
    with distributed.process_group(config.training.device) as device:
        return _test(pipeline, device, checkpoint, out, show_dir, tta)


def _test(
    pipeline: TaskPipeline,
    device: torch.device,
    checkpoint: Path | None = None,
    out: Path | None = None,
    show_dir: Path | None = None,
    tta: bool = False,
) -> dict[str, float]:
    config, folder = pipeline.config, pipeline.config.work_dir
    assert folder is not None
    task, built = load(pipeline, checkpoint or folder, device, tta)
    if pipeline.classes != task.classes:
        raise UserError(
            f"the model knows other classes than {config.data.root}, or in another order: "
            f"{', '.join(task.classes)[:200]}; set data.classes to these"
        )
    tested = pipeline.test(task, built, out, show_dir)
    if distributed.is_main():
        show(summary_table(tested.figures))
        log_info(f"measured on the {tested.part}")
        for sentence in tested.verdict:
            log_info(f"verdict: {sentence}")
        write_json(folder / "test.json", tested.figures)
        if tested.outcomes is not None:
            write_outcomes(folder, tested.outcomes)
        report = folder / "report.html"
        tested.report(report)
        log_info(f"report: {report}")
        if checkpoint in (None, folder):
            model_io.update_metadata(folder, tested.facts)
    distributed.barrier()
    return tested.figures


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready to predict.

    Attributes:
        files: what was read of it.
        pipeline: of its config.
        task: on its device.
    """

    files: model_io.Model
    pipeline: TaskPipeline
    task: Any

    @property
    def config(self) -> Config:
        """The config that it was built with."""
        return self.pipeline.config

    def predict(self, inputs: Sequence[Input]) -> Iterator[Any]:
        """Yield predictions; see `TaskPipeline.predict`."""
        return self.pipeline.predict(self.task, inputs)

    def write(self, inputs: Sequence[Input], predictions: Sequence[Any], out: Path) -> str:
        """Write predictions; see `TaskPipeline.write`.

        Args:
            inputs: images, in the order of the predictions.
            predictions: what `predict` returned for each.
            out: a file or folder, whose ending names the format.
        """
        self.pipeline.check_out(out, tested=False)
        return self.pipeline.write(self.task.classes, inputs, predictions, out)


def load_model(
    run: Path,
    overrides: Overrides,
    device: torch.device | None,
    tta: bool = False,
    engine: str | None = None,
    precision: str | None = None,
) -> LoadedModel:
    """Load a trained model.

    Args:
        run: a run directory or its `model.safetensors`, or an exported folder.
        overrides: of the model's config; see `config.load`.
        device: where to; none: to that of the config.
        tta: average over changed views of an image.
        engine: see `choose_engine`.
        precision: see `choose_engine`.

    Raises:
        UserError: see `load` and `choose_engine`.
    """
    run, chosen = choose_engine(run, engine, precision)
    files = model_io.read_model(run)
    pipeline = pipeline_for(override(override(files.config, chosen), overrides))
    device = device or distributed.local_device(pipeline.config.training.device)
    task, _ = restore(pipeline.config, files, device, tta)
    return LoadedModel(files, pipeline, task.eval())


def predict(
    run: Path,
    inputs: list[Path],
    out: Path,
    overrides: list[str],
    engine: str | None = None,
    precision: str | None = None,
    dem: str | None = None,
) -> None:
    """Predict images: a table of classes, or a folder of masks.

    Args:
        run: a run directory or its `model.safetensors`, or an exported folder.
        inputs: images, or folders of images; of two dates, those of one and of the other.
        out: the table or the folder.
        overrides: `field=value` for the model's config, e.g. another `data.batch_size`.
        engine: see `choose_engine`.
        precision: see `choose_engine`.
        dem: heights for GeoJSON of images with RPCs alone; see `read_georeference`.

    Raises:
        UserError: no images, an unreadable image, a model that is not there.
    """
    if dem is not None and out.suffix.lower() != ".geojson":
        raise UserError(f"--dem places what GeoJSON holds: name {out.with_suffix('.geojson')}")
    run, chosen = choose_engine(run, engine, precision)
    if out.suffix:
        writer.check_ending(out, writer.ENDINGS)
    files = model_io.read_model(run)
    pipeline = pipeline_for(override(files.config, [*chosen, *overrides]))
    found = pipeline.find(inputs)
    pipeline.check_out(out, tested=False)
    with distributed.process_group(pipeline.config.training.device) as device:
        task, _ = restore(pipeline.config, files, device)
        log_info(pipeline.write(task.classes, found, pipeline.predict(task, found), out, dem))
    log_info(f"predictions: {out}")
