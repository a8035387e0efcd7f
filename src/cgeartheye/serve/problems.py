"""Refusals: one sentence, as problem+json (RFC 9457)."""

from typing import Any, get_type_hints

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from cgeartheye.config.loader import fields_beside
from cgeartheye.utils.errors import nearest

_OGC = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
_TITLES = {
    400: "the request is wrong",
    401: "a token is needed",
    403: "this token may not do that",
    404: "there is no such thing",
    409: "this cannot be done now",
    413: "this is too large",
    415: "this kind of file is not accepted",
    422: "the request does not fit the application",
    429: "too many requests",
    507: "the server's disk is full",
}


class Problem(Exception):
    """A refusal.

    Attributes:
        status: of HTTP.
        detail: the sentence.
        kind: of OGC API - Processes, such as `no-such-job`.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        kind: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(detail)
        self.status, self.detail, self.kind, self.headers = status, detail, kind, headers


def answer(problem: Problem) -> JSONResponse:
    """Return the answer that describes a problem."""
    body: dict[str, Any] = {
        "type": f"{_OGC}{problem.kind}" if problem.kind else "about:blank",
        "title": _TITLES.get(problem.status, "the request failed"),
        "status": problem.status,
        "detail": problem.detail,
    }
    return JSONResponse(
        body, problem.status, problem.headers, media_type="application/problem+json"
    )


async def on_problem(_: Request, error: Exception) -> JSONResponse:
    """Answer a `Problem`, or what the web framework refuses."""
    if isinstance(error, Problem):
        return answer(error)
    assert isinstance(error, HTTPException)
    return answer(Problem(error.status_code, str(error.detail), headers=dict(error.headers or {})))


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer a request whose fields are wrong; the first of them is named."""
    assert isinstance(error, RequestValidationError)
    # A misspelt field is often also reported as a missing one: report the misspelling.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "json_invalid":
        return answer(
            Problem(400, f"the body is no JSON: {first['ctx']['error']} at character {place[-1]}")
        )
    message = first["msg"]
    if not place and first["type"] == "model_attributes_type":
        message = "send a JSON object with the header Content-Type: application/json"
    if first["type"] == "extra_forbidden":
        model = get_type_hints(request.scope["endpoint"])["body"]
        message = f"no such field{nearest(place[-1], fields_beside(model, place[:-1]))}"
    return answer(Problem(400, f"{'.'.join(place) or 'the body'}: {message}"))


async def on_crash(_: Request, error: Exception) -> JSONResponse:
    """Answer where the program has failed; the log has the traceback."""
    return answer(Problem(500, f"an error of the program ({type(error).__name__}): see its log"))
