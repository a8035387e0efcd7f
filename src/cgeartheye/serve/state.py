"""State of a running server that routes share."""

import contextlib
import shutil
import threading
from dataclasses import dataclass, field

from starlette.requests import Request

from cgeartheye.jobs.store import JobStore
from cgeartheye.serve.auth import RateLimit, User, Users
from cgeartheye.serve.labelling import Labelling
from cgeartheye.serve.requests import Planner
from cgeartheye.serve.scenes import Scenes
from cgeartheye.serve.settings import Settings


@dataclass
class State:
    """Store, scenes and users that routes share.

    Attributes:
        settings: of the server.
        store: of the jobs.
        scenes: of the server.
        planner: checks executions.
        labelling: labels of users, and what they make of scenes.
        users: whom tokens name.
        rate: of requests.
        answered: how many requests, by status.
        seconds: that they took.
    """

    settings: Settings
    store: JobStore
    scenes: Scenes
    planner: Planner
    labelling: Labelling
    users: Users
    rate: RateLimit
    answered: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, settings: Settings) -> "State":
        """Open what the settings name.

        Args:
            settings: of the server.

        Raises:
            UserError: a folder, a database or a token file that cannot be used.
        """
        settings.jobs.mkdir(parents=True, exist_ok=True)
        store, scenes = JobStore(settings.store), Scenes(settings)
        return cls(
            settings,
            store,
            scenes,
            Planner(settings, scenes, store),
            Labelling(settings.jobs, settings.labels),
            Users(settings.token_file),
            RateLimit(settings.requests_per_second),
        )

    def delete(self, job: str) -> None:
        """Delete a job that has ended, with its results."""
        folder = self.settings.jobs / job
        gone = folder.with_name(f".{job}.removed")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)
        self.store.remove(job)
        shutil.rmtree(gone, ignore_errors=True)

    def tidy(self) -> None:
        """Delete results that are older than they are kept."""
        for job in self.store.ended_before(self.settings.keep_days * 86_400):
            self.delete(job)
        for gone in self.settings.jobs.glob(".*.removed"):
            shutil.rmtree(gone, ignore_errors=True)

    def count(self, status: int, seconds: float) -> None:
        """Count an answer, for the metrics."""
        with self.lock:
            self.answered[status] = self.answered.get(status, 0) + 1
            self.seconds += seconds


def state_of(request: Request) -> State:
    """Return the server's state."""
    state: State = request.app.state.cgeartheye
    return state


def user_of(request: Request) -> User:
    """Return who asks; every route needs one.

    Raises:
        Problem: 401 or 429.
    """
    state = state_of(request)
    user = state.users.of(request)
    state.rate.take(user.name)
    return user


def address_of(request: Request) -> str:
    """Return the address of the server, as the client has it, without a slash at its end."""
    return str(request.base_url).rstrip("/")


def link(request: Request, path: str, rel: str) -> dict[str, str]:
    """Return a link to another answer of the server.

    Args:
        request: that is answered.
        path: of the other, from the server's address on.
        rel: relation, of IANA or OGC.
    """
    return {"href": f"{address_of(request)}{path}", "rel": rel, "type": "application/json"}
