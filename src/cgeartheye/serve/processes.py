"""OGC API - Processes, Part 1 (OGC 18-062r2): applications as processes, and their jobs."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from cgeartheye import __version__
from cgeartheye.apps.card import Card
from cgeartheye.jobs.store import ENDED, Job
from cgeartheye.serve.auth import User, require
from cgeartheye.serve.problems import Problem
from cgeartheye.serve.requests import Execution, Inputs
from cgeartheye.serve.results import media_type, results_of, stac_item
from cgeartheye.serve.scenes import free_bytes, used_bytes
from cgeartheye.serve.state import State, state_of, user_of
from cgeartheye.utils.errors import UserError

router = APIRouter()

_CORE = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/"
CONFORMANCE = [
    f"{_CORE}{name}"
    for name in ("core", "ogc-process-description", "json", "oas30", "job-list", "dismiss")
]
_WAIT = 5.0  # seconds that a request without preference is answered with its results
_LONGEST_WAIT = 30.0
_LEAST_FREE = 2**30  # bytes of the disk below which no job is taken
_POLL = 0.25


@router.get("/conformance", tags=["OGC API"])
async def conformance() -> dict[str, Any]:
    """Conformance classes."""
    return {"conformsTo": CONFORMANCE}


@router.get("/processes", tags=["OGC API"])
def processes(
    request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """List the applications."""
    require(user_of(request), "read")
    cards = state_of(request).settings.registry.cards()[:limit]
    return {
        "processes": [_summary(card, request) for card in cards],
        "links": [_link(request, "/processes", "self")],
    }


@router.get("/processes/{process}", tags=["OGC API"])
def process(process: str, request: Request) -> dict[str, Any]:
    """Describe an application."""
    require(user_of(request), "read")
    card = card_of(state_of(request), process)
    fields = Inputs.model_json_schema(ref_template="#/$defs/{model}")
    properties, required = fields["properties"], fields.get("required", [])
    definitions = fields.get("$defs", {})
    if card.dates == 2:
        required = [*required, "after"]
    else:
        properties.pop("after")
    return {
        **_summary(card, request),
        "inputs": {
            name: {
                "title": name,
                "description": schema.get("description", name),
                "minOccurs": int(name in required),
                "maxOccurs": 1,
                "schema": _resolved(schema, definitions),
            }
            for name, schema in properties.items()
        },
        "outputs": {
            name: {"title": title, "schema": {"type": "string", "contentMediaType": kind}}
            for name, title, kind in _outputs(card)
        },
    }


@router.post("/processes/{process}/execution", tags=["OGC API"], status_code=201)
async def execute(
    process: str,
    body: Execution,
    request: Request,
    prefer: Annotated[str, Header()] = "",
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Run an application on a scene: at once where that takes a few seconds, else as a job.

    Args:
        process: id of the application.
        body: its inputs.
        request: of HTTP.
        prefer: `respond-async`, or `wait=SECONDS`.
        idempotency_key: the same key again returns the same job.
    """
    state, user = state_of(request), user_of(request)
    require(user, "run")

    def accept() -> Job:
        card = card_of(state, process)
        asked = state.planner.request(card, body.inputs, user)
        _refuse_crowd(state, user)
        return state.store.submit(card.id, asked, user.name, idempotency_key)

    job = await run_in_threadpool(accept)
    wait = re.search(r"wait=(\d+)", prefer)
    seconds = min(float(wait[1]), _LONGEST_WAIT) if wait else _WAIT
    if "respond-async" not in prefer:
        for _ in range(int(seconds / _POLL)):
            if job.status in ENDED:
                break
            await asyncio.sleep(_POLL)
            job = await run_in_threadpool(job_of, state, user, job.id)
        if job.status == "successful":
            return JSONResponse(results_of(state.settings, job, _base(request)))
        if job.status == "failed":
            raise Problem(422, job.message)
    place = f"{_base(request)}/jobs/{job.id}"
    applied = {"Preference-Applied": "respond-async"} if "respond-async" in prefer else {}
    return JSONResponse(
        status_info(state, job, _base(request)), 201, {"Location": place, **applied}
    )


