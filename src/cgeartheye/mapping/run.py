"""From a scene to a map: read, predict, blend and write, all at the same time."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import rasterio
import torch

from cgeartheye.geo.aoi import read_aoi
from cgeartheye.geo.pair import AnyScene, open_pair
from cgeartheye.geo.reader import Span, open_scene
from cgeartheye.geo.remote import gdal_options
from cgeartheye.geo.vector_writer import FORMATS
from cgeartheye.mapping.blocks import LEDGER, block_folder, join_blocks, unfinished_blocks
from cgeartheye.mapping.geotiff import nearly_empty
from cgeartheye.mapping.job import PREVIEW, MapJob
from cgeartheye.mapping.layout import lay_grid, lay_object_grid, lay_vector_grid
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.mapping.options import Options
from cgeartheye.mapping.outputs.embeddings import PICTURE
from cgeartheye.mapping.parcels import pack_ledger, pack_planes
from cgeartheye.mapping.pipeline import Mapper
from cgeartheye.mapping.predictor import AnyModel, Detector, Encoder
from cgeartheye.mapping.settings import check_fit, finished_map, settings_of
from cgeartheye.mapping.sinks.base import Sink
from cgeartheye.mapping.sinks.cells import CellSink
from cgeartheye.mapping.sinks.embeddings import CellVectorSink, PatchSink
from cgeartheye.mapping.sinks.objects import ObjectSink
from cgeartheye.mapping.sinks.pixels import PixelSink
from cgeartheye.mapping.sinks.writer import Writer
from cgeartheye.mapping.thumbnail import Thumbnail
from cgeartheye.mapping.tiles import check_tiles
from cgeartheye.mapping.verdict import judge_map
from cgeartheye.utils.colors import RGB, change_colors, distinct_colors
from cgeartheye.utils.console import log_info, warn
from cgeartheye.utils.errors import UserError

_CACHE = 256 * 2**20  # bytes of decoded blocks that GDAL keeps; it would take 5 % of the memory


def map_scene(
    predictor: AnyModel,
    scenes: Sequence[Path],
    out: Path,
    model: Mapping[str, Any],
    options: Options | None = None,
    colors: Sequence[RGB] | None = None,
    resume: bool = False,
    after: Sequence[Path] | None = None,
) -> dict[str, Any]:
    """Map a scene of any size, or what changed between two, with a trained model.

    Of a backbone alone the map is of vectors, an embedding: `features.zarr` or `cells.parquet`.

    Writes `map.tif`, `preview.html` and `map.json`, and what `options` ask for besides; of a
    detector the objects in place of `map.tif`, as GeoPackage if nothing else is asked for. Until it
    is done, `unfinished/` in the same folder holds what is; killed at any moment, `resume` ends
    with the same bytes (on the same machine and device, by the same batch).

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
    with rasterio.Env(GDAL_CACHEMAX=_CACHE, **gdal_options([*scenes, *(after or ())])):
        options = options or Options()
        scene, settings = _examine(predictor, scenes, model, options, colors, after)
        done = finished_map(out, settings, resume)
        if done:
            return done
        # Nothing is begun that a mistake in the options would leave behind.
        job = _plan(predictor, out, options, scene, settings)
        facts = _make(job, predictor)
    shutil.rmtree(job.work)
    for ending in ("tif", "vrt", *FORMATS):
        if (out / f"map.{ending}").exists():
            log_info(f"map: {out / f'map.{ending}'}")
    shown = PREVIEW if (out / PREVIEW).exists() else PICTURE
    log_info(f"preview: {out / shown}")
    if verdict := judge_map(job, facts):
        warn(verdict)
    return facts


