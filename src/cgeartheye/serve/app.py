"""The server: routes, who may use them, and what surrounds them."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter, run_sync
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from cgeartheye import __version__
from cgeartheye.apps.card import THUMBNAIL
from cgeartheye.jobs.store import STATUSES
from cgeartheye.serve import corrections, jobs, labels, processes, similar, tiles
from cgeartheye.serve.auth import COOKIE, require
from cgeartheye.serve.problems import Problem, answer, on_crash, on_invalid, on_problem
from cgeartheye.serve.processes import card_of
from cgeartheye.serve.requests import Inputs
from cgeartheye.serve.settings import Settings
from cgeartheye.serve.state import State, state_of, user_of
from cgeartheye.utils.events import log_event

PAGES = Path(__file__).parent / "pages"
_TIDY_SECONDS = 600.0
# Answers that are made at a time: each thread keeps rasters and a connection of its own open, and
# more than a few for each core answer nothing sooner.
_THREADS = max(8, 4 * (os.cpu_count() or 1))
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "worker-src 'self' blob:; connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; "
    "form-action 'self'; object-src 'none'"
)
_PREVIEW_POLICY = "sandbox allow-scripts; default-src 'unsafe-inline' data: blob:"


def create_app(settings: Settings) -> FastAPI:
    """Make the server's application.

    Args:
        settings: of the server.

    Raises:
        UserError: a folder, a database or a token file that cannot be used.
    """
    state = State.of(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = _THREADS
        tidying = asyncio.create_task(_tidy(state))
        yield
        tidying.cancel()

    app = FastAPI(
        title="CGEarthEye",
        version=__version__,
        description="Application models for sub-metre satellite imagery: OGC API - Processes.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.cgeartheye = state
    for kind, handler in (
        (Problem, on_problem),
        (HTTPException, on_problem),
        (RequestValidationError, on_invalid),
        (Exception, on_crash),
    ):
        app.add_exception_handler(kind, handler)
    app.middleware("http")(_surround)
    app.include_router(processes.router)
    for part in (jobs, tiles, labels, similar, corrections):
        app.include_router(part.router)
    _add_scenes(app)
    _add_applications(app)
    _add_operations(app)
    _add_pages(app)
    return app


async def _tidy(state: State) -> None:
    while True:
        await run_in_threadpool(state.tidy)
        await asyncio.sleep(_TIDY_SECONDS)


async def _surround(request: Request, call_next: Any) -> Response:
    """Count, refuse foreign pages, and add the headers that keep the page to itself."""
    started = time.monotonic()
    refused = _foreign(request)
    response: Response = answer(refused) if refused else await call_next(request)
    seconds = time.monotonic() - started
    state_of(request).count(response.status_code, seconds)
    if "/tiles/" not in request.url.path and request.url.path != "/health":
        log_event(
            "request",
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            ms=round(1000 * seconds, 1),
        )
    preview = request.url.path.endswith("/preview.html")
    response.headers.setdefault("Content-Security-Policy", _PREVIEW_POLICY if preview else _POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _foreign(request: Request) -> Problem | None:
    """Return why a request of another site's page is refused: the browser would send our cookie."""
    origin = request.headers.get("origin")
    if request.method in ("GET", "HEAD", "OPTIONS") or origin is None:
        return None
    if origin.partition("://")[2] == request.headers.get("host"):
        return None
    return Problem(403, "requests of other sites' pages are refused")


def _add_scenes(app: FastAPI) -> None:
    @app.get("/scenes", tags=["scenes"])
    def scenes(request: Request) -> dict[str, Any]:
        """List the scenes: the operator's and one's own; and the operator's that cannot be read."""
        user = user_of(request)
        require(user, "read")
        found, left_out = state_of(request).scenes.overview(user.sees)
        return {
            "scenes": [one.to_json() for one in found],
            "left_out": [asdict(one) for one in left_out],
        }

    @app.get("/scenes/{scene}", tags=["scenes"])
    def scene(scene: str, request: Request) -> dict[str, Any]:
        """Describe a scene."""
        user = user_of(request)
        require(user, "read")
        return state_of(request).scenes.get(scene, user.sees).to_json()

    @app.post("/scenes", tags=["scenes"], status_code=201)
    async def upload(
        request: Request, name: Annotated[str, Query(max_length=255)] = "scene.tif"
    ) -> JSONResponse:
        """Upload a georeferenced raster: its bytes are the body."""
        user, state = user_of(request), state_of(request)
        require(user, "run")
        length = request.headers.get("content-length", "0")
        size = int(length) if length.isdigit() else 0
        if size > state.settings.max_upload:
            limit = state.settings.max_upload / 2**20
            raise Problem(413, f"the file is larger than {limit:,.0f} MB")
        await run_in_threadpool(processes.refuse_full_disk, state, size)
        made = await state.scenes.upload(name, user.name, request.stream())
        place = f"{str(request.base_url).rstrip('/')}/scenes/{made.id}"
        return JSONResponse(made.to_json(), 201, {"Location": place})

    @app.delete("/scenes/{scene}", tags=["scenes"], status_code=204)
    def remove(scene: str, request: Request) -> Response:
        """Delete an upload."""
        user, state = user_of(request), state_of(request)
        require(user, "run")
        state.scenes.remove(state.scenes.get(scene, user.sees))
        return Response(status_code=204)


