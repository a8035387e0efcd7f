"""OGC API - Processes, Part 1 (OGC 18-062r2): applications as processes."""

import asyncio
import re
import shutil
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from cgeartheye import __version__
from cgeartheye.apps.card import Card
from cgeartheye.jobs.store import ENDED, Job
from cgeartheye.serve.auth import User, require
from cgeartheye.serve.jobs import job_of, status_info
from cgeartheye.serve.problems import Problem
from cgeartheye.serve.requests import Execution, Inputs
from cgeartheye.serve.results import results_of
from cgeartheye.serve.state import State, address_of, link, state_of, user_of
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
        "links": [link(request, "/processes", "self")],
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
        known = idempotency_key and state.store.keyed(user.name, idempotency_key)
        if known:
            return known
        asked = state.planner.request(card, body.inputs, user)
        size = asked.pop("disk_bytes")
        refuse_crowd(state, user)
        refuse_full_disk(state, size)
        return state.store.submit(card.id, asked, user.name, idempotency_key, size)

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
            return JSONResponse(results_of(state.settings, job, address_of(request)))
        if job.status == "failed":
            raise Problem(422, job.message)
    place = f"{address_of(request)}/jobs/{job.id}"
    applied = {"Preference-Applied": "respond-async"} if "respond-async" in prefer else {}
    return JSONResponse(
        status_info(state, job, address_of(request)), 201, {"Location": place, **applied}
    )


def refuse_crowd(state: State, user: User) -> None:
    """Refuse a job of one who has many already.

    Args:
        state: of the server.
        user: who asks.

    Raises:
        Problem: 429.
    """
    settings = state.settings
    waiting = state.store.count("accepted", user.name) + state.store.count("running", user.name)
    if waiting >= settings.max_queued:
        raise Problem(
            429,
            f"{waiting} jobs of '{user.name}' wait or run, and {settings.max_queued} are allowed: "
            "wait until one has ended",
            headers={"Retry-After": "30"},
        )


def refuse_full_disk(state: State, needed: int) -> None:
    """Refuse what needs room when there is little.

    Args:
        state: of the server.
        needed: bytes, about.

    Raises:
        Problem: 507.
    """
    used = state.store.disk_bytes() + state.scenes.disk_bytes()
    free = shutil.disk_usage(state.settings.folder).free
    if free - needed < _LEAST_FREE or used + needed >= state.settings.max_disk:
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


def _summary(card: Card, request: Request) -> dict[str, Any]:
    base = address_of(request)
    place = f"{base}/processes/{card.id}"
    execute = "http://www.opengis.net/def/rel/ogc/1.0/execute"
    return {
        "id": card.id,
        "title": card.title,
        "description": card.description or card.title,
        "version": card.version,
        "keywords": [card.task.replace("_", " "), *card.classes],
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


def landing(request: Request) -> dict[str, Any]:
    """Return the landing page for programs."""
    base = address_of(request)
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
