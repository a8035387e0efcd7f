"""From a scene to a map: read, predict, blend and write, all at the same time."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import rasterio
import torch

from cgeartheye.geo.aoi import read_aoi
from cgeartheye.geo.pair import AnyScene, open_pair
from cgeartheye.geo.reader import open_scene
from cgeartheye.geo.vector_writer import FORMATS
from cgeartheye.mapping.geotiff import RGB, RawRaster
from cgeartheye.mapping.layout import lay_grid, lay_object_grid
from cgeartheye.mapping.ledger import Ledger, check_same
from cgeartheye.mapping.options import Options
from cgeartheye.mapping.outputs import pixels
from cgeartheye.mapping.outputs.objects import finish_objects
from cgeartheye.mapping.pipeline import Detector, Mapper, Predictor
from cgeartheye.mapping.prefetch import Reader
from cgeartheye.mapping.sinks.objects import DetectionFilter, tiling_of
from cgeartheye.mapping.sinks.writer import Writer, open_picture, open_planes
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError

UNFINISHED = "unfinished"
_SCORE = 0.3  # least one where neither user nor model tells
_CACHE = 256 * 2**20  # bytes of decoded blocks that GDAL keeps; it would take 5 % of the memory


def map_scene(
    predictor: Predictor | Detector,
    scenes: Sequence[Path],
    out: Path,
    model: Mapping[str, Any],
    options: Options | None = None,
    colors: Sequence[RGB] | None = None,
    resume: bool = False,
    after: Sequence[Path] | None = None,
) -> dict[str, Any]:
    """Map a scene of any size, or what changed between two, with a trained model.

    Writes `map.tif`, `preview.html` and `map.json`, and what `options` ask for besides; of a
    detector the objects in place of `map.tif`, as GeoPackage if nothing else is asked for. Until it
    is done, `unfinished/` in the same folder holds what is; killed at any moment, `resume` ends
    with the same bytes (on the same machine and device).

    Args:
        predictor: the model.
        scenes: a raster, or several and folders of them as one mosaic; of two dates the first.
        out: a folder for the map alone.
        model: what identifies the model, as JSON: its path, its weights' fingerprint.
        options: how.
        colors: of the classes.
        resume: go on with an unfinished map, or begin if there is none.
        after: the second date, for a model that sees both; class 0 then means that nothing changed.

    Returns:
        What `map.json` holds.

    Raises:
        UserError: a scene that cannot be read or placed, options that make no sense, a folder
            that holds another map, a full disk, or predictions that are not finite.
    """
    options = options or Options()
    _check_fit(predictor, options)
    names = tuple(predictor.classes)
    colors = list(colors) if colors else pixels.colors_of(len(names), after is not None)
    if len(names) > 255:
        raise UserError(f"the model has {len(names)} classes: a map has room for 255")
    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        scene = _open(scenes, after, options)
        settings = _settings(predictor, scene, model, options, colors)
        done = _finished(out, settings, resume)
        if done:
            log_info(f"{out} is finished already")
            return done
        # Nothing is begun that a mistake in the options would leave behind.
        aoi = read_aoi(options.aoi, scene) if options.aoi else None
        if isinstance(predictor, Detector):
            grid = lay_object_grid(predictor, scene, options)
        else:
            grid = lay_grid(predictor, scene, options)
        work = out / UNFINISHED
        _make(work)
        ledger = Ledger(work / "ledger.sqlite", settings)
        try:
            reader = Reader(scene, grid, aoi)
            if isinstance(predictor, Detector):
                facts = _find(predictor, reader, out, options, colors, ledger, settings)
            else:
                facts = _map(predictor, reader, out, options, colors, ledger, settings)
        finally:
            ledger.close()
    shutil.rmtree(work)
    for ending in ("tif", *FORMATS):
        if (out / f"map.{ending}").exists():
            log_info(f"map: {out / f'map.{ending}'}")
    log_info(f"preview: {out / pixels.PREVIEW}")
    return facts


def _open(scenes: Sequence[Path], after: Sequence[Path] | None, options: Options) -> AnyScene:
    asked = options.bands, options.stretch, options.crs, options.input_gsd
    if after is not None:
        return open_pair(scenes, after, *asked, options.date_labels, options.coregister)
    if options.coregister or options.date_labels:
        raise UserError(
            "--coregister and --date-labels are for two dates: name them --before and --after"
        )
    return open_scene(scenes, *asked)


def _map(
    predictor: Predictor,
    reader: Reader,
    out: Path,
    options: Options,
    colors: Sequence[RGB],
    ledger: Ledger,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    scene, grid = reader.scene, reader.grid
    planes = open_planes(
        out / UNFINISHED,
        grid,
        scene.channels,
        len(predictor.classes),
        bool(options.vector_format),
        options.probabilities,
    )
    mapper = Mapper(predictor, reader, options.probabilities, options.batch_size)
    with _measured(reader, ledger):
        _run(mapper, reader, planes, ledger)
        facts = pixels.finish(
            out, planes, scene, grid, predictor.classes, colors, options.vector_format, settings
        )
    for plane in planes.values():
        plane.close()
    return facts


def _find(
    detector: Detector,
    reader: Reader,
    out: Path,
    options: Options,
    colors: Sequence[RGB],
    ledger: Ledger,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Map objects: as `_map`, but what a row of windows leaves are its finds in the ledger."""
    scene, grid = reader.scene, reader.grid
    picture = open_picture(out / UNFINISHED, grid, scene.channels)
    sieve = DetectionFilter(
        grid,
        tiling_of(grid),
        settings["score_threshold"],
        detector.oriented,
        len(detector.classes),
        scene.name,
    )
    mapper = Mapper(detector, reader, False, options.batch_size, sieve)
    with _measured(reader, ledger):
        _run(mapper, reader, {"scene": picture}, ledger)
        facts = finish_objects(
            out,
            picture,
            scene,
            grid,
            ledger,
            detector.oriented,
            detector.classes,
            colors,
            options.vector_format,
            settings,
        )
    picture.close()
    return facts


