"""What the commands do with a model of any task: train, test, predict, check."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cgeartheye.config import Config, Jlssd, Normalization, Pretraining
from cgeartheye.config.loader import Overrides, override
from cgeartheye.data.checks import findings
from cgeartheye.models import backbone
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.models.backbone.checkpoint_io import check_fit, read_tensors, read_weights_metadata
from cgeartheye.reports.scene import summary_table
from cgeartheye.tasks import model_io
from cgeartheye.tasks.inputs import Input
from cgeartheye.tasks.registry import TaskPipeline, pipeline_for
from cgeartheye.tasks.scene import writer
from cgeartheye.training import distributed
from cgeartheye.training.run_dir import Run
from cgeartheye.training.trainer import Trainer
from cgeartheye.utils.console import bar, log_info, show
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_text


def refuse_other_kinds(config: Config | Pretraining | Jlssd, source: str) -> Config:
    """Return a config of a task as it is.

    Args:
        config: of any kind.
        source: where it comes from, for the message.

    Raises:
        UserError: it is of no task.
    """
    if config.task == "pretraining":
        raise UserError(f"{source} is the config of a pre-training: cgeartheye pretrain {source}")
    if config.task == "jlssd":
        raise UserError(f"{source} is the config of a data set: cgeartheye jlssd build {source}")
    return config


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
        if checkpoint is None and resume and run.last.exists():
            checkpoint = run.last
        _train(config, run, device, checkpoint)
        return test(config, run.folder)


def _train(config: Config, run: Run, device: torch.device, checkpoint: Path | None) -> None:
    """Train, and let go of the model."""
    pipeline = pipeline_for(config)
    classes = pipeline.classes
    task, built = build(config, classes, device)
    _log_notes(built)
    if checkpoint:
        model_io.refuse_other_weights(run.folder, config, built)
    data = pipeline.data(task, built)
    gsd = pipeline.gsd() or built.gsd
    model_io.write_metadata(run.folder, config, classes, built, gsd, pipeline.facts())
    trainer = Trainer(
        task,
        task.backbone.blocks,
        data,
        config.training,
        run,
        export=lambda model: model_io.write_weights(run.folder, model, config, built),
        resume=checkpoint,
    )
    trainer.train()


def build(
    config: Config, classes: tuple[str, ...], device: torch.device, tta: bool = False
) -> tuple[Any, BackboneBundle]:
    """Build a task with a new decoder, on the device."""
    # Every process draws the same random weights.
    torch.manual_seed(config.training.seed)
    built = backbone.build(config.backbone, model_io.input_side(config))
    return pipeline_for(config).task(built, classes, tta).to(device), built


def _log_notes(built: BackboneBundle) -> None:
    for note in built.notes:
        log_info(f"note: {note}")


def load(
    config: Config, path: Path, device: torch.device, tta: bool = False
) -> tuple[Any, BackboneBundle]:
    """Load a trained model.

    Args:
        config: where the file is a published checkpoint, it says what the backbone is; where a
            model of ours lies elsewhere than its backbone's weights, it names them.
        path: a run directory, its `model.safetensors`, or a published `.pth` with the decoder
            beside the backbone.
        device: where to.
        tta: average over changed views of an image.

    Raises:
        UserError: files are missing or do not fit.
    """
    if path.suffix not in {".pth", ".pt"}:
        model = model_io.read_model(path)
        if model.config.task != config.task:
            raise UserError(
                f"{path} is a model of {model.config.task}, the config of {config.task}: name a "
                "config and a model of the same task"
            )
        # The data and the windows may be others than those of the training.
        changed: dict[str, object] = {"data": config.data}
        if config.task != "scene_classification":
            changed["window"] = config.window
        if config.task == "object_detection":
            assert model.config.task == "object_detection"
            boxes = model.config.data.boxes
            if config.data.boxes != boxes:
                raise UserError(
                    f"{path} finds {boxes} boxes, the config has {config.data.boxes} ones: set "
                    f"data.boxes={boxes}, or name another model"
                )
            changed["max_detections"] = config.max_detections
        weights = config.backbone.weights
        if model.backbone_fingerprint and isinstance(weights, Path) and weights.exists():
            changed["backbone"] = model.config.backbone.model_copy(update={"weights": weights})
        task, built = build(model.config.model_copy(update=changed), model.classes, device, tta)
        model_io.load_into(task, model, built)
        return task, built
    tensors, _, _ = read_tensors(path)
    pipeline: TaskPipeline = pipeline_for(config)
    decoder = pipeline.published_decoder(path, tensors, len(pipeline.classes))
    own = config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"weights": path})}
    )
    task, built = build(own, pipeline.classes, device, tta)
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
) -> dict[str, float]:
    """Test a model on the test part; write `test.json` and `report.html`.

    Args:
        config: the run.
        checkpoint: a run directory, its `model.safetensors` or a published `.pth`; none: the
            config's run directory.
        out: every prediction: a table of classes, or a folder of masks.
        show_dir: a folder for pictures of every prediction.
        tta: average over changed views of an image.

    Returns:
        The figures, in every process.
    """
    folder = config.work_dir
    assert folder is not None
    pipeline = pipeline_for(config)
    if out:
        pipeline.check_out(out, tested=True)
    with distributed.process_group(config.training.device) as device:
        task, built = load(config, checkpoint or folder, device, tta)
        if pipeline.classes != task.classes:
            raise UserError(
                f"the model knows other classes than {config.data.root}, or in another order: "
                f"{', '.join(task.classes)[:200]}; set data.classes to these"
            )
        tested = pipeline.test(task, built, out, show_dir)
        if distributed.is_main():
            show(summary_table(tested.figures))
            write_text(folder / "test.json", json.dumps(tested.figures, indent=1))
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
        config: that it was built with.
        task: on its device.
    """

    files: model_io.Model
    config: Config
    task: Any

    def predict(self, inputs: Sequence[Input]) -> Iterator[Any]:
        """Yield predictions; see `registry.Recipe.predict`."""
        return pipeline_for(self.config).predict(self.task, inputs)

    def write(self, inputs: Sequence[Input], predictions: Sequence[Any], out: Path) -> str:
        """Write predictions; see `registry.Recipe.write`."""
        pipeline = pipeline_for(self.config)
        pipeline.check_out(out, tested=False)
        return pipeline.write(self.task.classes, inputs, predictions, out)


