"""Jobs of OGC API - Processes: their states, events and results."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from cgeartheye.jobs.store import ENDED, Job
from cgeartheye.serve.auth import User, require
from cgeartheye.serve.problems import Problem
from cgeartheye.serve.results import media_type, results_of, stac_item
from cgeartheye.serve.state import State, address_of, link, state_of, user_of

router = APIRouter()

_POLL = 0.25  # seconds between two looks at a job


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
    found = state.store.find(user.sees, status or (), limit=limit, offset=offset)  # type: ignore[arg-type]
    links = [link(request, "/jobs", "self")]
    if len(found) == limit:
        links.append(link(request, f"/jobs?limit={limit}&offset={offset + limit}", "next"))
    return {"jobs": [status_info(state, job, address_of(request)) for job in found], "links": links}


@router.get("/jobs/{job}", tags=["OGC API"])
def job_status(job: str, request: Request) -> dict[str, Any]:
    """Return the state of a job."""
    state, user = state_of(request), user_of(request)
    require(user, "read")
    return status_info(state, job_of(state, user, job), address_of(request))


@router.delete("/jobs/{job}", tags=["OGC API"])
def dismiss(job: str, request: Request) -> dict[str, Any]:
    """Cancel a job; one that has ended is deleted with its results."""
    state, user = state_of(request), user_of(request)
    require(user, "run")
    found = job_of(state, user, job)
    if found.status in ENDED:
        state.delete(found.id)
        return {**status_info(state, found, address_of(request)), "status": "dismissed"}
    state.store.cancel(found.id)
    return status_info(state, job_of(state, user, job), address_of(request))


@router.get("/jobs/{job}/results", tags=["OGC API"])
def job_results(job: str, request: Request) -> dict[str, Any]:
    """Return links to the results of a job."""
    state, user = state_of(request), user_of(request)
    require(user, "read")
    return results_of(state.settings, successful_job(state, user, job), address_of(request))


@router.get("/jobs/{job}/results/stac.json", tags=["results"])
def job_stac(job: str, request: Request) -> dict[str, Any]:
    """Return the results of a job as a STAC Item."""
    state, user = state_of(request), user_of(request)
    require(user, "read")
    found = successful_job(state, user, job)
    return stac_item(state.settings, found, address_of(request))


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
    kind = media_type(state.settings, found, name)
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
            text = json.dumps(status_info(state, found, address_of(request)))
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
    if found is None or (user.sees not in (None, found.owner)):
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
