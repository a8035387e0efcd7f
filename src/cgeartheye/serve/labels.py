"""Routes of few-click labelling: embed, label, see the map, search, make an application."""

import io
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rasterio
import shapely
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from pyproj import Transformer
from starlette.background import BackgroundTask

from cgeartheye.embeddings.redraw import NODATA, classes_at, draw_classes
from cgeartheye.embeddings.suggest import frame_of as suggestions_of
from cgeartheye.embeddings.suggest import suggest
from cgeartheye.jobs.store import Job
from cgeartheye.serve.auth import User, require
from cgeartheye.serve.jobs import status_info, successful_job
from cgeartheye.serve.labelling import EMBED, CurrentMap, as_geojson, asked_version
from cgeartheye.serve.problems import Problem
from cgeartheye.serve.processes import refuse_crowd, refuse_full_disk
from cgeartheye.serve.scenes import ServedScene
from cgeartheye.serve.state import State, address_of, state_of, user_of
from cgeartheye.utils.errors import UserError

router = APIRouter(prefix="/embeddings", tags=["few clicks"])

APPLICATION = "application"
_SIDE, _LATTICE = 256, 17  # pixels of a tile, and places on each side that are projected exactly
_WORLD = 20_037_508.342789244  # metres from the middle of Web Mercator to its edge
_MOST_PIXELS = 400_000_000  # of a map that is drawn for a download


