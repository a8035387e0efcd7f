"""Packs images into a store, and checks one."""

import csv
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import DataLoader, Dataset

from cgeartheye.errors import UserError
from cgeartheye.files import replacing
from cgeartheye.pretraining.sources import Encoded, Item, Settings, encode, find_items
from cgeartheye.pretraining.store import INDEX, SHARDS, Store, as_key, digest, shard_path
from cgeartheye.training.progress import bar, say

SHARD_BYTES = 4 * 2**30
COMMIT_BYTES, COMMIT_IMAGES = 64 * 2**20, 2000

# In a shard, columns of the images of each commit lie beside the images: both are there, or none.
ROWS = b"rows-"

_COLUMNS = {
    "path": pa.string(),
    "place": pa.string(),
    "season": pa.string(),
    "height": pa.int32(),
    "width": pa.int32(),
    "bytes": pa.int64(),
    "digest": pa.uint64(),
    "shard": pa.int32(),
    "key": pa.int64(),
}
_LOCATION = {"lon": pa.float64(), "lat": pa.float64(), "gsd": pa.float64()}


@dataclass
class Packed:
    """What packing did, and what the store holds now.

    Attributes:
        added: images that are new.
        present: that were in the store before.
        duplicates: left out because the store holds the same file under another name.
        empty: chips left out for want of valid pixels.
        skipped: damaged files, by name with what is wrong.
        images: in the store.
        places: in the store.
        in_seasons: places with more than one image.
        bytes: of all images.
    """

    added: int = 0
    present: int = 0
    duplicates: int = 0
    empty: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    images: int = 0
    places: int = 0
    in_seasons: int = 0
    bytes: int = 0


def pack(
    source: Path, out: Path, settings: Settings, skip_damaged: bool = False, workers: int = 2
) -> Packed:
    """Pack images into a store, or add them to one.

    Killed, the same command goes on: what was committed is not read again.

    Args:
        source: see `find_items`.
        out: the store.
        settings: how images are cut and encoded.
        skip_damaged: leave damaged images out and list them in `skipped.csv`.
        workers: processes that read and encode.

    Raises:
        UserError: a damaged image, no images, a full disk; the store keeps what was committed.
    """
    items = find_items(source, settings)
    with _locked(out), _Writer(out) as writer:
        todo = [item for item in items if item.source not in writer.sources]
        done = Packed(present=len(items) - len(todo))
        with bar("packing", len(todo), "images") as progress:
            for encoded in _encode_all(todo, settings, workers):
                if encoded.problem and not skip_damaged:
                    raise UserError(
                        f"{encoded.problem}; mend or remove it, or leave such images out with "
                        "--skip-damaged"
                    )
                if encoded.problem:
                    done.skipped[encoded.item.name] = encoded.problem
                elif encoded.empty:
                    done.empty += 1
                elif writer.add(encoded):
                    done.added += 1
                else:
                    done.duplicates += 1
                progress.advance()
    if done.skipped:
        _write_skipped(out, done.skipped)
    table = Store(out).table
    counts = table.group_by("place").aggregate([("place", "count")])["place_count"]
    done.images, done.places = len(table), len(counts)
    done.in_seasons = pc.sum(pc.greater(counts, 1)).as_py() or 0
    done.bytes = pc.sum(table["bytes"]).as_py()
    return done


def verify(folder: Path) -> list[str]:
    """Read and decode every image of a store.

    Returns:
        What is wrong, a sentence an image.
    """
    store = Store(folder)
    digests = store.table["digest"].to_numpy()
    problems = []
    with bar("verifying", len(store), "images") as progress:
        for index in range(len(store)):
            try:
                if digest(store.read(index)) != int(digests[index]):
                    problems.append(f"{store.name(index)} has changed since it was packed")
                elif tuple(store.decode(index).shape[1:]) != store.size(index):
                    problems.append(f"{store.name(index)} has another size than the index says")
            except UserError as error:
                problems.append(str(error))
            progress.advance()
    return problems


