"""From a scene to a map: read, predict, blend and write, all at the same time."""

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import rasterio
import torch

from cgeartheye.errors import UserError
from cgeartheye.mapping import outputs
from cgeartheye.mapping.aoi import read_aoi
from cgeartheye.mapping.feed import Reader
from cgeartheye.mapping.grid import Grid, make_grid
from cgeartheye.mapping.ledger import Ledger, check_same
from cgeartheye.mapping.pair import AnyScene, open_pair
from cgeartheye.mapping.planes import RGB
from cgeartheye.mapping.rows import Mapper, Predictor
from cgeartheye.mapping.scene import open_scene
from cgeartheye.mapping.vector import FORMATS
from cgeartheye.mapping.writing import Writer, open_planes
from cgeartheye.training.progress import say

UNFINISHED = "unfinished"
_ENLARGED = 4  # times; beyond, somebody may have mistaken the scene
_CACHE = 256 * 2**20  # bytes of decoded blocks that GDAL keeps; it would take 5 % of the memory


@dataclass(frozen=True)
class Options:
    """How a scene is mapped.

    Attributes:
        gsd: metres a pixel that the model sees; none: what it was trained with, or, if that is
            not known, the scene's pixels as they are.
        overlap: least share of a window that its neighbour covers too, 0..0.9.
        bands: counted from 1, that are red, green and blue.
        stretch: values of bands of more than 8 bits that become 0 and 255; none: the 1st and 99th
            percentile of the scene.
        aoi: a vector file; outside of its polygons there is no data.
        crs: of a scene that names none, `EPSG:32650`.
        scene_gsd: metres a pixel of a scene that is on no map.
        probabilities: whether those of all classes are written too.
        vector: endings of the files of polygons: gpkg, parquet, geojson, fgb.
        batch_size: windows at a time, at most.
        register: of two dates: measure how the second is displaced, and move it back.
        dates: of two dates: what to call them.
    """

    gsd: float | None = None
    overlap: float = 1 / 3
    bands: tuple[int, int, int] = (1, 2, 3)
    stretch: tuple[float, float] | None = None
    aoi: Path | None = None
    crs: str | None = None
    scene_gsd: float | None = None
    probabilities: bool = False
    vector: tuple[str, ...] = ()
    batch_size: int = 16
    register: bool = False
    dates: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"--overlap {self.overlap}: it is a share, 0 to 0.9")
        for name, size in (("--gsd", self.gsd), ("--scene-gsd", self.scene_gsd)):
            if size is not None and not 0 < size < float("inf"):
                raise UserError(f"{name} {size}: it is the size of a pixel in metres")
        for ending in self.vector:
            if ending not in FORMATS:
                raise UserError(f"--vector {ending}: it is one of {', '.join(FORMATS)}")
        if self.stretch and not self.stretch[0] < self.stretch[1]:
            raise UserError(f"--stretch {self.stretch}: it is two rising values")


def map_scene(
    predictor: Predictor,
    scenes: Sequence[Path],
    out: Path,
    model: Mapping[str, Any],
    options: Options | None = None,
    colours: Sequence[RGB] | None = None,
    resume: bool = False,
    after: Sequence[Path] | None = None,
) -> dict[str, Any]:
    """Map a scene of any size, or what changed between two, with a trained model.

    Writes `map.tif`, `preview.html` and `map.json`, and what `options` ask for besides. Until it
    is done, `unfinished/` in the same folder holds what is; killed at any moment, `resume` ends
    with the same bytes (on the same machine and device).

    Args:
        predictor: the model.
        scenes: a raster, or several and folders of them as one mosaic; of two dates the first.
        out: a folder for the map alone.
        model: what identifies the model, as JSON: its path, its weights' fingerprint.
        options: how.
        colours: of the classes.
        resume: go on with an unfinished map, or begin if there is none.
        after: the second date, for a model that sees both; class 0 then means that nothing changed.

    Returns:
        What `map.json` holds.

    Raises:
        UserError: a scene that cannot be read or placed, options that make no sense, a folder
            that holds another map, a full disk, or predictions that are not finite.
    """
    options = options or Options()
    names = tuple(predictor.classes)
    colours = list(colours) if colours else outputs.colours_of(len(names), after is not None)
    if len(names) > 255:
        raise UserError(f"the model has {len(names)} classes: a map has room for 255")
    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        scene = _open(scenes, after, options)
        settings = _settings(predictor, scene, model, options, colours)
        done = _finished(out, settings, resume)
        if done:
            say(f"{out} is finished already")
            return done
        # Nothing is begun that a mistake in the options would leave behind.
        aoi = read_aoi(options.aoi, scene) if options.aoi else None
        grid = _lay_grid(predictor, scene, options)
        work = out / UNFINISHED
        _make(work)
        ledger = Ledger(work / "ledger.sqlite", settings)
        try:
            reader = Reader(scene, grid, aoi)
            facts = _map(predictor, reader, out, options, colours, ledger, settings)
        finally:
            ledger.close()
    shutil.rmtree(work)
    say(f"map: {out / outputs.MAP}")
    say(f"preview: {out / outputs.PREVIEW}")
    return facts


