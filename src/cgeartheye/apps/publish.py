"""Publishing: a trained run becomes an application that needs no other file."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cgeartheye.apps.card import THUMBNAIL, Card, id_of, is_id, write_card
from cgeartheye.apps.registry import FACTS, WEIGHTS, Registry
from cgeartheye.boxes import Detections
from cgeartheye.commands.tasks import LoadedModel, restore
from cgeartheye.data.datasets.segmentation import MaskedChips
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.reports.draw_boxes import draw_found
from cgeartheye.tasks import model_io
from cgeartheye.tasks.inputs import load_image
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.utils.colors import RGB, change_colors, distinct_colors
from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest, write_image, write_json
from cgeartheye.utils.stac import now
from cgeartheye.utils.state import json_object

_SIDE = 320  # pixels of a thumbnail
_OPACITY = 0.55  # of the classes over its image
_SHOWN = 0.3  # least score of an object in it, where the test found no better


def publish(
    run: Path,
    title: str,
    description: str = "",
    license: str = "other",
    name: str | None = None,
    registry: Path | None = None,
    images: Sequence[Path] = (),
    replace: bool = False,
) -> Card:
    """Publish a trained run, or an exported model, as an application.

    What is published needs no other file, and no path of this machine is in it.

    Args:
        run: a run directory, or an exported folder.
        title: for people.
        description: what it finds, where it works and where it does not.
        license: SPDX identifier.
        name: its id; none: made of the title.
        registry: the folder; none: the user's own.
        images: that the thumbnail is made of, one of each date; none: the first that a test sees,
            if it is still there.
        replace: an application of the same id.

    Raises:
        UserError: no model, an id that is taken or no id, or the registry cannot be written.
    """
    identifier = id_of(title) if name is None else name
    if not is_id(identifier):
        raise UserError(f"--id '{identifier}' is no id: use lower case letters, digits and hyphens")
    files = model_io.read_model(run)
    pipeline = pipeline_for(files.config)
    task, built = restore(files.config, files, torch.device("cpu"))
    model = LoadedModel(files, pipeline, task.eval())
    test = _test_figures(files.path.parent)
    part, comma, choice = pipeline.tested_part.partition(", ")
    count = len(files.classes)
    change = files.config.task == "change_detection"
    colors = pipeline.colors or (change_colors(count) if change else distinct_colors(count))
    with Registry(registry).adding(identifier, replace) as folder:
        names = _write_model(folder, model, built)
        weights = [folder / name for name in names]
        fingerprint = digest(weights)
        card = Card(
            id=identifier,
            title=title,
            description=description,
            license=license,
            version=fingerprint[:12],
            created=now(),
            task=files.config.task,
            classes=files.classes,
            colors=tuple(colors),
            dates=2 if change else 1,
            gsd=files.gsd,
            bands=files.config.data.bands,
            stretch=files.config.data.stretch,
            window=files.config.data.image_size,
            mean=built.normalization.mean,
            std=built.normalization.std,
            backbone=f"{files.config.backbone.name}, {files.config.backbone.tuning}",
            parameters=sum(parameter.numel() for parameter in task.parameters()),
            weights_bytes=sum(path.stat().st_size for path in weights),
            sha256=fingerprint,
            files=names,
            engine=files.export.engine if files.export else "torch",
            precision=files.export.precision if files.export else files.config.training.precision,
            figures=test,
            measured_on=f"{part} of {files.config.data.root.name}{comma}{choice}" if test else None,
        )
        write_card(card, folder)
        _write_thumbnail(folder / THUMBNAIL, model, images, colors)
    if not test:
        warn(f"{run} was not tested, so the card of '{identifier}' has no figures: run test first")
    return card


def _test_figures(run: Path) -> dict[str, float | None]:
    try:
        return json_object((run / "test.json").read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{run / 'test.json'} is damaged ({error}): test the run again") from error


def _write_model(folder: Path, model: LoadedModel, built: BackboneBundle) -> tuple[str, ...]:
    """Write weights with the backbone among them, and a description without paths.

    Returns:
        The names of the files with the weights; those of an exported model are copied.
    """
    config, export = model.files.config, model.files.export
    own = config.model_copy(
        update={
            "backbone": config.backbone.model_copy(update={"weights": "random"}),
            "work_dir": None,
        }
    )
    if export:
        for name in export.files:
            shutil.copyfile(export.folder / name, folder / name)
    else:
        model_io.write_weights(folder, model.task, own, built)
    facts = json_object((model.files.path.parent / FACTS).read_bytes())
    facts |= {"backbone_fingerprint": None, "config": own.model_dump(mode="json")}
    write_json(folder / FACTS, _without_paths(facts))
    return export.files if export else (WEIGHTS,)


def _without_paths(value: Any) -> Any:
    """Leave the last name of every absolute path."""
    if isinstance(value, Mapping):
        return {name: _without_paths(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(inner) for inner in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def _write_thumbnail(
    path: Path, model: LoadedModel, images: Sequence[Path], colors: tuple[RGB, ...] | list[RGB]
) -> None:
    """Draw a prediction; without an image there is none, and nobody misses it."""
    data = model.config.data
    try:
        inputs = model.pipeline.find(list(images) or _test_images(model))[:1]
        picture = load_image(inputs[0].images[-1], data.bands, data.stretch).permute(1, 2, 0)
        (found,) = model.predict(inputs)
    except UserError as error:
        if images:
            raise
        warn(f"the application has no thumbnail, for its test images cannot be read ({error})")
        return
    drawn = _draw(picture.numpy(), found, model, colors)
    thumbnail = Image.fromarray(drawn)
    thumbnail.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    write_image(path, thumbnail, quality=88)


def _test_images(model: LoadedModel) -> list[Path]:
    """Return the image, or the images of two dates, that a test sees first."""
    parts = model.pipeline.parts
    chips = getattr(parts, "test", None) or parts.val
    if isinstance(chips, MaskedChips):
        return list(chips.image_paths[0])
    return [chips.paths[0]]


def _draw(
    picture: np.ndarray, found: Any, model: LoadedModel, colors: tuple[RGB, ...] | list[RGB]
) -> np.ndarray:
    """Draw objects, or classes over the image; one class for all of it is not drawn."""
    if isinstance(found, Detections):
        least = model.files.score_threshold or _SHOWN
        return draw_found(picture, found[found.scores >= least], model.task.classes)
    classes = np.asarray(found)
    if classes.ndim != 2:
        return picture
    over = np.asarray(colors, np.float32)[classes.clip(max=len(colors) - 1)]
    blended = (1 - _OPACITY) * picture + _OPACITY * over
    shown = classes[..., None] > 0 if model.task.classes[0] == "background" else True
    return np.where(shown, blended, picture).astype(np.uint8)
