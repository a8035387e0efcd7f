"""Tiles of scenes and of results in Web Mercator, by rio-tiler; and a job's first rows."""

import hashlib
import io
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rasterio
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from PIL import Image
from rasterio.enums import ColorInterp
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.io import Reader

from cgeartheye.geo.remote import driver_of
from cgeartheye.geo.vrt import file_signature
from cgeartheye.jobs.store import Job
from cgeartheye.serve.auth import require
from cgeartheye.serve.jobs import job_of, successful_job
from cgeartheye.serve.problems import Problem
from cgeartheye.serve.scenes import ServedScene
from cgeartheye.serve.state import State, address_of, state_of, user_of

router = APIRouter(tags=["tiles"])

_OPEN = 8  # files that a thread keeps open
_SIDE = 256
_NODATA = 255
_PARTIAL_SIDE = 1024  # pixels of the picture of the first rows
# Columns of the model's grid, and those times window and classes, up to which a map is surely made
# in one strip: of wider ones the rows that are finished are not those of the whole scene.
_COLUMNS, _SUMS = 8192, 64 * 2**20
_LONGEST = 30  # of tile coordinates' zoom
_FOREVER = "private, max-age=31536000, immutable"
_local = threading.local()
_limits: dict[tuple[str, int, int | str], tuple[float, float]] = {}

Without = Annotated[
    str, Query(pattern=r"^(\d{1,3}(,\d{1,3})*)?$", description="numbers of classes to leave out")
]


@router.get("/scenes/{scene}/tiles/{z}/{x}/{y}")
def scene_tile(scene: str, z: int, x: int, y: int, request: Request) -> Response:
    """Return a tile of a scene as PNG, or JPEG where it has data everywhere.

    Args:
        scene: its id.
        z: zoom of the tile.
        x: column of the tile.
        y: row of the tile.
        request: of HTTP.
    """
    user = user_of(request)
    require(user, "read")
    scenes = state_of(request).scenes
    found = scenes.get(scene, user.sees)
    # A file of the operator's may be replaced.
    version = hashlib.sha256(scenes.version(found).encode()).hexdigest()[:16]
    tag = f'"{found.id}-{version}-{z}-{x}-{y}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304)
    return _tile(found.path, (z, x, y), tag, _picture, "no-cache" if not found.owner else _FOREVER)


@router.get("/scenes/{scene}/tilejson.json")
def scene_tilejson(scene: str, request: Request) -> dict[str, Any]:
    """Describe the tiles of a scene."""
    user = user_of(request)
    require(user, "read")
    found = state_of(request).scenes.get(scene, user.sees)
    return _tilejson(
        request, f"/scenes/{found.id}/tiles", found.facts["bounds"], found.facts["gsd"]
    )


@router.get("/jobs/{job}/tiles/{z}/{x}/{y}")
def job_tile(job: str, z: int, x: int, y: int, request: Request, without: Without = "") -> Response:
    """Return a tile of a finished map in the colors of its classes, as PNG.

    Args:
        job: its id.
        z: zoom of the tile.
        x: column of the tile.
        y: row of the tile.
        request: of HTTP.
        without: numbers of classes that are left transparent.
    """
    state, user = state_of(request), user_of(request)
    require(user, "read")
    tag = f'"{job}-{z}-{x}-{y}-{without}"'
    found = successful_job(state, user, job)
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304)
    path = state.settings.jobs / found.id / "map" / "map.tif"
    if not path.is_file():
        raise Problem(404, "this job has no raster: its objects are in its polygons")
    return _tile(path, (z, x, y), tag, partial(_classes, _numbers(without)))


@router.get("/jobs/{job}/tilejson.json")
def job_tilejson(job: str, request: Request) -> dict[str, Any]:
    """Describe the tiles of a finished map, with its legend."""
    state, user = state_of(request), user_of(request)
    require(user, "read")
    found = successful_job(state, user, job)
    path = state.settings.jobs / found.id / "map" / "map.json"
    if not path.is_file():
        raise Problem(404, "this job has made no map")
    facts = json.loads(path.read_text())
    # Of the map and not of the scene, which may have been deleted by now.
    gsd = sum(facts["scene"]["metres_a_pixel"]) / 2
    made = _tilejson(request, f"/jobs/{job}/tiles", found.request["bounds"], gsd)
    return {**made, "legend": legend_of(facts)}


@router.get("/jobs/{job}/partial.png")
def first_rows(job: str, request: Request, without: Without = "") -> Response:
    """Return the rows of a map that are finished while it is made, as a small picture.

    It covers the whole scene, whose corners the header `X-Corners` has; what
    is not yet mapped is transparent.

    Args:
        job: its id.
        request: of HTTP.
        without: numbers of classes that are left transparent.
    """
    state, user = state_of(request), user_of(request)
    require(user, "read")
    found = job_of(state, user, job)
    if found.request.get("kind"):
        return Response(status_code=204)  # it makes no map
    scene = state.scenes.get(found.request["scene_ids"][0], None)
    colors = np.zeros((256, 4), np.uint8)
    card = state.settings.registry.card(found.app)
    colors[: len(card.colors), :3] = card.colors
    colors[: len(card.colors), 3] = 255
    colors[list(_numbers(without))] = 0
    picture = _finished_rows(state, found, scene, colors)
    if picture is None:
        return Response(status_code=204)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    headers = {"Cache-Control": "no-store", "X-Corners": json.dumps(scene.facts["outline"][:4])}
    return Response(stream.getvalue(), media_type="image/png", headers=headers)