class _Writer:
    """Adds images to the last shard, or to a new one, commit by commit; then makes the index."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.sources: set[str] = set()
        self._digests: set[int] = set()
        self._pending: list[tuple[bytes, dict[str, Any]]] = []
        self._bytes = 0
        self._shards = [int(path.stem) for path in sorted((folder / SHARDS).glob("*.lmdb"))]
        for shard in self._shards:
            rows = _read_rows(folder, shard)
            self.sources.update(rows["source"].to_pylist())
            self._digests.update(rows["digest"].to_pylist())
        self._shard = self._shards[-1] if self._shards else 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        # What was read before a damaged image, or before Ctrl-C, is kept.
        if kind is None or issubclass(kind, (UserError, KeyboardInterrupt)):
            self._commit()
            self._write_index()

    def add(self, encoded: Encoded) -> bool:
        """Add an image, unless the store holds the same file already."""
        mark = digest(encoded.data)
        if mark in self._digests:
            return False
        self._digests.add(mark)
        row = encoded.row | {
            "path": encoded.item.name,
            "source": encoded.item.source,
            "height": encoded.height,
            "width": encoded.width,
            "bytes": len(encoded.data),
            "digest": mark,
        }
        self._pending.append((encoded.data, row))
        self._bytes += len(encoded.data)
        if self._bytes >= COMMIT_BYTES or len(self._pending) >= COMMIT_IMAGES:
            self._commit()
        return True

    def _commit(self) -> None:
        if not self._pending:
            return
        path = shard_path(self.folder, self._shard)
        if path.exists() and path.stat().st_size + self._bytes > SHARD_BYTES:
            self._shard += 1
            path = shard_path(self.folder, self._shard)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                lmdb.open(str(path), subdir=False, map_size=2 * SHARD_BYTES) as shard,
                shard.begin(write=True) as transaction,
            ):
                first = transaction.stat()["entries"]
                rows = []
                for key, (data, row) in enumerate(self._pending, start=first):
                    transaction.put(as_key(key), data)
                    rows.append(row | {"shard": self._shard, "key": key})
                transaction.put(ROWS + as_key(first), _as_bytes(_as_table(rows)))
        except (lmdb.Error, OSError) as error:
            self._pending = []
            raise UserError(
                f"cannot write {path} ({error}): make room on the disk and pack again, what was "
                "packed before stays"
            ) from error
        self._pending, self._bytes = [], 0

    def _write_index(self) -> None:
        """Write the index of all shards, the images of a place side by side."""
        shards = sorted(int(path.stem) for path in (self.folder / SHARDS).glob("*.lmdb"))
        tables = [_read_rows(self.folder, shard) for shard in shards]
        if not any(len(table) for table in tables):
            return
        table = pa.concat_tables(tables, promote_options="permissive").drop_columns(["source"])
        order = [(name, "ascending") for name in ("place", "season", "path")]
        table = table.sort_by(order).combine_chunks()
        codes = table["place"].combine_chunks().dictionary_encode().indices.to_numpy()
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        count = np.diff(first, append=len(codes))
        table = table.append_column("place_first", pa.array(np.repeat(first, count), pa.int64()))
        table = table.append_column("place_count", pa.array(np.repeat(count, count), pa.int64()))
        with (
            replacing(self.folder / INDEX) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            # One batch, so that every column is one stretch of memory.
            writer.write_table(table, max_chunksize=len(table))


def _read_rows(folder: Path, shard: int) -> pa.Table:
    path = shard_path(folder, shard)
    tables = []
    try:
        with (
            lmdb.open(str(path), subdir=False, readonly=True, lock=False) as environment,
            environment.begin() as transaction,
            transaction.cursor() as cursor,
        ):
            found = cursor.set_range(ROWS)
            while found and cursor.key().startswith(ROWS):
                tables.append(pa.ipc.open_file(cursor.value()).read_all())
                found = cursor.next()
    except (lmdb.Error, pa.ArrowInvalid) as error:
        raise UserError(
            f"the shard {path} is damaged: remove it and pack again ({error})"
        ) from error
    empty = pa.schema({"source": pa.string(), **_COLUMNS}).empty_table()
    return pa.concat_tables([empty, *tables], promote_options="permissive")


def _as_table(rows: list[dict[str, Any]]) -> pa.Table:
    known = {"source": pa.string(), **_COLUMNS, **_LOCATION}
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: pa.array([row.get(name) for row in rows], known.get(name)) for name in names}
    return pa.table(columns)


def _as_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


class _Encoding(Dataset[Encoded]):
    """Encodes items; in worker processes, ahead of their use and in order."""

    def __init__(self, items: list[Item], settings: Settings):
        self._items, self._settings = items, settings

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Encoded:
        return encode(self._items[index], self._settings)


def _encode_all(items: list[Item], settings: Settings, workers: int) -> Iterator[Encoded]:
    loader: DataLoader[Encoded] = DataLoader(
        _Encoding(items, settings),
        batch_size=None,
        num_workers=min(workers, len(items)),
        collate_fn=_as_it_is,
        prefetch_factor=16 if workers and items else None,
        # A process that has opened rasters must not be forked.
        multiprocessing_context="spawn" if workers and items else None,
    )
    yield from loader


def _as_it_is(encoded: Any) -> Any:
    return encoded


def _write_skipped(folder: Path, skipped: dict[str, str]) -> None:
    with (
        replacing(folder / "skipped.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["image", "problem"])
        writer.writerows(skipped.items())
    say(f"note: {len(skipped)} damaged images left out, see {folder / 'skipped.csv'}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second packing out."""
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"something else is packing into {folder}: wait for it") from error
        yield
