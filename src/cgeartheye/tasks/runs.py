"""What the commands do with a scene classifier: train, test, predict, check."""

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from cgeartheye import backbone
from cgeartheye.backbone import Built
from cgeartheye.backbone.weights import read_tensors, read_weights
from cgeartheye.config import Normalisation, SceneClassification
from cgeartheye.config.files import override
from cgeartheye.data import SceneChips, load_parts
from cgeartheye.data import check as doctor
from cgeartheye.errors import UserError
from cgeartheye.evaluation.report import summary_table
from cgeartheye.files import write_text
from cgeartheye.tasks import base, tables
from cgeartheye.tasks.inputs import Images, find_images, scene_source
from cgeartheye.tasks.scene import ScenePrediction, SceneTask
from cgeartheye.tasks.scene_report import save_pictures, write_report
from cgeartheye.training import distributed
from cgeartheye.training.batches import test_order
from cgeartheye.training.loop import Data, Trainer, autocast, evaluate
from cgeartheye.training.progress import bar, console, say
from cgeartheye.training.run import Run
from cgeartheye.training.sources import Batch, FileSource, Source

Piece = tuple[np.ndarray, ...]


def train(
    config: SceneClassification, resume: bool = False, checkpoint: Path | None = None
) -> None:
    """Train a classifier, then test the best model; see `Trainer` for what may go wrong.

    Args:
        config: the run.
        resume: go on with the run directory's last checkpoint, if there is one.
        checkpoint: go on with this one instead.
    """
    resume = resume or checkpoint is not None
    with distributed.process_group(config.training.device) as device, Run(config, resume) as run:
        parts = load_parts(config.data)
        task, built = build(config, parts.classes, device)
        data = Data(
            train=scene_source(config, built, task, parts.train, config.cache.views),
            train_batch=config.data.batch_size,
            val=scene_source(config, built, task, parts.val, views=0),
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
    if out:
        tables.check_ending(out, (".csv", ".json"))
    with distributed.process_group(config.training.device) as device:
        task, built = load(config, checkpoint or folder, device, tta)
        chips = load_parts(config.data).test
        if chips.classes != task.classes:
            raise UserError(
                f"the model knows other classes than {config.data.root}, or in another order: "
                f"{', '.join(task.classes)[:200]}; set data.classes to these"
            )
        if tta:
            source: Source = FileSource(chips, config.data.workers, device)
        else:
            source = scene_source(config, built, task, chips, views=0)
        pieces: list[Piece] = []

        def keep(prediction: ScenePrediction, batch: Batch) -> None:
            tensors = batch["index"], prediction.probabilities, prediction.features.float()
            pieces.append(tuple(tensor.cpu().numpy() for tensor in tensors))

        metrics = evaluate(task, source, config.data.batch_size, config.training.precision, keep)
        figures: dict[str, float] = metrics.compute()
        everything = [piece for share in distributed.gather(pieces) for piece in share]
        if distributed.is_main():
            order = np.argsort(np.concatenate([piece[0] for piece in everything]))
            probabilities = np.concatenate([piece[1] for piece in everything])[order]
            features = np.concatenate([piece[2] for piece in everything])[order]
            console.print(summary_table(figures))
            write_text(folder / "test.json", json.dumps(figures, indent=1))
            if out:
                tables.write_rows(out, _rows(chips, probabilities), chips.classes)
            if show_dir:
                save_pictures(show_dir, chips, probabilities)
            report = folder / "report.html"
            write_report(report, config, task, chips, metrics, probabilities, features, started)
            say(f"report: {report}")
        distributed.barrier()
    return figures


def predict(run: Path, inputs: list[Path], out: Path, overrides: list[str]) -> None:
    """Classify images and write a table; see `tables.write_rows` for the formats.

    Args:
        run: a run directory or its `model.safetensors`.
        inputs: images, or folders of images.
        out: the table.
        overrides: `field=value` for the model's config, e.g. another `data.batch_size`.

    Raises:
        UserError: no images, an unreadable image, a model that is not there.
    """
    tables.check_ending(out, (".csv", ".json", ".geojson"))
    paths = find_images(inputs)
    config = override(base.read_model(run).config, overrides)
    with distributed.process_group(config.training.device) as device:
        task, _ = load(config, run, device)
        images = Images(paths, config.data)
        source = FileSource(images, config.data.workers, device)
        order = test_order(len(images), config.data.batch_size, 0, 1)
        rows = []
        task.eval()
        with bar("classifying", len(images), "images") as progress, torch.no_grad():
            for batch in source.load(order):
                with autocast(device, config.training.precision):
                    probabilities = task.predict(batch).probabilities.cpu().numpy()
                rows += [
                    tables.Row(paths[index], scores)
                    for index, scores in zip(batch["index"].tolist(), probabilities, strict=True)
                ]
                progress.advance(len(probabilities))
        tables.write_rows(out, rows, task.classes)
    counts = Counter(task.classes[int(row.probabilities.argmax())] for row in rows)
    say(f"{len(rows)} images: {', '.join(f'{n} {name}' for name, n in counts.most_common(8))}")
    say(f"predictions: {out}")


def check(config: SceneClassification) -> bool:
    """Examine a config's data; print what was found and write `check.json` and a contact sheet.

    Returns:
        Whether nothing is wrong.
    """
    assert config.work_dir is not None
    normalisation = config.backbone.normalisation
    if normalisation is None and config.backbone.weights:
        facts = read_weights(config.backbone.weights).facts
        if facts.mean and facts.std:
            normalisation = Normalisation(mean=facts.mean, std=facts.std)
    with bar("examining", 1, "images") as progress:
        result = doctor.check_scenes(config, normalisation or Normalisation(), progress.reach)
    for part in doctor.render(result).renderables:
        console.print(part, soft_wrap=True)
    doctor.write(result, config.work_dir / "check")
    say(f"contact sheet and every example: {config.work_dir / 'check'}")
    return result.ok


def _rows(chips: SceneChips, probabilities: np.ndarray) -> list[tables.Row]:
    return [
        tables.Row(Path(name), scores, chips.classes[label])
        for name, scores, label in zip(chips.names, probabilities, chips.labels, strict=True)
    ]