def legend_of(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return names and colors of a map's classes, with their shares and areas, or their objects.

    Args:
        facts: of the map, its `map.json`.
    """
    total = sum(one.get("pixels", 0) for one in facts["classes"])
    legend = []
    for one in facts["classes"]:
        entry = {"value": one["value"], "name": one["name"], "color": one["color"]}
        if "objects" in one:
            entry["objects"] = one["objects"]
        else:
            entry |= {"share": one["pixels"] / max(1, total), "hectares": 100 * one["km2"]}
        legend.append(entry)
    return legend


def _numbers(without: str) -> list[int]:
    return [number for number in map(int, filter(None, without.split(","))) if number < 256]


def _tile(
    path: Path, place: tuple[int, int, int], tag: str, draw: Any, cache: str = _FOREVER
) -> Response:
    z, x, y = place
    if not (0 <= z <= _LONGEST and 0 <= x < 2**z and 0 <= y < 2**z):
        raise Problem(404, f"there is no tile {z}/{x}/{y}")
    headers = {"ETag": tag, "Cache-Control": cache}
    try:
        content, kind = draw(_reader(path), path, place)
    except TileOutsideBounds:
        return Response(status_code=204, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def _picture(reader: Any, path: Path, place: tuple[int, int, int]) -> tuple[bytes, str]:
    z, x, y = place
    file = reader.dataset
    bands = (1, 2, 3) if file.count >= 3 else (1,)
    palette = file.colorinterp[0] == ColorInterp.palette
    image = reader.tile(
        x,
        y,
        z,
        tilesize=_SIDE,
        indexes=bands,
        resampling_method="nearest" if palette else "bilinear",
    )
    if palette:
        return image.render(img_format="PNG", colormap=file.colormap(1)), "image/png"
    if file.dtypes[0] != "uint8":
        image.rescale(in_range=(_limits_of(path, bands),) * len(bands))
    if image.mask.all():
        return image.render(img_format="JPEG", add_mask=False, quality=85), "image/jpeg"
    return image.render(img_format="PNG", zlevel=1), "image/png"


def _classes(
    without: Sequence[int], reader: Any, path: Path, place: tuple[int, int, int]
) -> tuple[bytes, str]:
    z, x, y = place
    image = reader.tile(x, y, z, tilesize=_SIDE, indexes=1, resampling_method="nearest")
    colors = dict(reader.dataset.colormap(1)) | dict.fromkeys(without, (0, 0, 0, 0))
    return image.render(img_format="PNG", colormap=colors, zlevel=1), "image/png"


def _reader(path: Path) -> Reader:
    """Return an open reader; each thread keeps some, as opening a file takes longer than a tile."""
    if not hasattr(_local, "readers"):
        _local.readers = OrderedDict()
    kept: OrderedDict[tuple[str, int, int | str], Reader] = _local.readers
    key = file_signature([path])[0]
    if key not in kept:
        if len(kept) >= _OPEN:
            kept.popitem(last=False)[1].close()
        kept[key] = Reader(str(path), dataset=rasterio.open(path, driver=driver_of(path)))
    kept.move_to_end(key)
    return kept[key]


def _limits_of(path: Path, bands: Sequence[int]) -> tuple[float, float]:
    """Return the values that become black and white, where a band has more than 8 bits."""
    key = file_signature([path])[0]
    if key not in _limits:
        with rasterio.open(path, driver=driver_of(path)) as file:
            step = max(1, max(file.width, file.height) // 512)
            shape = len(bands), max(1, file.height // step), max(1, file.width // step)
            values = file.read(list(bands), out_shape=shape, masked=True).compressed()
        low, high = np.percentile(values[np.isfinite(values)], (2, 98)) if values.size else (0, 1)
        _limits[key] = float(low), float(max(high, low + 1e-6))
    return _limits[key]


def _finished_rows(
    state: State, job: Job, scene: ServedScene, colors: np.ndarray
) -> np.ndarray | None:
    """Return RGBA of the finished rows of a map of pixels; none where there are none to see."""
    path = state.settings.jobs / job.id / "map" / "unfinished" / "classes.raw"
    height, width = scene.facts["height"], scene.facts["width"]
    try:
        if path.stat().st_size != height * width or not job.total:
            return None
        values = np.memmap(path, np.uint8, "r", shape=(height, width))
    except (OSError, ValueError):
        return None  # it has just been finished
    card = state.settings.registry.card(job.app)
    coarser = (card.gsd or scene.facts["gsd"]) / scene.facts["gsd"]
    if not is_one_strip(width / coarser, card.window, len(card.classes)):
        return None
    # Windows overlap, so of the rows under the last one a part is not final yet.
    ahead = card.window * coarser
    rows = int(height * job.done / job.total - ahead)
    if rows <= 0 and job.done < job.total:
        return None
    step = max(1, -(-max(height, width) // _PARTIAL_SIDE))
    classes = np.asarray(values[::step, ::step])
    picture = colors[classes]
    if job.done < job.total:
        picture[-(-rows // step) :] = 0
    return picture


def is_one_strip(columns: float, window: int, classes: int) -> bool:
    """Whether a map is surely made from top to bottom; see `inference.windows.strips_of`.

    Args:
        columns: of the model's grid.
        window: pixels a side.
        classes: of the model.
    """
    return columns <= _COLUMNS and columns * window * classes <= _SUMS


def _tilejson(request: Request, place: str, bounds: Sequence[float], gsd: float) -> dict[str, Any]:
    base = address_of(request)
    zoom = int(np.clip(np.ceil(np.log2(156_543.03 / max(gsd, 1e-3))), 0, 24))
    west, south, east, north = bounds
    return {
        "tilejson": "3.0.0",
        "tiles": [f"{base}{place}/{{z}}/{{x}}/{{y}}"],
        "bounds": list(bounds),
        "center": [(west + east) / 2, (south + north) / 2, max(0, zoom - 3)],
        "minzoom": max(0, zoom - 12),
        "maxzoom": zoom,
    }
