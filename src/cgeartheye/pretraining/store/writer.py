"""Writes a store: images go to shards commit by commit, the index is made of the shards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cgeartheye.pretraining.store.items import Encoded, Item
from cgeartheye.pretraining.store.reader import (
    INDEX,
    SHARD_SIZES,
    SHARDS,
    Store,
    as_key,
    digest,
    open_shard,
    shard_path,
)
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

SHARD_BYTES = 4 * 2**30
COMMIT_BYTES, COMMIT_IMAGES = 64 * 2**20, 2000

# In a shard, columns of the images of each commit are beside the images: both are there, or none.
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


class Writer:
    """Adds images to a new shard, or to that of a killed packing, by commits; then the index.

    Attributes:
        folder: of the store.
    """

    def __init__(self, folder: Path):
        """Read what the store holds.

        Raises:
            UserError: a shard is damaged.
        """
        self.folder = folder
        # Digests, of a tenth of the names' size.
        self._sources: set[int] = set()
        self._digests: set[int] = set()
        self._pending: list[tuple[bytes, dict[str, Any]]] = []
        self._bytes = 0
        indexed = _indexed(folder)
        shards = _shards(folder)
        for shard in shards:
            rows = _read_rows(folder, shard, indexed.get(shard, 0))
            for batch in rows.select(["source", "digest"]).to_batches(COMMIT_IMAGES):
                self._sources.update(_digest_of(name.as_py()) for name in batch["source"])
                self._digests.update(batch["digest"].to_pylist())
        self._shard = shards[-1] if shards else 0
        if self._shard in indexed:
            self._shard += 1

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        # What was read before a damaged image, or before Ctrl-C, is kept.
        if kind is None or issubclass(kind, (UserError, KeyboardInterrupt)):
            self._commit()
            self._write_index()

    def holds(self, item: Item) -> bool:
        """Return whether the store held an image when this was opened."""
        return bool(self._sources) and _digest_of(item.source) in self._sources

    def add(self, encoded: Encoded) -> bool:
        """Add an image, unless the store holds the same file already.

        Returns:
            Whether it was added.

        Raises:
            UserError: the disk is full.
        """
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
        shards = _shards(self.folder)
        tables = [_read_rows(self.folder, shard) for shard in shards]
        if not any(len(table) for table in tables):
            return
        table = _joined(tables).drop_columns(["source"])
        order = [(name, "ascending") for name in ("place", "season", "path")]
        table = table.sort_by(order).combine_chunks()
        codes = table["place"].combine_chunks().dictionary_encode().indices.to_numpy()
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        count = np.diff(first, append=len(codes))
        table = table.append_column("place_first", pa.array(np.repeat(first, count), pa.int64()))
        table = table.append_column("place_count", pa.array(np.repeat(count, count), pa.int64()))
        sizes = {shard: shard_path(self.folder, shard).stat().st_size for shard in shards}
        table = table.replace_schema_metadata({SHARD_SIZES: json.dumps(sizes)})
        with (
            replacing(self.folder / INDEX) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            # One batch, so that every column is one stretch of memory.
            writer.write_table(table, max_chunksize=len(table))


def _digest_of(source: str) -> int:
    return digest(source.encode("utf-8", "surrogateescape"))


def places_of(folder: Path) -> Iterator[str]:
    """Yield the places of the images of a store, which need not be there; some more than once.

    Raises:
        UserError: a shard is damaged.
    """
    for shard in _shards(folder):
        yield from pc.unique(_read_rows(folder, shard)["place"]).to_pylist()


def _shards(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in (folder / SHARDS).glob("*.lmdb"))


def _indexed(folder: Path) -> dict[int, int]:
    """Return the shards that the index names, which may be in use, and the sizes of their files."""
    if not (folder / INDEX).exists():
        return {}
    try:
        store = Store(folder)
    except UserError:  # which shards it named nobody knows; it is made anew
        return dict.fromkeys(_shards(folder), 0)
    return dict.fromkeys(pc.unique(store.table["shard"]).to_pylist(), 0) | store.shard_sizes


def _read_rows(folder: Path, shard: int, size: int = 0) -> pa.Table:
    """Read the columns of a shard's images; its file has `size` bytes at least."""
    path = shard_path(folder, shard)
    tables = []
    try:
        with (
            open_shard(path, size).begin() as transaction,
            transaction.cursor() as cursor,
        ):
            found = cursor.set_range(ROWS)
            while found and cursor.key().startswith(ROWS):
                tables.append(pa.ipc.open_file(cursor.value()).read_all())
                found = cursor.next()
    except (lmdb.CorruptedError, lmdb.InvalidError, pa.ArrowInvalid) as error:
        raise UserError(
            f"the shard {path} is damaged: remove it and pack again ({error})"
        ) from error
    except lmdb.Error as error:
        raise UserError(f"cannot read the shard {path}: {error}") from error
    return _joined([pa.schema({"source": pa.string(), **_COLUMNS}).empty_table(), *tables])


def _joined(tables: list[pa.Table]) -> pa.Table:
    """Put tables below each other; a column whose types do not go together becomes text."""
    fields: dict[str, set[pa.Field]] = {}
    for table in tables:
        for column in table.schema:
            fields.setdefault(column.name, set()).add(column)
    for name, found in fields.items():
        try:
            pa.unify_schemas(
                [pa.schema([column]) for column in found], promote_options="permissive"
            )
        except pa.ArrowTypeError:
            tables = [_as_text(table, name) for table in tables]
    return pa.concat_tables(tables, promote_options="permissive")


def _as_text(table: pa.Table, name: str) -> pa.Table:
    if name not in table.column_names:
        return table
    index = table.column_names.index(name)
    return table.set_column(index, name, table[name].cast(pa.string()))


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
