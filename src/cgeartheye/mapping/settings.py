"""All that the bytes of a map depend on; and whether a folder holds that map already."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from cgeartheye.geo.pair import AnyScene
from cgeartheye.geo.vrt import file_signature
from cgeartheye.mapping.job import FACTS, UNFINISHED
from cgeartheye.mapping.ledger import check_same
from cgeartheye.mapping.options import Options
from cgeartheye.mapping.predictor import AnyModel, Detector
from cgeartheye.utils.colors import RGB
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.state import json_object

_SCORE = 0.3  # threshold if neither user nor model gives one


def check_fit(predictor: AnyModel, options: Options) -> None:
    """Refuse options of another kind of model.

    Raises:
        UserError: it names the option.
    """
    if isinstance(predictor, Detector):
        if options.probabilities:
            raise UserError("--probabilities is for maps of pixels: objects have a score")
        if options.tiles is not None:
            raise UserError("--tiles is for maps of pixels: objects are one file of any size")
        if options.min_area is not None or options.smooth or options.transparent is not None:
            raise UserError(
                "--min-area, --smooth and --transparent are for maps of classes: objects keep "
                "their boxes"
            )
    elif options.max_object_size is not None or options.score_threshold is not None:
        raise UserError(
            "--max-object-size and --score-threshold are for a model that detects objects"
        )
    elif options.transparent is not None and options.transparent not in predictor.classes:
        names = ", ".join(predictor.classes)
        raise UserError(
            f"--transparent {options.transparent} is none of the model's classes: give one of "
            f"{names}"
        )


def settings_of(
    predictor: AnyModel,
    scene: AnyScene,
    model: Mapping[str, Any],
    options: Options,
    colors: Sequence[RGB],
) -> dict[str, Any]:
    """Return all that the bytes of a map depend on.

    Args:
        predictor: the model.
        scene: that is mapped.
        model: what identifies the model.
        options: of the user.
        colors: of the classes.
    """
    asked, aoi, dem = asdict(options), options.aoi, options.dem
    for name in ("aoi", "dem"):  # files by their place, from wherever the map is gone on with
        if asked[name] is not None and Path(asked[name]).is_file():
            asked[name] = str(Path(asked[name]).resolve())
    if isinstance(predictor, Detector):
        own = _SCORE if predictor.score_threshold is None else predictor.score_threshold
        asked["score_threshold"] = (
            own if options.score_threshold is None else options.score_threshold
        )
        asked |= {
            "oriented": predictor.oriented,
            "model_max_object_size": predictor.max_object_size,
            "model_score_threshold": own,
        }
    return {
        "model": dict(model),
        "classes": list(predictor.classes),
        "window": predictor.window,
        "model_gsd": predictor.gsd,
        "device": predictor.device.type,
        "colours": list(colors),
        **asked,
        "dem_file": file_signature([Path(dem)]) if dem and Path(dem).is_file() else None,
        "aoi_sha256": sha256(aoi.read_bytes()).hexdigest() if aoi and aoi.is_file() else None,
        **scene.identity,
    }


def finished_map(out: Path, settings: Mapping[str, Any], resume: bool) -> dict[str, Any] | None:
    """Return the content of `map.json`, if the map is there and was made with these settings.

    Args:
        out: folder of the map.
        settings: all that the bytes of the map depend on.
        resume: whether a map that is there may be gone on with.

    Raises:
        UserError: the folder holds another map, or one that is not to be gone on with.
    """
    path = out / FACTS
    if path.exists():
        if not resume:
            raise UserError(f"{out} holds a map already: delete it, or map into another folder")
        try:
            facts = json_object(path.read_bytes())
            begun = facts["settings"]
            if not isinstance(begun, dict):
                raise ValueError("no settings")
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} is damaged, so how the map was made is lost: delete {out} and map again"
            ) from error
        check_same(begun, settings, out)
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        log_info(f"{out} is finished already")
        return facts
    if (out / UNFINISHED).exists() and not resume:
        raise UserError(
            f"{out} holds an unfinished map: finish it with --resume, or delete {out / UNFINISHED}"
        )
    return None
