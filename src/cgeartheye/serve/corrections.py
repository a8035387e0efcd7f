"""Routes of corrections: labels that say where a finished map is wrong, and what is there."""

import hashlib
import json
from typing import Annotated, Any

import shapely
from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field
from shapely.geometry import shape

from cgeartheye.embeddings.labels import CLASS, NOT, SOURCE
from cgeartheye.jobs.store import Job
from cgeartheye.serve.auth import require
from cgeartheye.serve.jobs import successful_job
from cgeartheye.serve.labelling import as_geojson, asked_version
from cgeartheye.serve.problems import Problem
from cgeartheye.serve.state import State, state_of, user_of

router = APIRouter(prefix="/jobs", tags=["few clicks"])


class _Corrections(BaseModel):
    type: str = "FeatureCollection"
    features: list[dict[str, Any]] = Field(
        description="with the property class: what is there, or 'not NAME', which of a map's two "
        "classes is the other one; time and color too"
    )


@router.get("/{job}/corrections")
def corrections(job: str, request: Request, response: Response) -> dict[str, Any]:
    """Return one's corrections of a map, the oldest first; the header `ETag` has their version.

    Args:
        job: that has made the map.
        request: of HTTP.
        response: of HTTP.
    """
    state, found, user = _opened(job, request, "read")
    features = _known(state, found, user)
    response.headers["ETag"] = _version(features)
    return {"type": "FeatureCollection", "features": features}


@router.put("/{job}/corrections")
def correct(
    job: str,
    body: _Corrections,
    request: Request,
    response: Response,
    if_match: Annotated[
        str | None, Header(description="ETag of the corrections that are replaced; else 409")
    ] = None,
) -> dict[str, Any]:
    """Put corrections of a map in the place of one's own; they are labels of its scene.

    Args:
        job: that has made the map.
        body: the corrections.
        request: of HTTP.
        response: of HTTP.
        if_match: a header; none: whatever is there is replaced.
    """
    state, found, user = _opened(job, request, "run")
    source, others = source_of(found), _others(state, found)
    by_scene = _by_scene(state, found, body.features)
    # Before the corrections are read: those that come in between are seen by `write`.
    versions: dict[str, str | None] = dict.fromkeys(by_scene)
    if (wanted := asked_version(if_match)) is not None:
        versions = {scene: state.labelling.version(scene, user) for scene in by_scene}
        if wanted != asked_version(_version(_known(state, found, user))):
            raise Problem(409, "the corrections were changed by others: read them again")
    for scene, features in by_scene.items():
        for one in features:
            own = one["properties"] = {**one["properties"], SOURCE: source}
            if (name := str(own.get(CLASS)).strip()) in others:
                own[CLASS] = others[name]
        state.labelling.write(scene, user, features, source, versions[scene])
    response.headers["ETag"] = _version(_known(state, found, user))
    return {"count": len(body.features), SOURCE: source}


def _known(state: State, job: Job, user: str) -> list[dict[str, Any]]:
    """Return a user's corrections of the map of a job, the oldest first."""
    features: list[dict[str, Any]] = []
    for scene in job.request["scene_ids"]:
        known = as_geojson(state.labelling.read(scene, user))["features"]
        features += [one for one in known if one["properties"][SOURCE] == source_of(job)]
    return sorted(features, key=lambda one: str(one["properties"]["time"]))


def _version(features: list[dict[str, Any]]) -> str:
    """Return the ETag of corrections; other labels of their scenes do not change it."""
    content = json.dumps(features, sort_keys=True).encode()
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def source_of(job: Job) -> str:
    """Return what the column `source` of a correction has."""
    return f"correction of {job.app}, job {job.id}"


def _others(state: State, job: Job) -> dict[str, str]:
    """Return what 'not NAME' is on a map of two classes, which labels alone do not name."""
    path = state.settings.jobs / job.id / "map" / "map.json"
    if not path.is_file():
        raise Problem(404, "this job has made no map")
    names = [one["name"] for one in json.loads(path.read_text())["classes"]]
    return {f"{NOT}{names[n]}": names[1 - n] for n in range(2)} if len(names) == 2 else {}


def _opened(job: str, request: Request, scope: str) -> tuple[State, Job, str]:
    """The server's state, a job whose map can be corrected, and the name of who asks."""
    state, user = state_of(request), user_of(request)
    require(user, scope)
    found = successful_job(state, user, job)
    if found.request.get("kind") or found.request.get("after"):
        raise Problem(422, "only maps of one date can be corrected")
    return state, found, user.name


def _by_scene(
    state: State, job: Job, features: list[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Corrections by the scene of the map that each is on; scenes without one have none."""
    scenes = {name: state.scenes.get(name, None) for name in job.request["scene_ids"]}
    outlines = {name: shapely.Polygon(one.facts["outline"]) for name, one in scenes.items()}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in scenes}
    for feature in features:
        try:
            geometry = shape(feature["geometry"])
            own = dict(feature["properties"])
        except (KeyError, TypeError, ValueError, AttributeError, shapely.GEOSException) as e:
            raise Problem(
                400, "a correction is no GeoJSON Feature with the property 'class'"
            ) from e
        if geometry.is_empty:
            raise Problem(400, "a correction has no place")
        middle = geometry.representative_point()
        on = next((name for name, outline in outlines.items() if outline.covers(middle)), None)
        if on is None:
            raise Problem(422, "a correction is outside of the map's scenes: draw it inside")
        found[on].append({**feature, "properties": own})
    return found
