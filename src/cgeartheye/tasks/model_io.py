"""The model that a training leaves: `model.safetensors` and `model.json`.

They hold what the backbone's own weights file does not: the decoder, LoRA's matrices or the tuned
backbone, and the classes, normalisation and sizes that `test`, `predict` and mapping need.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from cgeartheye.config import Config
from cgeartheye.inference.engines import Engine
from cgeartheye.metrics.resampling import Outcomes
from cgeartheye.models.backbone import BackboneBundle, weights_file
from cgeartheye.models.backbone.checkpoint_io import (
    WeightsMetadata,
    check_fit,
    read_tensors,
    save_tensors,
)
from cgeartheye.models.backbone.lora import SCALE
from cgeartheye.tasks.exports import FACTS, WEIGHTS, Export, read_export
from cgeartheye.training import distributed
from cgeartheye.training.checkpoint import all_tensors, tuned_tensors
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest, write_json
from cgeartheye.utils.state import json_object

FORMAT = 1


@dataclass(frozen=True)
class Model:
    """A trained model as it is read from its files.

    Attributes:
        path: of the weights.
        config: that it was trained with; its backbone is built with it.
        classes: names by index.
        tensors: by name in the task.
        backbone_fingerprint: of the weights beneath, or none if they are among the tensors.
        began_with: fingerprint of the weights that the training began with.
        gsd: m/px of what the network saw in training, if known.
        max_object_size: diagonal of the largest object, in pixels of that; of detectors only.
        score_threshold: at which a detector's boxes agreed best with the truth, 0..1, if tested.
        export: metadata of an exported folder; none: this is a run.
    """

    path: Path
    config: Config
    classes: tuple[str, ...]
    tensors: dict[str, Tensor]
    backbone_fingerprint: str | None
    began_with: str | None
    gsd: float | None
    max_object_size: float | None
    score_threshold: float | None
    export: Export | None = None

    @property
    def graph(self) -> Export | None:
        """The graph that an engine computes; none: the tensors do it all."""
        return None if self.export is None or self.export.engine == "torch" else self.export


@dataclass(frozen=True)
class TestResult:
    """Result of a test.

    Attributes:
        figures: in percent.
        report: writes `report.html`, and everything else that the first process writes.
        facts: what the test measured, for `model.json`.
        part: of the data that was tested.
        verdict: sentences on what was not learned; none where nothing stands out.
        outcomes: of each tested image, see `tasks.outcomes`; none where a figure is no sum of them.
    """

    figures: dict[str, float]
    report: Callable[[Path], None]
    facts: dict[str, float] = field(default_factory=dict)
    part: str = ""
    verdict: list[str] = field(default_factory=list)
    outcomes: Outcomes | None = None


def device_of(task: nn.Module) -> torch.device:
    """Return where a task computes."""
    engine: Engine | None = getattr(task, "engine", None)
    return engine.device if engine else next(task.parameters()).device


def is_self_contained(config: Config) -> bool:
    """Return whether the model's file must hold the whole backbone.

    It need not where a file of the user's does. The weights that ship with the package move and
    change with it, which no trained model must notice.
    """
    return not isinstance(config.backbone.weights, Path) or config.backbone.tuning == "full"


def input_side(config: Config) -> int:
    """Return how many pixels a side the backbone sees."""
    if config.task == "change_detection" and config.decoder.kind == "ban":
        return config.decoder.backbone_size
    return config.data.image_size


def write_metadata(
    folder: Path,
    config: Config,
    classes: tuple[str, ...],
    built: BackboneBundle,
    gsd: float | None,
    data_facts: Mapping[str, float | None],
) -> None:
    """Write `model.json`; only the first process does.

    Args:
        folder: of the run.
        config: resolved.
        classes: names by index.
        built: the backbone, of which the fingerprint is kept.
        gsd: m/px of what the network sees, if known.
        data_facts: what mapping needs of the data, by name.
    """
    if not distributed.is_main():
        return
    whole, source = is_self_contained(config), config.backbone.weights
    backbone = config.backbone.model_copy(
        update={
            "weights": source.resolve() if isinstance(source, Path) and not whole else "random",
            "normalization": built.normalization,
            "gsd": built.gsd,
            "registers": built.registers,
        }
    )
    facts = {
        "format": FORMAT,
        "classes": classes,
        "gsd": gsd,
        **data_facts,
        "backbone_fingerprint": None if whole else built.fingerprint,
        "began_with": built.fingerprint,
        "config": config.model_copy(update={"backbone": backbone}).model_dump(mode="json"),
    }
    write_json(folder / FACTS, facts)


def refuse_other_weights(folder: Path, config: Config, built: BackboneBundle) -> None:
    """Make sure that a run which is resumed goes on with the backbone that it began with.

    What is tuned fully is in the checkpoint, so its beginning does not matter any more.

    Args:
        folder: of the run, with its `model.json`.
        config: to resume with.
        built: the backbone of that config.

    Raises:
        UserError: the weights are others now.
    """
    path = folder / FACTS
    if config.backbone.tuning == "full" or not path.exists():
        return
    began_with = _read_facts(path).get("began_with", built.fingerprint)
    if began_with != built.fingerprint:
        raise UserError(
            f"{folder} began with other backbone weights than it would go on with "
            f"({weights_file(config.backbone) or 'random'}): name those with "
            "--set backbone.weights=FILE, or train anew with another --work-dir"
        )


def update_metadata(folder: Path, facts: Mapping[str, object]) -> None:
    """Add a test's results to `model.json`; the first process only."""
    if facts and distributed.is_main():
        path = folder / FACTS
        write_json(path, _read_facts(path) | dict(facts))


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        return json_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it, and train with --resume to have it written "
            "again"
        ) from error


