"""Steps whose work outlives a kill: tables made part by part, and what a step was made from."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest, lock, replacing, write_json
from cgeartheye.utils.state import json_object

OK = "ok"  # status of a row that every step so far has kept
CHIP_COLUMNS = ("path", "place", "season", "status")


def read_chips(path: Path) -> pa.Table:
    """Read a table of chips: a row each, whether it was cut or not.

    Raises:
        UserError: it is missing or damaged, lacks one of `CHIP_COLUMNS`, has one that is no text,
            or has no chip left.
    """
    try:
        # A path would lead into a folder too.
        with path.open("rb") as file:
            table = pq.read_table(file)
    except FileNotFoundError as error:
        raise UserError(f"no table of chips {path}: make one with cgeartheye jlssd cut") from error
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as a table: {reason}") from error
    missing = [name for name in CHIP_COLUMNS if name not in table.column_names]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]}: name a table that cgeartheye jlssd cut or quality "
            "has written"
        )
    for name in (*CHIP_COLUMNS, *({"reason"} & set(table.column_names))):
        try:
            table = set_column(table, name, table[name].cast(pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(f"{path}: column {name} holds no text: {error}") from error
    kept = pc.equal(table["status"], OK)
    if not pc.any(kept).as_py():
        raise UserError(f"{path} has no chip with status {OK}: nothing is left to work on")
    for name in CHIP_COLUMNS:
        row = pc.index(pc.and_(kept, table[name].is_null()), True).as_py()
        if row >= 0:
            raise UserError(f"{path}, row {row + 1}: status {OK} and no {name}")
    return table


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table that a step has left to go on from.

    Raises:
        UserError: it is damaged.
    """
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is damaged ({reason}): delete it and give the same command again"
        ) from error


def claim(out: Path) -> IO[str]:
    """Lock a table, and the files of its name beside it, until the returned file is closed.

    Raises:
        UserError: it is not named as a Parquet file, so that its report could overwrite it;
            another process holds it; or its folder cannot be written to.
    """
    if out.suffix != ".parquet":
        raise UserError(f"{out} is to be a Parquet file: give a name such as {out.stem}.parquet")
    try:
        return lock(out.with_name(f".{out.stem}.lock"))
    except BlockingIOError as error:
        raise UserError(
            f"another process makes {out}: wait for it, or give another --out"
        ) from error


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet table whole or not at all."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Return a table with a column replaced, or added behind the others.

    Args:
        table: any.
        name: of the column.
        values: as many as the table has rows.
    """
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


def rebase_paths(table: pa.Table, source: Path, target: Path) -> pa.Table:
    """Return a table of chips whose paths are relative to another folder.

    Args:
        table: of chips, whose `path` is relative to `source`.
        source: a folder.
        target: the folder that the new paths are relative to.
    """
    if source.resolve() == target.resolve():
        return table
    paths = [
        path and os.path.relpath(source.resolve() / path, target.resolve())
        for path in table["path"].to_pylist()
    ]
    return set_column(table, "path", pa.array(paths, pa.string()))


def key_of(facts: Mapping[str, object]) -> str:
    """Return a key of the work with these settings and inputs (JSON values)."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def digest_of(path: Path) -> str:
    """Return a digest of the bytes of a file."""
    return digest([path])[:24]


def only_folder(folder: Path, key: str) -> Path:
    """Return the folder of work with a key; that of another key is removed.

    Raises:
        UserError: it cannot be made.
    """
    here = folder / key
    if not here.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        try:
            here.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write {here}: {error.strerror}") from error
    return here


def parts_of(folder: Path, key: str, count: int, size: int) -> dict[Path, range]:
    """Return the files of a table that is made part by part, and the rows of each.

    A file that is there is whole, and was made with the same key. Whoever has the whole table on
    the disk removes the folder.

    Args:
        folder: for the parts of this table alone.
        key: see `key_of`.
        count: rows in all.
        size: rows a part.

    Raises:
        UserError: see `only_folder`.
    """
    only_folder(folder, key)
    starts = range(0, count, size)
    return {
        folder / key / f"{start // size:06d}.parquet": range(start, min(start + size, count))
        for start in starts
    }


class Ledger:
    """Which steps of a build are done: for each, the key of its work and what it wrote.

    A step is done if the ledger holds its key and its files are as the step left them, so that
    another setting, another input or a file that was changed makes it run again, and those after
    it whose input then differs.
    """

    def __init__(self, folder: Path):
        """Open the ledger of a build; there need be none yet."""
        self._folder = folder

    def is_done(self, step: str, key: str) -> bool:
        """Return whether a step with this key has finished, and its files are still there."""
        path = self._path(step)
        if not path.is_file():
            return False
        try:
            entry = json_object(path.read_bytes())
            files = {str(name): str(digest) for name, digest in entry["files"].items()}
            is_same = entry["key"] == key
        except (ValueError, KeyError, AttributeError):
            warn(f"{path} is damaged: step {step} runs again")
            return False
        return is_same and all(
            (self._folder / name).is_file() and digest_of(self._folder / name) == digest
            for name, digest in files.items()
        )

    def finish(self, step: str, key: str, files: list[str]) -> None:
        """Record that a step has finished.

        Args:
            step: its name.
            key: of its inputs and settings.
            files: that it wrote, relative to the folder of the build.
        """
        digests = {name: digest_of(self._folder / name) for name in files}
        write_json(self._path(step), {"key": key, "files": digests})

    def _path(self, step: str) -> Path:
        return self._folder / "steps" / f"{step}.json"
