"""Table of jobs in SQLite or PostgreSQL, with leases and fencing.

A job is a row; its files are in a folder of its own. A worker claims a job for some seconds and
renews that lease while it works. When a lease runs out the job is offered again. Every claim raises
the number of the attempt, and every write of a worker names its attempt: one that was believed dead
cannot overwrite what another has done. The states are those of OGC API - Processes.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cgeartheye.jobs.database import Row, Run, open_database

Status = Literal["accepted", "running", "successful", "failed", "dismissed"]
STATUSES: tuple[Status, ...] = ("accepted", "running", "successful", "failed", "dismissed")
ENDED = STATUSES[2:]
# Losses of its worker without progress between, after which a job has failed: it kills them. Of 200
# jobs with a worker killed every 10 s, 4 came to three by bad luck (benchmarks/serve_jobs.py).
LOSSES = 5

_FIELDS = (
    "id, app, request, owner, status, attempt, done, total, message, worker, cancelled, "
    "disk_bytes, created, started, updated, finished"
)
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    app TEXT NOT NULL,
    request TEXT NOT NULL,
    owner TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    done INTEGER NOT NULL,
    total INTEGER NOT NULL,
    message TEXT NOT NULL,
    worker TEXT NOT NULL,
    cancelled INTEGER NOT NULL,
    disk_bytes BIGINT NOT NULL,
    lease DOUBLE PRECISION NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    started DOUBLE PRECISION,
    updated DOUBLE PRECISION NOT NULL,
    finished DOUBLE PRECISION,
    idempotency TEXT,
    UNIQUE (owner, idempotency)
)
"""