@router.get("/jobs", tags=["OGC API"])
def jobs(
    request: Request,
    status: Annotated[list[str] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """List jobs, the newest first: one's own, for an admin all.

    Args:
        request: of HTTP.
        status: which; none: all.
        limit: how many at most.
        offset: how many to leave out.
    """
    state, user = state_of(request), user_of(request)
    require(user, "read")
    owner = None if "admin" in user.scopes else user.name
    found = state.store.find(owner, status or (), limit, offset)  # type: ignore[arg-type]
    links = [_link(request, "/jobs", "self")]
    if len(found) == limit:
        links.append(_link(request, f"/jobs?limit={limit}&offset={offset + limit}", "next"))
    return {"jobs": [status_info(state, job, _base(request)) for job in found], "links": links}


@router.get("/jobs/{job}", tags=["OGC API"])
def job_status(job: str, request: Request) -> dict[str, Any]:
    """Return the state of a job."""
    state, user = state_of(request), user_of(request)
    require(user, "read")
    return status_info(state, job_of(state, user, job), _base(request))


@router.delete("/jobs/{job}", tags=["OGC API"])
def dismiss(job: str, request: Request) -> dict[str, Any]:
    """Cancel a job; one that has ended is deleted with its results."""
    state, user = state_of(request), user_of(request)
    require(user, "run")
    found = job_of(state, user, job)
    if found.status in ENDED:
        state.delete(found.id)
        return {**status_info(state, found, _base(request)), "status": "dismissed"}
    state.store.cancel(found.id)
    return status_info(state, job_of(state, user, job), _base(request))


@router.get("/jobs/{job}/results", tags=["OGC API"])
def job_results(job: str, request: Request) -> dict[str, Any]:
    """Return links to the results of a job."""
    state, user = state_of(request), user_of(request)
    require(user, "read")
    return results_of(state.settings, successful_job(state, user, job), _base(request))


@router.get("/jobs/{job}/results/stac.json", tags=["results"])
def job_stac(job: str, request: Request) -> dict[str, Any]:
    """Return the results of a job as a STAC Item."""
    state, user = state_of(request), user_of(request)
    require(user, "read")
    found = successful_job(state, user, job)
    return stac_item(state.settings, found, _base(request))


@router.get("/jobs/{job}/results/{name}", tags=["results"])
@router.head("/jobs/{job}/results/{name}", include_in_schema=False)
def job_file(job: str, name: str, request: Request) -> FileResponse:
    """Return a file of the results; ranges of it too, as GDAL's /vsicurl/ asks for them.

    Args:
        job: its id.
        name: of the file.
        request: of HTTP.
    """
    state, user = state_of(request), user_of(request)
    require(user, "read")
    found = successful_job(state, user, job)
    kind = media_type(name)
    path = state.settings.jobs / found.id / "map" / name
    if kind is None or not path.is_file():
        raise Problem(404, "this job has no result of that name", "result-not-ready")
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=86400"})


@router.get("/jobs/{job}/events", tags=["results"])
async def events(job: str, request: Request) -> StreamingResponse:
    """Send the state of a job whenever it changes, as server-sent events, until it has ended."""
    state, user = state_of(request), user_of(request)
    require(user, "read")
    await run_in_threadpool(job_of, state, user, job)

    async def changes() -> AsyncIterator[str]:
        last, quiet = "", 0.0
        while not await request.is_disconnected():
            found = await run_in_threadpool(state.store.get, job)
            if found is None:
                return
            text = json.dumps(status_info(state, found, _base(request)))
            if text != last:
                last, quiet = text, 0.0
                yield f"id: {found.updated}\ndata: {text}\n\n"
            if found.status in ENDED:
                return
            if quiet > 15:
                quiet = 0.0
                yield ": still here\n\n"
            quiet += _POLL
            await asyncio.sleep(_POLL)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(changes(), media_type="text/event-stream", headers=headers)


def status_info(state: State, job: Job, base: str) -> dict[str, Any]:
    """Return a job as OGC's `statusInfo`, with what the page needs besides.

    Args:
        state: of the server.
        job: a row.
        base: address of the server.
    """
    place = f"{base}/jobs/{job.id}"
    links = [{"href": place, "rel": "self", "type": "application/json", "title": "state"}]
    if job.status == "successful":
        rel = "http://www.opengis.net/def/rel/ogc/1.0/results"
        links.append({"href": f"{place}/results", "rel": rel, "type": "application/json"})
    ahead = None
    if job.started and 0 < job.done < job.total:
        ahead = (job.updated - job.started) * (job.total - job.done) / job.done
    return {
        "jobID": job.id,
        "processID": job.app,
        "type": "process",
        "status": job.status,
        "message": "is being cancelled"
        if job.cancelled and job.status == "running"
        else job.message,
        "progress": job.progress,
        "created": _time(job.created),
        "started": _time(job.started),
        "updated": _time(job.updated),
        "finished": _time(job.finished),
        "links": links,
        "cgeartheye:seconds_left": ahead,
        "cgeartheye:labels": job.request.get("labels", []),
        "cgeartheye:bounds": job.request.get("bounds"),
        "cgeartheye:square_km": job.request.get("square_km"),
        "cgeartheye:scenes": job.request.get("scene_ids", []),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _refuse_crowd(state: State, user: User) -> None:
    settings = state.settings
    waiting = state.store.count("accepted", user.name) + state.store.count("running", user.name)
    if waiting >= settings.max_queued:
        raise Problem(
            429,
            f"{waiting} jobs of '{user.name}' wait or run, and {settings.max_queued} are allowed: "
            "wait until one has ended",
            headers={"Retry-After": "30"},
        )
    refuse_full_disk(state)


def refuse_full_disk(state: State) -> None:
    """Refuse what needs room when there is little.

    Raises:
        Problem: 507.
    """
    folder = state.settings.folder
    if free_bytes(folder) < _LEAST_FREE or used_bytes(folder) > state.settings.max_disk:
        raise Problem(
            507, "the server has no room for more: delete jobs and uploads, or ask its admin"
        )


def card_of(state: State, process: str) -> Card:
    """Return the card of an application.

    Args:
        state: of the server.
        process: id of the application.

    Raises:
        Problem: 404: there is none.
    """
    if process not in state.settings.registry.ids():
        raise Problem(404, f"there is no application '{process[:80]}'", "no-such-process")
    try:
        return state.settings.registry.card(process)
    except UserError as error:
        raise Problem(500, f"the card of '{process}' is damaged") from error


def job_of(state: State, user: User, job: str) -> Job:
    """Return a job that somebody may see: one's own, for an admin anybody's.

    Args:
        state: of the server.
        user: who asks.
        job: its id.

    Raises:
        Problem: 404: there is none.
    """
    found = state.store.get(job) if re.fullmatch("[0-9a-f]{32}", job) else None
    if found is None or (found.owner != user.name and "admin" not in user.scopes):
        raise Problem(404, "there is no job of this id", "no-such-job")
    return found


def successful_job(state: State, user: User, job: str) -> Job:
    """Return a job that has results; see `job_of`.

    Args:
        state: of the server.
        user: who asks.
        job: its id.

    Raises:
        Problem: 404 or 422: there is none, it has not ended, or it has failed.
    """
    found = job_of(state, user, job)
    if found.status == "failed":
        raise Problem(422, found.message, "job-results-failed")
    if found.status != "successful":
        raise Problem(404, f"the job is {found.status}: it has no results", "result-not-ready")
    return found


def _summary(card: Card, request: Request) -> dict[str, Any]:
    base = _base(request)
    place = f"{base}/processes/{card.id}"
    execute = "http://www.opengis.net/def/rel/ogc/1.0/execute"
    return {
        "id": card.id,
        "title": card.title,
        "description": card.description or card.title,
        "version": card.version,
        "keywords": [card.task.replace("_", " "), *card.classes[:20]],
        "jobControlOptions": ["sync-execute", "async-execute", "dismiss"],
        "outputTransmission": ["reference"],
        "links": [
            {"href": place, "rel": "self", "type": "application/json"},
            {"href": f"{place}/execution", "rel": execute, "type": "application/json"},
            {"href": f"{base}/apps/{card.id}/thumbnail", "rel": "preview", "type": "image/jpeg"},
            {
                "href": f"{base}/apps/{card.id}/card",
                "rel": "describedby",
                "type": "application/json",
            },
        ],
    }


def _outputs(card: Card) -> list[tuple[str, str, str]]:
    found = [("polygons", "polygons with class and confidence", "application/geopackage+sqlite3")]
    if card.task != "object_detection":
        tiff = "image/tiff; application=geotiff; profile=cloud-optimized"
        found.insert(0, ("map", "class of every pixel", tiff))
    return [*found, ("facts", "how it was made", "application/json")]


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    """Put definitions where a schema refers to them."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _resolved(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
        return {name: _resolved(inner, definitions) for name, inner in schema.items()}
    if isinstance(schema, list):
        return [_resolved(inner, definitions) for inner in schema]
    return schema


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _link(request: Request, path: str, rel: str) -> dict[str, str]:
    return {"href": f"{_base(request)}{path}", "rel": rel, "type": "application/json"}


def landing(request: Request) -> dict[str, Any]:
    """Return the landing page for programs."""
    base = _base(request)
    ogc = "http://www.opengis.net/def/rel/ogc/1.0/"
    links = [
        ("self", "", "this page"),
        ("service-desc", "/openapi.json", "the API as OpenAPI"),
        ("service-doc", "/docs", "the API for people"),
        (f"{ogc}conformance", "/conformance", "conformance classes"),
        (f"{ogc}processes", "/processes", "applications"),
        (f"{ogc}job-list", "/jobs", "jobs"),
    ]
    types = {
        "service-desc": "application/vnd.oai.openapi+json;version=3.0",
        "service-doc": "text/html",
    }
    return {
        "title": "CGEarthEye",
        "description": "Application models for sub-metre satellite imagery",
        "version": __version__,
        "links": [
            {
                "href": base + path,
                "rel": rel,
                "type": types.get(rel, "application/json"),
                "title": t,
            }
            for rel, path, t in links
        ],
    }