def _open(scenes: Sequence[Path], after: Sequence[Path] | None, options: Options) -> AnyScene:
    asked = options.bands, options.stretch, options.crs, options.scene_gsd
    if after is not None:
        return open_pair(scenes, after, *asked, options.dates, options.register)
    if options.register or options.dates:
        raise UserError("--register and --dates are for two dates: name them --before and --after")
    return open_scene(scenes, *asked)


def _map(
    predictor: Predictor,
    reader: Reader,
    out: Path,
    options: Options,
    colours: Sequence[RGB],
    ledger: Ledger,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    started = time.monotonic()
    scene, grid = reader.scene, reader.grid
    planes = open_planes(
        out / UNFINISHED,
        grid,
        scene.channels,
        len(predictor.classes),
        bool(options.vector),
        options.probabilities,
    )
    rows, before = ledger.finished()
    mapper = Mapper(predictor, reader, options.probabilities, options.batch_size)
    with (
        torch.inference_mode(),
        ThreadPoolExecutor(min(8, max(2, os.cpu_count() or 1))) as pool,
        Writer(planes, ledger, grid, scene.name) as writer,
    ):
        mapper.run(rows, pool, writer)
    pixels = ledger.finished()[1]
    if not pixels:
        where = " inside the area of interest" if reader.aoi else ""
        raise UserError(f"{scene.name} has no pixel with data{where}: there is no map")
    facts = outputs.finish(
        out, planes, scene, grid, predictor.classes, colours, options.vector, settings
    )
    for plane in planes.values():
        plane.close()
    seconds = time.monotonic() - started
    cell = grid.cell[0] * grid.cell[1]
    km2 = (pixels - before) * cell * scene.ground[0] * scene.ground[1] / 1e6
    say(f"{km2:,.3f} km2 in {seconds:,.1f} s: {km2 / max(seconds, 1e-9):,.4f} km2/s")
    return facts


def _lay_grid(predictor: Predictor, scene: AnyScene, options: Options) -> Grid:
    """Ask the model for one prediction: it tells whether it maps pixels or whole windows."""
    side, count = predictor.window, len(predictor.classes)
    with torch.inference_mode():
        blank = torch.zeros(
            1, scene.channels, side, side, dtype=torch.uint8, device=predictor.device
        )
        shape = tuple(predictor.predict(blank).shape)
    assert shape in {(1, count, side, side), (1, count)}, f"a prediction of shape {shape}"
    gsd = options.gsd or predictor.gsd
    grid = make_grid(scene, gsd, side, options.overlap, count, dense=len(shape) == 4)
    enlarged = grid.columns.model / grid.columns.scene
    if enlarged > _ENLARGED:
        own = f"{scene.ground[0]:.3g}"
        say(
            f"note: the scene's pixels of {own} m are enlarged {enlarged:.0f} times to the "
            f"model's {gsd:.3g} m; --gsd {own} shows them to the model as they are"
        )
    return grid


def _settings(
    predictor: Predictor,
    scene: AnyScene,
    model: Mapping[str, Any],
    options: Options,
    colours: Sequence[RGB],
) -> dict[str, Any]:
    """All that the bytes of a map depend on."""
    asked = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}
    aoi = options.aoi
    return {
        "model": dict(model),
        "classes": list(predictor.classes),
        "window": predictor.window,
        "model_gsd": predictor.gsd,
        "device": predictor.device.type,
        "colours": list(colours),
        **asked,
        "aoi_sha256": sha256(aoi.read_bytes()).hexdigest() if aoi and aoi.is_file() else None,
        **scene.identity,
    }


def _finished(out: Path, settings: Mapping[str, Any], resume: bool) -> dict[str, Any] | None:
    """What `map.json` holds, if the map is there and was made with these settings.

    Raises:
        UserError: the folder holds another map, or one that is not to be gone on with.
    """
    path = out / outputs.FACTS
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