def load_model(
    run: Path, overrides: Overrides, device: torch.device, tta: bool = False
) -> LoadedModel:
    """Load a trained model.

    Args:
        run: a run directory or its `model.safetensors`.
        overrides: of the model's config; see `config.load`.
        device: where to.
        tta: average over changed views of an image.

    Raises:
        UserError: see `load`.
    """
    files = model_io.read_model(run)
    config = override(files.config, overrides)
    task, _ = load(config, run, device, tta)
    return LoadedModel(files, config, task.eval())


def predict(run: Path, inputs: list[Path], out: Path, overrides: list[str]) -> None:
    """Predict images: a table of classes, or a folder of masks.

    Args:
        run: a run directory or its `model.safetensors`.
        inputs: images, or folders of images; of two dates, those of one and of the other.
        out: the table or the folder.
        overrides: `field=value` for the model's config, e.g. another `data.batch_size`.

    Raises:
        UserError: no images, an unreadable image, a model that is not there.
    """
    if out.suffix:
        writer.check_ending(out, writer.ENDINGS)
    config = override(model_io.read_model(run).config, overrides)
    pipeline = pipeline_for(config)
    found = pipeline.find(inputs)
    pipeline.check_out(out, tested=False)
    with distributed.process_group(config.training.device) as device:
        task, _ = load(config, run, device)
        log_info(pipeline.write(task.classes, found, pipeline.predict(task, found), out))
    log_info(f"predictions: {out}")


def check(config: Config) -> bool:
    """Examine a config's data; print what was found and write `check.json` and a contact sheet.

    Returns:
        Whether nothing is wrong.
    """
    assert config.work_dir is not None
    normalization = config.backbone.normalization
    path = backbone.weights_file(config.backbone)
    if normalization is None and path:
        facts = read_weights_metadata(path)
        if facts.mean and facts.std:
            normalization = Normalization(mean=facts.mean, std=facts.std)
    with bar("examining", 1, "images") as progress:
        result = pipeline_for(config).check(normalization or Normalization(), progress.reach)
    for part in findings.render(result).renderables:
        show(part, soft_wrap=True)
    findings.write(result, config.work_dir / "check")
    log_info(f"contact sheet and every example: {config.work_dir / 'check'}")
    return result.ok