def plan_map(
    predictor: AnyModel,
    scenes: Sequence[Path],
    out: Path,
    model: Mapping[str, Any],
    options: Options | None = None,
    colors: Sequence[RGB] | None = None,
    after: Sequence[Path] | None = None,
) -> MapJob:
    """Open a scene and lay the model's windows over it; nothing is written yet.

    Args:
        predictor: the model.
        scenes: see `map_scene`.
        out: a folder for the map alone.
        model: what identifies the model, as JSON.
        options: how.
        colors: of the classes.
        after: the second date.

    Raises:
        UserError: a scene that cannot be read or placed, or options that make no sense.
    """
    options = options or Options()
    scene, settings = _examine(predictor, scenes, model, options, colors, after)
    return _plan(predictor, out, options, scene, settings)


def _examine(
    predictor: AnyModel,
    scenes: Sequence[Path],
    model: Mapping[str, Any],
    options: Options,
    colors: Sequence[RGB] | None,
    after: Sequence[Path] | None,
) -> tuple[AnyScene, dict[str, Any]]:
    """Open a scene; return it and all that the bytes of its map depend on."""
    check_fit(predictor, options)
    count = len(predictor.classes)
    if count > 255:
        raise UserError(f"the model has {count} classes, but a map holds 255 at most")
    if not colors:
        colors = distinct_colors(count) if after is None else change_colors(count)
    scene = _open(scenes, after, options)
    if scene.crs is None and "geojson" in options.vector_format:
        raise UserError(
            f"{scene.name} has no CRS, so GeoJSON, which is in longitude and latitude, cannot "
            "hold its polygons: name it with --crs EPSG:CODE, or use --vector-format gpkg"
        )
    return scene, settings_of(predictor, scene, model, options, colors)


def _plan(
    predictor: AnyModel,
    out: Path,
    options: Options,
    scene: AnyScene,
    settings: dict[str, Any],
) -> MapJob:
    """Lay the model's windows over a scene."""
    aoi = read_aoi(options.aoi, scene) if options.aoi else None
    if isinstance(predictor, Detector):
        grid = lay_object_grid(predictor, scene, options)
    elif isinstance(predictor, Encoder):
        grid = lay_vector_grid(predictor, scene, options)
    else:
        grid = lay_grid(predictor, scene, options)
    if not grid.dense and (options.min_area is not None or options.smooth):
        raise UserError("--min-area and --smooth are for maps of pixels: this model maps cells")
    colors = settings["colours"]
    job = MapJob(out, scene, grid, aoi, predictor.classes, colors, options, settings)
    if options.tiles is not None:
        check_tiles(job)
    return job


def map_block(job: MapJob, predictor: AnyModel, block: Span, parcel: Path | None = None) -> None:
    """Map some rows of windows, with a ledger of their own beside that of the map.

    Blocks may be mapped by several processes at once, on machines that share the folder: each
    writes other rows of the same files. A block that was interrupted is gone on with.

    Args:
        job: the map.
        predictor: the model.
        block: first row of windows, in the order of mapping, and the one after the last.
        parcel: a folder for what `mapping.parcels` packs of it; none: nothing is packed.

    Raises:
        UserError: see `map_scene`; or another process maps this block.
    """
    folder = block_folder(job, block)
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / LEDGER, {**job.settings, "block": list(block)})
    try:
        thumbnail = Thumbnail(job.work, job.grid, job.scene.channels)
        sink = _sink_of(job, predictor, thumbnail, ledger)
        mapper = Mapper(job, predictor, sink, thumbnail)
        with rasterio.Env(GDAL_CACHEMAX=_CACHE, **gdal_options(job.scene.files)):
            _run(job, mapper, sink, thumbnail, ledger, block)
        if parcel:
            pack_planes([*sink.planes, thumbnail.plane], parcel)
        thumbnail.plane.close()
        sink.close()
    finally:
        ledger.close()


def map_block_apart(job: MapJob, predictor: AnyModel, block: Span, parcel: Path) -> None:
    """Map a block where no folder is shared, and pack it: `unpack_block` puts it into the map.

    Args:
        job: the map.
        predictor: the model.
        block: see `map_block`.
        parcel: an empty folder.

    Raises:
        UserError: see `map_block`.
    """
    with tempfile.TemporaryDirectory(prefix="cgeartheye-block-") as name, nearly_empty():
        apart = replace(job, out=Path(name))
        apart.work.mkdir()
        map_block(apart, predictor, block, parcel)
        pack_ledger(apart, block, parcel)