def _run(mapper: Mapper, reader: Reader, planes: Mapping[str, RawRaster], ledger: Ledger) -> None:
    scene = reader.scene
    with (
        torch.inference_mode(),
        ThreadPoolExecutor(min(8, max(2, os.cpu_count() or 1))) as pool,
        Writer(planes, ledger, reader.grid, scene.name) as writer,
    ):
        mapper.run(ledger.finished()[0], pool, writer)
    if not ledger.finished()[1]:
        where = " inside the area of interest" if reader.aoi else ""
        raise UserError(f"{scene.name} has no pixel with data{where}: there is no map")


@contextmanager
def _measured(reader: Reader, ledger: Ledger) -> Iterator[None]:
    """Say how much of the ground was mapped, and how fast."""
    started, before = time.monotonic(), ledger.finished()[1]
    yield
    seconds = time.monotonic() - started
    cell, ground = reader.grid.cell, reader.scene.ground
    pixels = ledger.finished()[1] - before
    km2 = pixels * cell[0] * cell[1] * ground[0] * ground[1] / 1e6
    log_info(f"{km2:,.3f} km2 in {seconds:,.1f} s: {km2 / max(seconds, 1e-9):,.4f} km2/s")


def _check_fit(predictor: Predictor | Detector, options: Options) -> None:
    """Refuse options of another kind of model."""
    if isinstance(predictor, Detector):
        if options.probabilities:
            raise UserError("--probabilities is for maps of pixels: objects have a score")
    elif options.max_object_size is not None or options.score_threshold is not None:
        raise UserError(
            "--max-object-size and --score-threshold are for a model that detects objects"
        )


def _settings(
    predictor: Predictor | Detector,
    scene: AnyScene,
    model: Mapping[str, Any],
    options: Options,
    colors: Sequence[RGB],
) -> dict[str, Any]:
    """All that the bytes of a map depend on."""
    asked = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}
    aoi = options.aoi
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
        "aoi_sha256": sha256(aoi.read_bytes()).hexdigest() if aoi and aoi.is_file() else None,
        **scene.identity,
    }


def _finished(out: Path, settings: Mapping[str, Any], resume: bool) -> dict[str, Any] | None:
    """What `map.json` holds, if the map is there and was made with these settings.

    Raises:
        UserError: the folder holds another map, or one that is not to be gone on with.
    """
    path = out / pixels.FACTS
    if path.exists():
        if not resume:
            raise UserError(f"{out} holds a map already: delete it, or map into another folder")
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            begun = facts["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no description of a map: delete {out}") from error
        check_same(begun, settings, out)
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        return facts
    if (out / UNFINISHED).exists() and not resume:
        raise UserError(
            f"{out} holds an unfinished map: finish it with --resume, or delete {out / UNFINISHED}"
        )
    return None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error