@dataclass(frozen=True)
class Job:
    """A row of the table.

    Attributes:
        id: 32 hexadecimal digits.
        app: id of the application.
        request: what is asked for, as JSON.
        owner: name of the token that asked.
        status: accepted, running, successful, failed or dismissed.
        attempt: how often it was claimed.
        done: windows.
        total: windows; 0: not known yet.
        message: why it failed, or what it does.
        worker: that has or had it.
        cancelled: whether its owner wants no more of it.
        disk_bytes: of its folder: an estimate until it has ended.
        created: seconds since 1970; so are the others.
        started: when it was first claimed.
        updated: when anything changed.
        finished: when it ended.
    """

    id: str
    app: str
    request: dict[str, Any]
    owner: str
    status: Status
    attempt: int
    done: int
    total: int
    message: str
    worker: str
    cancelled: bool
    disk_bytes: int
    created: float
    started: float | None
    updated: float
    finished: float | None

    @property
    def progress(self) -> int:
        """Percent, 0..100."""
        if self.status == "successful":
            return 100
        return min(99, 100 * self.done // self.total) if self.total else 0


class JobStore:
    """The jobs of a server and its workers; safe to use from several threads and processes."""

    def __init__(self, url: str | Path):
        """Open the table, or make it.

        Args:
            url: a file for SQLite, or `postgresql://...`.

        Raises:
            UserError: it cannot be opened, or psycopg is not installed.
        """
        self._database = open_database(str(url))
        with self._database.transaction() as run:
            if self._database.exclusive:
                run(self._database.exclusive)
            run(_TABLE)

    def submit(
        self,
        app: str,
        request: dict[str, Any],
        owner: str,
        idempotency: str | None = None,
        disk_bytes: int = 0,
    ) -> Job:
        """Add a job; when this returns it is on the disk.

        Args:
            app: id of the application.
            request: JSON.
            owner: who asks.
            idempotency: a key of the owner's: the same key again returns the same job.
            disk_bytes: that its folder will need, about.
        """
        job, now = uuid.uuid4().hex, self._database.now
        with self._database.transaction() as run:
            run(
                "INSERT INTO jobs (id, app, request, owner, status, attempt, losses, done, "
                "total, message, worker, cancelled, disk_bytes, lease, created, updated, "
                "idempotency) VALUES "
                f"(?, ?, ?, ?, 'accepted', 0, 0, 0, 0, '', '', 0, ?, 0, {now}, {now}, ?) "
                "ON CONFLICT (owner, idempotency) DO NOTHING",
                (job, app, json.dumps(request), owner, disk_bytes, idempotency),
            )
            if idempotency is not None:
                return _job(run(_KEYED, (owner, idempotency))[0])
            return _job(run(f"SELECT {_FIELDS} FROM jobs WHERE id = ?", (job,))[0])

    def keyed(self, owner: str, idempotency: str) -> Job | None:
        """Return the job that an owner has submitted with a key; none: there is none yet."""
        with self._database.transaction() as run:
            rows = run(_KEYED, (owner, idempotency))
        return _job(rows[0]) if rows else None

    def claim(self, worker: str, lease: float) -> Job | None:
        """Take the next job: of the owner who has the fewest running, the oldest.

        Args:
            worker: name of the one that takes it.
            lease: seconds that it has until it must `beat`.

        Returns:
            The job, now running; none if there is nothing to do.
        """
        now = self._database.now
        self.expire()
        with self._database.transaction() as run:
            rows = run(
                "SELECT id FROM jobs WHERE status = 'accepted' ORDER BY (SELECT COUNT(*) FROM jobs "
                "AS other WHERE other.status = 'running' AND other.owner = jobs.owner), created "
                f"LIMIT 1 {self._database.skip_locked}"
            )
            if not rows:
                return None
            run(
                "UPDATE jobs SET status = 'running', attempt = attempt + 1, worker = ?, "
                f"lease = {now} + ?, started = COALESCE(started, {now}), updated = {now}, "
                "message = '' WHERE id = ?",
                (worker, lease, rows[0][0]),
            )
            return _job(run(f"SELECT {_FIELDS} FROM jobs WHERE id = ?", rows[0])[0])

    def expire(self) -> None:
        """Take jobs from workers that were not heard of; see `lose`."""
        lost = f"status = 'running' AND lease < {self._database.now}"
        with self._database.transaction() as run:
            if run(f"SELECT 1 FROM jobs WHERE {lost} LIMIT 1"):
                self._lose(run, lost, ())

    def lose(self, job: Job) -> None:
        """Take a job from a worker that died of it: it is offered again, or has failed.

        Args:
            job: as it was claimed.
        """
        with self._database.transaction() as run:
            self._lose(run, _MINE, (job.id, job.attempt))

    def _lose(self, run: Run, which: str, values: Row) -> None:
        now = self._database.now
        ended = f"updated = {now}, finished = {now}"
        run(
            f"UPDATE jobs SET status = 'dismissed', {ended} WHERE {which} AND cancelled = 1", values
        )
        run(
            f"UPDATE jobs SET status = 'failed', {ended}, message = "
            f"'its worker was lost {LOSSES} times at one place: its log may name memory or a "
            f"crash' "
            f"WHERE {which} AND losses + 1 >= {LOSSES}",
            values,
        )
        run(
            f"UPDATE jobs SET status = 'accepted', losses = losses + 1, updated = {now} "
            f"WHERE {which}",
            values,
        )

    def beat(self, job: Job, lease: float, done: int, total: int) -> bool:
        """Renew a lease and note the progress.

        Args:
            job: as it was claimed.
            lease: seconds from now on.
            done: windows.
            total: windows.

        Returns:
            Whether to go on: false where the job was cancelled, or is another worker's by now.
        """
        now = self._database.now
        with self._database.transaction() as run:
            run(
                "UPDATE jobs SET losses = CASE WHEN done < ? THEN 0 ELSE losses END, "
                "done = CASE WHEN done < ? THEN ? ELSE done END, total = ?, "
                f"lease = {now} + ?, updated = {now} WHERE {_MINE}",
                (done, done, done, total, lease, job.id, job.attempt),
            )
            rows = run(f"SELECT cancelled FROM jobs WHERE {_MINE}", (job.id, job.attempt))
        return bool(rows) and not rows[0][0]

    def finish(
        self, job: Job, status: Status, message: str = "", disk_bytes: int | None = None
    ) -> bool:
        """End a job that is still this worker's.

        Args:
            job: as it was claimed.
            status: successful, failed or dismissed; accepted: it is offered again.
            message: a sentence.
            disk_bytes: of its folder; none: what was estimated.

        Returns:
            Whether it was: false where another has it.
        """
        now = self._database.now
        ended = f", finished = {now}" if status in ENDED else ""
        with self._database.transaction() as run:
            mine = run(f"SELECT 1 FROM jobs WHERE {_MINE}", (job.id, job.attempt))
            run(
                "UPDATE jobs SET status = ?, message = ?, disk_bytes = COALESCE(?, disk_bytes), "
                f"updated = {now}{ended} WHERE {_MINE}",
                (status, message[:2000], disk_bytes, job.id, job.attempt),
            )
        return bool(mine)

    def cancel(self, job: str) -> None:
        """Dismiss a job that waits; notify the worker of one that runs."""
        now = self._database.now
        with self._database.transaction() as run:
            run(
                f"UPDATE jobs SET status = 'dismissed', updated = {now}, finished = {now}, "
                "cancelled = 1, disk_bytes = 0 WHERE id = ? AND status = 'accepted'",
                (job,),
            )
            run("UPDATE jobs SET cancelled = 1 WHERE id = ? AND status = 'running'", (job,))

    def get(self, job: str) -> Job | None:
        """Return a job; none if there is none of that id."""
        with self._database.transaction() as run:
            rows = run(f"SELECT {_FIELDS} FROM jobs WHERE id = ?", (job,))
        return _job(rows[0]) if rows else None

    def find(
        self,
        owner: str | None = None,
        statuses: Sequence[Status] = (),
        app: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Job]:
        """Return jobs, the newest first.

        Args:
            owner: whose; none: everybody's.
            statuses: which; none: all.
            app: of which application; none: of any.
            limit: how many at most.
            offset: how many to leave out.
        """
        where, values = ["1 = 1"], list[Any]()
        if owner is not None:
            where.append("owner = ?")
            values.append(owner)
        if app is not None:
            where.append("app = ?")
            values.append(app)
        if statuses:
            where.append(f"status IN ({', '.join('?' * len(statuses))})")
            values += statuses
        with self._database.transaction() as run:
            rows = run(
                f"SELECT {_FIELDS} FROM jobs WHERE {' AND '.join(where)} "
                "ORDER BY created DESC, id LIMIT ? OFFSET ?",
                (*values, limit, offset),
            )
        return [_job(row) for row in rows]

    def count(self, status: Status, owner: str | None = None) -> int:
        """Return how many jobs have a status.

        Args:
            status: which.
            owner: whose; none: everybody's.
        """
        mine, values = ("", (status,)) if owner is None else (" AND owner = ?", (status, owner))
        with self._database.transaction() as run:
            return int(run(f"SELECT COUNT(*) FROM jobs WHERE status = ?{mine}", values)[0][0])

    def disk_bytes(self) -> int:
        """Return what all jobs' folders need: measured of those that have ended, else estimated."""
        with self._database.transaction() as run:
            return int(run("SELECT COALESCE(SUM(disk_bytes), 0) FROM jobs")[0][0])

    def remove(self, job: str) -> None:
        """Forget a job that has ended; its folder is the caller's to delete."""
        with self._database.transaction() as run:
            ended = ", ".join(f"'{status}'" for status in ENDED)
            run(f"DELETE FROM jobs WHERE id = ? AND status IN ({ended})", (job,))

    def ended_before(self, seconds: float) -> list[str]:
        """Return the ids of jobs that ended more than so many seconds ago."""
        with self._database.transaction() as run:
            rows = run(f"SELECT id FROM jobs WHERE finished < {self._database.now} - ?", (seconds,))
        return [row[0] for row in rows]

    def close(self) -> None:
        """Close this thread's connection."""
        self._database.close()


_KEYED = f"SELECT {_FIELDS} FROM jobs WHERE owner = ? AND idempotency = ?"
_MINE = "id = ? AND attempt = ? AND status = 'running'"


def _job(row: Row) -> Job:
    values = dict(zip(_FIELDS.split(", "), row, strict=True))
    return Job(
        **{
            **values,
            "request": json.loads(values["request"]),
            "cancelled": bool(values["cancelled"]),
        }
    )
