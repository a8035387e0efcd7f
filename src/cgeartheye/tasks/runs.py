"""What the commands do with a scene classifier: train, test, predict, check."""

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import cgeartheye
from cgeartheye import backbone
from cgeartheye.backbone import Built
from cgeartheye.backbone.weights import read_tensors
from cgeartheye.config import SceneClassification, to_yaml
from cgeartheye.data import check as doctor
from cgeartheye.data.scenes import load_parts
from cgeartheye.errors import UserError
from cgeartheye.evaluation.metrics import ClassificationMetrics
from cgeartheye.tasks import base
from cgeartheye.tasks.inputs import scene_source
from cgeartheye.tasks.scene import ScenePrediction, SceneTask
from cgeartheye.training import distributed
from cgeartheye.training.loop import Data, Trainer, evaluate
from cgeartheye.training.progress import console, say
from cgeartheye.training.run import Run, read_history
from cgeartheye.training.sources import Batch


@dataclass(frozen=True)
class Predictions:
    """Predictions for a whole data set, in its order.

    Attributes:
        probabilities: float32 `[N, classes]`.
        features: class tokens float32 `[N, C]`.
    """

    probabilities: np.ndarray
    features: np.ndarray


def train(config: SceneClassification, resume: bool = False, checkpoint: Path | None = None) -> None:
    """Train a classifier, then test the best model; see `Trainer` for what may go wrong.

    Args:
        config: the run.
        resume: go on with the run directory's last checkpoint, if there is one.
        checkpoint: go on with this one instead.
    """
    with distributed.process_group(config.training.device) as device:
        run = Run(config, resume or checkpoint is not None)
        parts = load_parts(config.data)
        task, built = build(config, parts.classes, device)
        data = Data(
            train=scene_source(config, built, task, parts.train),
            train_batch=config.data.batch_size,
            val=scene_source(config, built, task, parts.val),
            val_batch=config.data.batch_size,
        )
        base.write_facts(run.folder, config, parts.classes, built)
        if checkpoint is None and resume and run.last.exists():
            checkpoint = run.last
        trainer = Trainer(
            task,
            task.backbone.blocks,
            data,
            config.training,
            run,
            export=lambda model: base.write_weights(run.folder, model, config),
            resume=checkpoint,
        )
        trainer.train()
        del trainer, task, built, data
        test(config, run.folder)


def build(
    config: SceneClassification, classes: tuple[str, ...], device: torch.device, tta: bool = False
) -> tuple[SceneTask, Built]:
    """Build a classifier with a new decoder, on the device."""
    # Every process draws the same random weights.
    torch.manual_seed(config.training.seed)
    built = backbone.build(config.backbone, config.data.image_size)
    for note in built.notes:
        say(f"note: {note}")
    task = SceneTask(built.module, built.normalisation, classes, config, tta)
    return task.to(device), built


def load(
    config: SceneClassification, path: Path, device: torch.device, tta: bool = False
) -> tuple[SceneTask, Built]:
    """Load a trained classifier.

    Args:
        config: where the file is a published checkpoint, it says what the backbone is; where a
            model of ours lies elsewhere than its backbone's weights, it names them.
        path: a run directory, its `model.safetensors`, or a published `.pth` with the classifier
            `head.fc` beside the backbone.
        device: where to.
        tta: average over mirror images.

    Raises:
        UserError: files are missing or do not fit.
    """
    if path.suffix not in {".pth", ".pt"}:
        model = base.read_model(path)
        trained = model.config.model_copy(update={"data": config.data})
        weights = config.backbone.weights
        if model.backbone_fingerprint and weights and weights.exists():
            trained = trained.model_copy(
                update={"backbone": trained.backbone.model_copy(update={"weights": weights})}
            )
        task, built = build(trained, model.classes, device, tta)
        base.load_into(task, model, built)
        return task, built
    tensors, _, _ = read_tensors(path)
    head = {name: tensors.get(f"head.fc.{name}") for name in ("weight", "bias")}
    if head["weight"] is None or head["bias"] is None:
        raise UserError(
            f"{path} holds no classifier (head.fc.weight, head.fc.bias): name a run directory, "
            "or train with backbone.weights set to this file"
        )
    classes = load_parts(config.data).classes
    if head["weight"].shape[0] != len(classes):
        raise UserError(
            f"{path} knows {head['weight'].shape[0]} classes, the data in {config.data.root} have "
            f"{len(classes)}: test it on the data that it was trained on"
        )
    own = config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"weights": path})}
    )
    task, built = build(own, classes, device, tta)
    task.decoder.load_state_dict(head)
    return task, built


def test(
    config: SceneClassification,
    checkpoint: Path | None = None,
    out: Path | None = None,
    show_dir: Path | None = None,
    tta: bool = False,
) -> dict[str, float]:
    """Test a classifier on the test part; write `test.json` and `report.html`.

    Returns:
        The figures, in every process.
    """
    started = time.monotonic()
    folder = config.work_dir
    assert folder is not None
    with distributed.process_group(config.training.device) as device:
        task, built = load(config, checkpoint or folder, device, tta)
        chips = load_parts(config.data).test
        if chips.classes != task.classes:
            raise UserError(
                f"the classes of {config.data.root} are not those of the model: "
                f"{_difference(chips.classes, task.classes)}; name data.classes in its order"
            )
        ...
