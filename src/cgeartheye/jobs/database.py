"""Databases of the jobs: SQLite by default, PostgreSQL by its address."""

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgeartheye.utils.errors import UserError

Row = tuple[Any, ...]
Run = Callable[..., list[Row]]
"""Runs a statement with its values, and returns rows."""


class Database(ABC):
    """Differences between databases: connecting, the clock, and locking a row to claim it."""

    now: str
    skip_locked: str
    exclusive: str = ""  # statement that lets one process at a time make the table
    errors: tuple[type[Exception], ...]

    def __init__(self, name: str):
        self._name = name
        self._local = threading.local()

    @abstractmethod
    def connect(self) -> Any:
        """Return a new connection, of this thread alone."""

    @abstractmethod
    def begin(self, connection: Any) -> Any:
        """Begin a transaction; return what runs statements."""

    @contextmanager
    def transaction(self) -> Iterator[Run]:
        """Yield a function that runs a statement and returns its rows; all happens or nothing.

        Raises:
            UserError: the database cannot be reached or written.
        """
        try:
            if not hasattr(self._local, "connection"):
                self._local.connection = self.connect()
            connection = self._local.connection
            cursor = self.begin(connection)

            def run(statement: str, values: Sequence[Any] = ()) -> list[Row]:
                cursor.execute(self.translate(statement), values)
                return list(cursor.fetchall()) if cursor.description else []

            try:
                yield run
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        except self.errors as error:
            self.close()
            reason = " ".join(str(error).split())
            raise UserError(f"the jobs in {self._name} cannot be used: {reason}") from error

    def translate(self, statement: str) -> str:
        """Return a statement with the marks for values that the database knows."""
        return statement

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            del self._local.connection
            connection.close()


class _Sqlite(Database):
    now = "((julianday('now') - 2440587.5) * 86400.0)"
    skip_locked = ""  # BEGIN IMMEDIATE lets one writer in at a time
    errors = (sqlite3.Error, OSError)

    def __init__(self, path: Path):
        super().__init__(str(path))
        self._path = path

    def connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=30, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        # kB of pages that each thread's connection keeps: by default 2 MB, as the table grows.
        connection.execute("PRAGMA cache_size = -256")
        connection.execute("PRAGMA synchronous = FULL")  # what was accepted survives a power cut
        return connection

    def begin(self, connection: Any) -> Any:
        return connection.execute("BEGIN IMMEDIATE")


class _Postgres(Database):
    now = "extract(epoch from clock_timestamp())::double precision"
    skip_locked = "FOR UPDATE SKIP LOCKED"
    exclusive = "SELECT pg_advisory_xact_lock(1701209)"

    def __init__(self, url: str):
        try:
            import psycopg
        except ImportError as error:
            raise UserError(
                "a PostgreSQL database needs psycopg: pip install 'cgeartheye[postgres]'"
            ) from error
        self._psycopg, self._address = psycopg, url
        self.errors = (psycopg.Error, OSError)
        super().__init__(url.rsplit("@", 1)[-1])  # without the password

    def connect(self) -> Any:
        return self._psycopg.connect(self._address, connect_timeout=10)

    def begin(self, connection: Any) -> Any:
        return connection.cursor()

    def translate(self, statement: str) -> str:
        return statement.replace("?", "%s")


def open_database(url: str) -> Database:
    """Return the database of an address; it is connected to when it is first used.

    Args:
        url: a file for SQLite, or `postgresql://...`.

    Raises:
        UserError: psycopg is not installed.
    """
    if url.startswith(("postgresql://", "postgres://")):
        return _Postgres(url)
    return _Sqlite(Path(url))