def _open(scenes: Sequence[Path], after: Sequence[Path] | None, options: Options) -> AnyScene:
    asked = options.bands, options.stretch, options.crs, options.input_gsd
    if after is not None:
        return open_pair(
            scenes, after, *asked, options.date_labels, options.coregister, options.dem
        )
    if options.coregister or options.date_labels:
        raise UserError(
            "--coregister and --date-labels need two dates: name them with --before and --after"
        )
    return open_scene(scenes, *asked, options.dem)


def _make(job: MapJob, predictor: AnyModel) -> dict[str, Any]:
    """Map what the ledger does not have, then write the map's files."""
    try:
        job.work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {job.work}: {error.strerror}") from error
    for block in unfinished_blocks(job):
        map_block(job, predictor, block)
    ledger = Ledger(job.work / "ledger.sqlite", job.settings)
    try:
        join_blocks(job, ledger)
        thumbnail = Thumbnail(job.work, job.grid, job.scene.channels)
        sink = _sink_of(job, predictor, thumbnail, ledger)
        if ledger.finished()[0] and any(p.is_new for p in [*sink.planes, thumbnail.plane]):
            raise UserError(f"files of {job.work} are gone: delete {job.out}, and map again")
        with _measured(job, ledger):
            _map(job, Mapper(job, predictor, sink, thumbnail), sink, thumbnail, ledger)
            with job.clock.measure("writing"):
                facts = sink.finish()
        thumbnail.plane.close()
        sink.close()
        return facts
    finally:
        ledger.close()


def _sink_of(job: MapJob, predictor: AnyModel, thumbnail: Thumbnail, ledger: Ledger) -> Sink:
    if isinstance(predictor, Detector):
        return ObjectSink(job, thumbnail, ledger, predictor)
    if isinstance(predictor, Encoder):
        sink = PatchSink if job.grid.patches else CellVectorSink
        return sink(job, thumbnail, predictor)
    if job.grid.dense:
        return PixelSink(job, thumbnail, predictor)
    return CellSink(job, thumbnail)


def _map(job: MapJob, mapper: Mapper, sink: Sink, thumbnail: Thumbnail, ledger: Ledger) -> None:
    _run(job, mapper, sink, thumbnail, ledger, (0, job.rows))
    if not ledger.finished()[1]:
        where = " inside the area of interest" if job.aoi else ""
        raise UserError(f"{job.scene.name} has no pixel with data{where}: there is no map")


def _run(
    job: MapJob, mapper: Mapper, sink: Sink, thumbnail: Thumbnail, ledger: Ledger, rows: Span
) -> None:
    planes = [*sink.planes, thumbnail.plane]
    with (
        torch.inference_mode(),
        ThreadPoolExecutor(min(8, max(2, os.cpu_count() or 1))) as pool,
        Writer(planes, ledger, sink.take_found, job.clock) as writer,
    ):
        mapper.run(rows[0] + ledger.finished()[0], pool, writer, rows[1])


@contextmanager
def _measured(job: MapJob, ledger: Ledger) -> Iterator[None]:
    """Print how much of the ground was mapped, and how fast."""
    started, before = time.monotonic(), ledger.finished()[1]
    yield
    seconds = time.monotonic() - started
    pixel = job.scene.ground[0] * job.scene.ground[1]
    scene = job.scene.height * job.scene.width * pixel / 1e6  # beyond which cells may stand out
    km2 = min((ledger.finished()[1] - before) * job.pixel_area / 1e6, scene)
    log_info(f"{km2:,.3f} km2 in {seconds:,.1f} s: {km2 / max(seconds, 1e-9):,.4f} km2/s")
    log_info(f"time: {job.clock}")
