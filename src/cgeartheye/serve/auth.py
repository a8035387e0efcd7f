"""Tokens: who asks, and what they may do.

A token file has a line for each token: name, scopes joined by commas, and the SHA-256 of the token.
The token itself is shown once, when it is made, and kept nowhere.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from cgeartheye.serve.problems import Problem
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_text

SCOPES = ("read", "run", "admin")
COOKIE = "cgeartheye_token"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"


@dataclass(frozen=True)
class User:
    """One who asks.

    Attributes:
        name: of the token.
        scopes: read, run, admin; each has those before it.
    """

    name: str
    scopes: frozenset[str]

    @property
    def sees(self) -> str | None:
        """Whose scenes and jobs the user sees; none: everybody's."""
        return None if "admin" in self.scopes else self.name


EVERYBODY = User("local", frozenset(SCOPES))


def add_token(path: Path, name: str, scope: str) -> str:
    """Make a token and add it to a file.

    Args:
        path: of the token file, which is made if it is not there.
        name: of who gets it.
        scope: the highest that it has.

    Returns:
        The token.

    Raises:
        UserError: a wrong name or scope, a name that is taken, or the file cannot be written.
    """
    if not re.fullmatch(_NAME, name):
        raise UserError(f"'{name}' is no name for a token: use letters, digits, '.', '-' and '_'")
    if scope not in SCOPES:
        raise UserError(f"scope '{scope}' is unknown: give one of {', '.join(SCOPES)}")
    known = _read(path) if path.exists() else {}
    if any(user.name == name for user in known.values()):
        raise UserError(f"{path} has a token '{name}' already: remove its line first")
    token = secrets.token_urlsafe(32)
    scopes = ",".join(SCOPES[: SCOPES.index(scope) + 1])
    lines = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, f"{lines}{name} {scopes} {_digest(token)}\n")
    path.chmod(0o600)
    return token


class Users:
    """Those whom a token file names; it is read again when it changes."""

    def __init__(self, path: Path | None):
        """Read a file.

        Args:
            path: of the file; none: everybody may do all.

        Raises:
            UserError: it cannot be read, or has a line that is no token.
        """
        self._path = path
        self._known = {} if path is None else _read(path)
        self._read_at = 0.0 if path is None else path.stat().st_mtime

    def of(self, request: Request) -> User:
        """Return who asks.

        Raises:
            Problem: 401: no token, or none that is known.
        """
        if self._path is None:
            return EVERYBODY
        self._read_again()
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        token = given.strip() if kind.lower() == "bearer" else request.cookies.get(COOKIE, "")
        digest = _digest(token)
        for known, user in self._known.items():
            if hmac.compare_digest(known, digest):
                return user
        raise Problem(
            401,
            "send a token: Authorization: Bearer TOKEN" if not token else "this token is not known",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _read_again(self) -> None:
        assert self._path is not None
        try:
            now = self._path.stat().st_mtime
            if now != self._read_at:
                self._known, self._read_at = _read(self._path), now
        except (OSError, UserError):
            return  # the last good one holds


class RateLimit:
    """A token bucket for each user."""

    def __init__(self, per_second: float, burst_seconds: float = 10.0):
        """Set the rate.

        Args:
            per_second: requests on average.
            burst_seconds: that may be used at once.
        """
        self._rate, self._size = per_second, per_second * burst_seconds
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, user: str) -> None:
        """Count a request.

        Raises:
            Problem: 429: there were too many.
        """
        now = time.monotonic()
        with self._lock:
            left, last = self._buckets.get(user, (self._size, now))
            left = min(self._size, left + (now - last) * self._rate)
            if left < 1:
                wait = (1 - left) / self._rate
                raise Problem(
                    429,
                    f"more than {self._rate:g} requests a second: wait {wait:.1f} s",
                    headers={"Retry-After": str(int(wait) + 1)},
                )
            self._buckets[user] = left - 1, now


def require(user: User, scope: str) -> None:
    """Refuse what a token may not do.

    Args:
        user: who asks.
        scope: that is needed.

    Raises:
        Problem: 403.
    """
    if scope not in user.scopes:
        raise Problem(403, f"the token '{user.name}' may not do this: it needs the scope '{scope}'")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _read(path: Path) -> dict[str, User]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a token file: {error}") from error
    users = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3 or not re.fullmatch("[0-9a-f]{64}", words[2]):
            raise UserError(
                f"{path}, line {number} is no token: make tokens with cgeartheye serve-token NAME"
            )
        scopes = frozenset(words[1].split(","))
        if not scopes <= set(SCOPES):
            raise UserError(f"{path}, line {number}: scopes are {', '.join(SCOPES)}")
        users[words[2]] = User(words[0], scopes)
    return users