def _add_applications(app: FastAPI) -> None:
    @app.get("/apps", tags=["applications"])
    def cards(request: Request) -> dict[str, Any]:
        """Return the cards of all applications as STAC Items."""
        require(user_of(request), "read")
        found = [card.to_stac() for card in state_of(request).settings.registry.cards()]
        return {"type": "FeatureCollection", "features": found}

    @app.get("/apps/{name}/card", tags=["applications"])
    def card(name: str, request: Request) -> dict[str, Any]:
        """Return the card of an application as a STAC Item."""
        require(user_of(request), "read")
        return card_of(state_of(request), name).to_stac()

    @app.get("/apps/{name}/thumbnail", tags=["applications"])
    def thumbnail(name: str, request: Request) -> FileResponse:
        """Return the picture of an application."""
        require(user_of(request), "read")
        card = card_of(state_of(request), name)
        path = state_of(request).settings.registry.folder / card.id / THUMBNAIL
        if not path.is_file():
            raise Problem(404, "this application has no picture")
        return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})

    @app.post("/apps/{name}/fit", tags=["applications"])
    def fit(name: str, body: Inputs, request: Request) -> dict[str, Any]:
        """Say whether scenes fit an application, and what a map of them will take."""
        user, state = user_of(request), state_of(request)
        require(user, "read")
        return state.planner.fit(card_of(state, name), body, user)


def _add_operations(app: FastAPI) -> None:
    own_thread = CapacityLimiter(1)  # whoever watches the server does not wait for slow answers

    @app.get("/health", tags=["operations"])
    async def health(request: Request) -> dict[str, Any]:
        """Say that the server and its database answer."""
        await run_sync(state_of(request).store.count, "running", limiter=own_thread)
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", tags=["operations"])
    def metrics(request: Request) -> PlainTextResponse:
        """Return counts in Prometheus' text format."""
        state = state_of(request)
        if state.settings.token_file:
            require(user_of(request), "admin")
        lines = ["# TYPE cgeartheye_jobs gauge"]
        lines += [f'cgeartheye_jobs{{status="{s}"}} {state.store.count(s)}' for s in STATUSES]
        lines.append("# TYPE cgeartheye_requests_total counter")
        with state.lock:
            lines += [
                f'cgeartheye_requests_total{{status="{code}"}} {count}'
                for code, count in sorted(state.answered.items())
            ]
            lines.append("# TYPE cgeartheye_request_seconds_total counter")
            lines.append(f"cgeartheye_request_seconds_total {state.seconds:.6f}")
        return PlainTextResponse("\n".join(lines) + "\n")


class _Token(BaseModel):
    token: str


def _add_pages(app: FastAPI) -> None:
    @app.post("/session", tags=["operations"], status_code=204)
    def session(body: _Token, request: Request) -> Response:
        """Keep a token in a cookie that scripts cannot read, for the page."""
        response = Response(status_code=204)
        secure = request.url.scheme == "https"
        response.set_cookie(
            COOKIE, body.token, httponly=True, samesite="strict", secure=secure, max_age=86_400 * 30
        )
        return response

    @app.get("/", include_in_schema=False)
    def root(request: Request) -> Response:
        """Return the page to browsers, and the landing page of the API to programs."""
        if (
            "text/html" in request.headers.get("accept", "")
            and request.query_params.get("f") != "json"
        ):
            return FileResponse(PAGES / "index.html", headers={"Cache-Control": "no-cache"})
        return JSONResponse(processes.landing(request))

    @app.get("/docs", include_in_schema=False)
    def api() -> FileResponse:
        """Return the page on the API, which needs no foreign script."""
        return FileResponse(PAGES / "api.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=PAGES), name="static")