class _Scene(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scene: str = Field(description="id of a scene")


class _Labels(BaseModel):
    type: str = "FeatureCollection"
    features: list[dict[str, Any]] = Field(description="with the property class; time is optional")


class _Named(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=120, description="of the application, for people")


@router.post("", status_code=201)
def embed(body: _Scene, request: Request) -> JSONResponse:
    """Embed a scene as a job; an embedding that is there, or is being made, is returned.

    One of a file that was replaced since is not: the scene is embedded again.

    Args:
        body: the scene.
        request: of HTTP.
    """
    state, user = state_of(request), user_of(request)
    require(user, "run")
    scene = state.scenes.get(body.scene, user.sees)
    for job in state.store.find(user.sees, ("accepted", "running", "successful"), EMBED, 1000):
        if shows(job, scene, state):
            return JSONResponse(status_info(state, job, address_of(request)), 200)
    pixels = scene.facts["width"] * scene.facts["height"]
    square_km = pixels * scene.facts["gsd"] ** 2 / 1e6
    if square_km > state.settings.max_area:
        limit = state.settings.max_area
        raise Problem(413, f"{square_km:,.1f} km2 are more than the {limit:,.1f} km2 of a job")
    refuse_crowd(state, user)
    size = pixels // 2  # bytes: an embedding of tiny takes 0.3 a pixel
    refuse_full_disk(state, size)
    asked = {
        "kind": EMBED,
        "scenes": [str(scene.path)],
        "labels": [scene.label],
        "scene_ids": [scene.id],
        "scene_version": state.scenes.version(scene),
        "bounds": scene.facts["bounds"],
        "square_km": square_km,
    }
    job = state.store.submit(EMBED, asked, user.name, disk_bytes=size)
    return JSONResponse(status_info(state, job, address_of(request)), 201)


@router.get("/{job}/labels")
def labels(job: str, request: Request, response: Response) -> dict[str, Any]:
    """Return one's labels of an embedded scene, and what they make of it.

    `reason`: why labels of two classes make no `map`. The header `ETag` has the labels' version.

    Args:
        job: of the embedding.
        request: of HTTP.
        response: of HTTP.
    """
    state, found, user = opened(job, request, "read")
    # Before the labels are read: of newer ones than the version says none are lost.
    response.headers["ETag"] = f'"{state.labelling.version(_scene(found), user.name)}"'
    try:
        known = state.labelling.read(_scene(found), user.name)
    except UserError as error:
        raise _refusal(error, state, found, user) from error
    return {"labels": as_geojson(known), **_outcome(state, found, user)}


@router.put("/{job}/labels")
def relabel(
    job: str,
    body: _Labels,
    request: Request,
    response: Response,
    if_match: Annotated[
        str | None, Header(description="ETag of the labels that are replaced; else 409")
    ] = None,
) -> dict[str, Any]:
    """Put labels in the place of one's own; returns what they make of the scene, as GET does.

    Args:
        job: of the embedding.
        body: the labels.
        request: of HTTP.
        response: of HTTP.
        if_match: a header; none: whatever is there is replaced.
    """
    state, found, user = opened(job, request, "run")
    version = state.labelling.write(
        _scene(found), user.name, body.features, version=asked_version(if_match)
    )
    response.headers["ETag"] = f'"{version}"'
    return _outcome(state, found, user)


@router.get("/{job}/accuracy")
def accuracy(job: str, request: Request) -> dict[str, Any]:
    """Estimate the accuracy of the map that one's labels make, by leaving out places.

    `calibration`: expected calibration error of the probabilities before and after, both 0..1, and
    the temperature that suggestions use.
    """
    made = _needed(_current(*opened(job, request, "read")))
    return {
        "version": made.version,
        "labels": len(set(made.patches.labels.tolist())),
        "accuracy": made.held_out.accuracy if made.held_out else None,
        "calibration": asdict(made.calibration) if made.calibration else None,
    }


@router.get("/{job}/labels.gpkg")
def download_labels(job: str, request: Request) -> FileResponse:
    """Return one's labels as a GeoPackage."""
    state, found, user = opened(job, request, "read")
    path = state.labelling.path(_scene(found), user.name)
    if not path.is_file():
        raise Problem(404, "there are no labels yet")
    return FileResponse(path, media_type="application/geopackage+sqlite3", filename="labels.gpkg")


@router.get("/{job}/map.tif")
def download_map(job: str, request: Request) -> FileResponse:
    """Return the map that one's labels make of the scene, at its pixels."""
    state, found, user = opened(job, request, "read")
    made = _needed(_current(state, found, user))
    height, width = made.embedding.scene_shape
    if height * width > _MOST_PIXELS:
        raise Problem(413, "the scene is too large to draw here: make an application, and run it")
    drawn = draw_classes(
        made.probabilities, made.embedding.valid, made.embedding.cell, (0, height), (0, width)
    )
    with tempfile.NamedTemporaryFile(suffix=".tif", delete=False) as file:
        path = Path(file.name)
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": NODATA}
    place = {"crs": made.embedding.crs, "transform": made.embedding.scene_transform}
    more = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    with rasterio.open(path, "w", height=height, width=width, **profile, **place, **more) as out:
        out.write(drawn, 1)
        out.write_colormap(1, {n: (*c, 255) for n, c in enumerate(made.colors)})
        out.update_tags(CLASSES=",".join(made.decoder.names))
    return FileResponse(
        path,
        media_type="image/tiff; application=geotiff",
        filename="map.tif",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


@router.get("/{job}/tiles/{z}/{x}/{y}")
def tile(job: str, z: int, x: int, y: int, request: Request, version: str = "") -> Response:
    """Return a tile of the map that one's labels make, as PNG.

    Args:
        job: of the embedding.
        z: zoom of the tile.
        x: column of the tile.
        y: row of the tile.
        request: of HTTP.
        version: of the labels, so that browsers keep tiles as long as these stay.
    """
    state, found, user = opened(job, request, "read")
    if not (0 <= z <= 30 and 0 <= x < 2**z and 0 <= y < 2**z):
        raise Problem(404, f"there is no tile {z}/{x}/{y}")
    made = _current(state, found, user)
    if made is None:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    classes = classes_at(made.probabilities, made.embedding.valid, *_on_patches(made, z, x, y))
    kept = "private, max-age=86400" if version == made.version else "no-store"
    if (classes == NODATA).all():
        return Response(status_code=204, headers={"Cache-Control": kept})
    palette = np.zeros((256, 4), np.uint8)
    palette[: len(made.colors)] = [(*color, 255) for color in made.colors]
    stream = io.BytesIO()
    Image.fromarray(palette[classes]).save(stream, "PNG", compress_level=1)
    return Response(stream.getvalue(), media_type="image/png", headers={"Cache-Control": kept})


@router.get("/{job}/suggestions")
def suggestions(
    job: str, request: Request, count: Annotated[int, Query(ge=1, le=100)] = 10
) -> dict[str, Any]:
    """Return places to label next, the most useful first.

    Args:
        job: of the embedding.
        request: of HTTP.
        count: of the places.
    """
    state, found, user = opened(job, request, "read")
    embedding = state.labelling.embedding(found.id)
    try:
        patches = state.labelling.patches(found.id, _scene(found), user.name)
        made = None if patches is None else _current(state, found, user)
        decoder = made.decoder if made else None
        if made and made.calibration:
            decoder = made.decoder.tempered(made.calibration.temperature)
        rows, columns = suggest(embedding, decoder, patches, count)
    except UserError as error:
        raise _refusal(error, state, found, user) from error
    guesses: list[str] = []
    if decoder is not None:
        likely = decoder.probabilities(embedding.components(rows, columns)).argmax(-1)
        guesses = [decoder.names[number] for number in likely]
    return collection(suggestions_of(embedding, rows, columns, guesses))


@router.post("/{job}/application", status_code=201)
def make_application(job: str, body: _Named, request: Request) -> JSONResponse:
    """Train the light decoder on one's labels and publish it, as a job.

    Args:
        job: of the embedding.
        body: name of the application.
        request: of HTTP.
    """
    state, found, user = opened(job, request, "admin")
    _needed(_current(state, found, user))
    refuse_crowd(state, user)
    refuse_full_disk(state, 0)
    asked = {
        **{name: found.request[name] for name in ("scenes", "labels", "scene_ids", "bounds")},
        "kind": APPLICATION,
        "square_km": found.request["square_km"],
        "label_file": str(state.labelling.path(_scene(found), user.name)),
        "name": body.name,
    }
    made = state.store.submit(APPLICATION, asked, user.name)
    return JSONResponse(status_info(state, made, address_of(request)), 201)


def opened(job: str, request: Request, scope: str) -> tuple[State, Job, User]:
    """Return the server's state, the job of an embedding, and who asks.

    Args:
        job: its id.
        request: of HTTP.
        scope: that is needed.

    Raises:
        Problem: 401, 403 or 404.
    """
    state, user = state_of(request), user_of(request)
    require(user, scope)
    found = successful_job(state, user, job)
    if found.request.get("kind") != EMBED:
        raise Problem(404, "this job has no embedding")
    return state, found, user


def _scene(job: Job) -> str:
    return str(job.request["scene_ids"][0])


def shows(job: Job, scene: ServedScene, state: State) -> bool:
    """Return whether an embedding is of a scene as its file is now.

    Args:
        job: of the embedding.
        scene: of the server.
        state: of the server.
    """
    return job.request["scene_ids"] == [scene.id] and (
        job.request.get("scene_version") == state.scenes.version(scene)
    )


def _current(state: State, job: Job, user: User) -> CurrentMap | None:
    try:
        return state.labelling.current(job.id, _scene(job), user.name)
    except UserError as error:
        raise _refusal(error, state, job, user) from error


def _refusal(error: UserError, state: State, job: Job, user: User) -> Problem:
    """Return what is wrong with labels, without the place of their file."""
    path = state.labelling.path(_scene(job), user.name)
    return Problem(422, str(error).replace(str(path), "labels.gpkg"))


def _outcome(state: State, job: Job, user: User) -> dict[str, Any]:
    """Return what labels make of a scene, or why they make nothing, so that they can be mended."""
    try:
        return {"map": _facts(_current(state, job, user)), "reason": None}
    except Problem as problem:
        if problem.status != 422:
            raise
        return {"map": None, "reason": problem.detail}


def _needed(made: CurrentMap | None) -> CurrentMap:
    if made is None:
        raise Problem(422, "label at least one place each of two classes")
    return made


def _facts(made: CurrentMap | None) -> dict[str, Any] | None:
    if made is None:
        return None
    return {"version": made.version, "legend": made.legend}


def _on_patches(made: CurrentMap, z: int, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a tile's pixels, counted in patches; exact on a lattice, else between."""
    size = 2 * _WORLD / 2**z
    edges = np.linspace(0, 1, _LATTICE)
    east, north = np.meshgrid(-_WORLD + (x + edges) * size, _WORLD - (y + edges) * size)
    crs = made.embedding.crs
    assert crs is not None  # scenes of a server have a place on Earth
    to_scene = Transformer.from_crs("EPSG:3857", crs.to_wkt(), always_xy=True)
    columns, rows = ~made.embedding.transform @ to_scene.transform(east, north)
    at = (np.arange(_SIDE) + 0.5) / _SIDE * (_LATTICE - 1)
    low = np.minimum(at.astype(int), _LATTICE - 2)
    part = at - low

    def between(values: np.ndarray) -> np.ndarray:
        lines = values[low] * (1 - part)[:, None] + values[low + 1] * part[:, None]
        return np.asarray(lines[:, low] * (1 - part) + lines[:, low + 1] * part)

    return between(rows), between(columns)


def collection(frame: Any) -> dict[str, Any]:
    """Return a table of places as a FeatureCollection."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {k: v for k, v in row.items() if k != "geometry"},
                "geometry": shapely.geometry.mapping(row["geometry"]),
            }
            for row in frame.to_dict("records")
        ],
    }
