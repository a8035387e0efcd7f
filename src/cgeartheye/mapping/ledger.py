"""Which rows of windows are finished, and what a detector found in them.

A small SQLite file beside the unfinished map.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import json_text
from cgeartheye.utils.state import json_object

_FREE = {"batch_size"}
"""Settings that may change: work that ran out of memory goes on with less at a time, and only the
last bits of what a network computes depend on it."""


class BusyError(UserError):
    """Another process holds a ledger."""


class Ledger:
    """Finished rows of windows, numbered in the order in which they are mapped.

    One process at a time may hold it; the lock goes with the process, however that ends.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        """Open or begin a ledger.

        Args:
            path: of the file; its folder must exist.
            settings: all that the map depends on.

        Raises:
            UserError: another process maps into this folder, or it was begun with other settings.
        """
        self._path = path
        self._db = sqlite3.connect(path, timeout=0.5, check_same_thread=False)
        try:
            with self._as_user_error():
                begun = self._open(settings)
            if begun is not None:
                check_same(begun, settings, path.parent)
        except UserError:
            self._db.close()
            raise

    def _open(self, settings: Mapping[str, Any]) -> Any:
        """Make the tables; returns the settings that it was begun with, none if it was not."""
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        with self._db:
            self._db.execute("CREATE TABLE IF NOT EXISTS settings (text TEXT)")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS finished "
                "(number INTEGER PRIMARY KEY, windows INTEGER, pixels INTEGER)"
            )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS found (number INTEGER, place INTEGER, "
                "objects BLOB, PRIMARY KEY (number, place)) WITHOUT ROWID"
            )
            begun = self._db.execute("SELECT text FROM settings").fetchone()
            if begun is None:
                self._db.execute("INSERT INTO settings VALUES (?)", (json_text(settings),))
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise ValueError(verdict)
        return None if begun is None else json_object(begun[0])

    @contextmanager
    def _as_user_error(self) -> Iterator[None]:
        """Turn what the database raises into a sentence for the user."""
        folder = self._path.parent
        try:
            yield
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            if "locked" in str(error):
                raise BusyError(f"another process is mapping into {folder.parent}") from error
            # A file of "unsupported format" is an operational error too, and a damaged one.
            operational = isinstance(error, sqlite3.OperationalError)
            if operational and "format" not in str(error):
                raise UserError(
                    f"cannot write {self._path} ({error}): make room, then go on with --resume"
                ) from error
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self._path} is damaged ({reason}), so which rows are finished is lost: delete "
                f"{folder} and map again"
            ) from error

    def finished(self) -> tuple[int, int]:
        """Return how many rows of windows are finished, and how many pixels of the map they are."""
        query = "SELECT COUNT(*), TOTAL(pixels) FROM finished"
        with self._as_user_error():
            rows, pixels = self._db.execute(query).fetchone()
        return rows, int(pixels)

    def note(
        self, rows: list[tuple[int, int, int]], found: Sequence[tuple[int, int, bytes]] = ()
    ) -> None:
        """Note rows as finished, with what was found in them, at once or not at all.

        Args:
            rows: number, windows and pixels of each.
            found: number of the row, number of the window in it, and its objects.

        Raises:
            UserError: the disk is full.
        """
        with self._as_user_error(), self._db:
            self._db.executemany("INSERT INTO found VALUES (?, ?, ?)", found)
            self._db.executemany("INSERT INTO finished VALUES (?, ?, ?)", rows)

    def rows(self, span: tuple[int, int]) -> list[tuple[int, int, int]]:
        """Return number, windows and pixels of each finished row of some.

        Args:
            span: first row, and the one after the last.
        """
        query = "SELECT * FROM finished WHERE number >= ? AND number < ? ORDER BY number"
        with self._as_user_error():
            return self._db.execute(query, span).fetchall()

    def found(self, number: int) -> list[tuple[int, bytes]]:
        """Return the windows of a row that have objects, in order, and those."""
        query = "SELECT place, objects FROM found WHERE number = ? ORDER BY place"
        with self._as_user_error():
            return self._db.execute(query, (number,)).fetchall()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def check_same(begun: Mapping[str, Any], now: Mapping[str, Any], place: Path | str) -> None:
    """Refuse to go on with other settings.

    Args:
        begun: settings of the unfinished work, by name.
        now: settings of this call.
        place: folder of the map, for the message.

    Raises:
        UserError: it names the first setting that differs.
    """
    now = json.loads(json_text(now))
    for name in [*now, *begun]:
        if name not in _FREE and begun.get(name) != now.get(name):
            was, is_now = (json_text(s.get(name))[:120] for s in (begun, now))
            raise UserError(
                f"{place} was begun with {name} = {was}, not {is_now}: use the same value, or "
                "another folder"
            )