def write_weights(folder: Path, model: nn.Module, config: Config, built: BackboneBundle) -> None:
    """Write `model.safetensors`; every process must call it.

    Where it holds the whole backbone it has its metadata too, so that it can be another's weights.

    Args:
        folder: of the run.
        model: the task; its tuned tensors are written, or all.
        config: resolved.
        built: the backbone, whose metadata go along with its weights.
    """
    metadata = {}
    whole = is_self_contained(config)
    tensors = all_tensors(model) if whole else tuned_tensors(model)
    if not whole:  # the running statistics of a frozen backbone are no parameters that are frozen
        tensors = {name: tensor for name, tensor in tensors.items() if _is_above(name)}
    if whole:
        normal = built.normalization
        facts = WeightsMetadata(normal.mean, normal.std, built.gsd, input_side(config))
        metadata = facts.to_metadata()
        if config.backbone.tuning == "lora":
            lora = config.backbone.lora
            metadata[SCALE] = repr(lora.alpha / lora.rank)
    failure = None
    if distributed.is_main():
        try:
            save_tensors(folder / WEIGHTS, tensors, metadata | {"format": str(FORMAT)})
        except UserError as error:
            failure = error
    distributed.raise_from_rank0(failure)


def _is_above(name: str) -> bool:
    """Return whether a tensor is none of the backbone's own."""
    return not name.startswith("backbone.") or name.endswith((".lora_a", ".lora_b"))


def read_model(path: Path) -> Model:
    """Read a run directory or its `model.safetensors`, or an exported folder.

    Raises:
        UserError: a file is missing or is not ours.
    """
    weights = path / WEIGHTS if path.is_dir() else path
    facts_path = weights.parent / FACTS
    if path.suffix in {".py", ".yaml", ".yml"}:
        raise UserError(
            f"{path} is a config, not a trained model: name its run directory (work_dir, else "
            f"runs/{path.stem}) or the model.safetensors in it"
        )
    facts: dict[str, Any] = {}
    try:
        if facts_path.is_file():
            facts = json_object(facts_path.read_bytes())
        export = read_export(facts, weights.parent)
        if export:
            weights = export.folder / export.files[0]
        for needed in (weights, facts_path):
            if not needed.is_file():
                raise UserError(f"no trained model in {path}: {needed} is missing")
        config: Config = TypeAdapter(Config).validate_python(_of_today(facts["config"]))
        classes = tuple(facts["classes"])
        fingerprint, gsd = facts["backbone_fingerprint"], facts["gsd"]
        largest, score = facts.get("largest"), facts.get("score")
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{facts_path} is not the description of a model: {' '.join(str(error).split())[:200]}"
        ) from error
    is_graph = export is not None and export.engine != "torch"
    tensors = {} if is_graph else read_tensors(weights)[0]
    began = facts.get("began_with")
    return Model(weights, config, classes, tensors, fingerprint, began, gsd, largest, score, export)


def _of_today(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a model, of an earlier release too."""
    if config["task"] != "semantic_segmentation":
        return config
    # The light heads of before saw no pixels, and do not say so.
    return {**config, "decoder": {"pixels": False, **config["decoder"]}}


def load_into(task: nn.Module, model: Model, built: BackboneBundle, side: int) -> BackboneBundle:
    """Put a model's tensors into a task; every tensor must find its place.

    Args:
        task: is changed in place.
        model: read from its files.
        built: the task's backbone.
        side: pixels a side that it sees.

    Returns:
        The backbone with the fingerprint of the weights that it has now, by which its features are
        cached.

    Raises:
        UserError: tensors that are missing, left over or of another shape; or backbone weights
            other than those the model was trained on.
    """
    if model.backbone_fingerprint and model.backbone_fingerprint != built.fingerprint:
        raise UserError(
            f"{model.path} was trained on other backbone weights than those in "
            f"{model.config.backbone.weights}: name the right file with --set backbone.weights=FILE"
        )
    expected = task.state_dict()
    if model.backbone_fingerprint:
        expected = {name: tensor for name, tensor in expected.items() if _is_above(name)}
    check_fit(expected, model.tensors, model.path)
    task.load_state_dict(model.tensors, strict=False)
    if model.config.backbone.tuning == "frozen":
        if model.backbone_fingerprint:
            return built
        # Position embeddings that were resampled are not those of the weights at another size.
        if model.began_with and side == input_side(model.config):
            return replace(built, fingerprint=model.began_with)
    return replace(built, fingerprint=digest([model.path]))
