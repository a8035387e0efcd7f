"""A packed set of unlabelled images: encoded images in LMDB shards, and one index of columns.

    STORE/index.arrow         a row an image, the images of a place side by side
    STORE/shards/00000.lmdb   key: number in the shard, 8 bytes; value: a JPEG or PNG file

The index is memory-mapped, so all processes of a machine share its pages. A shard that the index
names is never written again, so that a store may be read while images are added to it.
"""

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from cgeartheye.utils.errors import UserError
from cgeartheye.utils.state import json_object

INDEX, SHARDS = "index.arrow", "shards"
SHARD_SIZES = b"shard_sizes"  # in the index: JSON, shard to bytes of its file


class Store:
    """Reads a store; may be handed to worker processes.

    Attributes:
        folder: of the store.
        table: the index, memory-mapped: shard, key, path (the image's name in its source), place,
            season, height, width, bytes (of the file), digest; lon, lat and gsd (m/px)
            where they are known; and whatever columns a packed table had.
        shard_sizes: bytes of each shard's file, as the index states.
    """

    def __init__(self, folder: Path):
        """Open a store.

        Raises:
            UserError: there is none, or its index is damaged.
        """
        self.folder = folder
        path = folder / INDEX
        if not path.is_file():
            raise UserError(
                f"no store of images in {folder}: make one with cgeartheye pretrain pack SOURCE "
                f"--out {folder}"
            )
        try:
            self.table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            self._height, self._width = self._column("height"), self._column("width")
            self._shard, self._key = self._column("shard"), self._column("key")
            self._first, self._count = self._column("place_first"), self._column("place_count")
            sizes = json_object((self.table.schema.metadata or {}).get(SHARD_SIZES, b"{}"))
            self.shard_sizes = {int(shard): int(size) for shard, size in sizes.items()}
        except (pa.ArrowException, KeyError, OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is damaged: pack again, images already packed stay") from error
        if not len(self):
            raise UserError(f"the store {folder} is empty")
        self._shards: dict[int, lmdb.Environment] = {}
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.table)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    @cached_property
    def fingerprint(self) -> str:
        """Of the images, their order and which of them share a place."""
        seen = hashlib.blake2b(digest_size=16)
        for column in (self._column("digest"), self._first):
            seen.update(np.ascontiguousarray(column).data)
        return seen.hexdigest()

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        return int(self._height[index]), int(self._width[index])

    def seasons(self, index: int) -> Sequence[int]:
        """Indices of the other images of its place."""
        first, count = int(self._first[index]), int(self._count[index])
        return [other for other in range(first, first + count) if other != index]

    def read(self, index: int) -> bytes:
        """Return an image's file, JPEG or PNG.

        Raises:
            UserError: it is not in the store.
        """
        try:
            with self._open(int(self._shard[index])).begin(buffers=False) as transaction:
                found: bytes | None = transaction.get(as_key(int(self._key[index])))
        except lmdb.Error as error:
            raise UserError(f"cannot read {self.name(index)}: {error}") from error
        if found is None:
            raise UserError(f"{self.name(index)} is missing: pack it again into a new store")
        return found

    def decode(self, index: int) -> Tensor:
        """Return an image, uint8 `[3, H, W]`.

        Raises:
            UserError: it is missing or damaged.
        """
        encoded = torch.frombuffer(bytearray(self.read(index)), dtype=torch.uint8)
        try:
            image: Tensor = decode_image(encoded, ImageReadMode.RGB)
            return image
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.name(index)} is damaged: find what else is with cgeartheye pretrain pack "
                f"--verify --out {self.folder}"
            ) from error

    def name(self, index: int) -> str:
        """Return an image's path and store, for messages."""
        return f"{self.table['path'][index]} in the store {self.folder}"

    def _column(self, name: str) -> np.ndarray:
        column: np.ndarray = self.table[name].to_numpy()
        return column

    def _open(self, shard: int) -> lmdb.Environment:
        # An environment must not be used after a fork.
        if self._process != os.getpid():
            self._shards, self._process = {}, os.getpid()
        if shard not in self._shards:
            path = shard_path(self.folder, shard)
            self._shards[shard] = open_shard(path, self.shard_sizes.get(shard, 0))
        return self._shards[shard]


_OPEN: WeakValueDictionary[tuple[int, str], lmdb.Environment] = WeakValueDictionary()


def open_shard(path: Path, size: int = 0) -> lmdb.Environment:
    """Open a shard for reading; closed when nobody holds it any more.

    Args:
        path: of the shard.
        size: bytes that its file has at least.

    Raises:
        UserError: it is shorter. Reading what is missing would end the process by a signal.
        lmdb.Error: it cannot be opened.
    """
    if size and path.is_file() and path.stat().st_size < size:
        raise UserError(f"{path} is cut off: copy it again, or pack into a new store")
    mine = os.getpid(), str(path.resolve())  # must not be opened twice in a process
    environment = _OPEN.get(mine)
    if environment is None:
        environment = _OPEN[mine] = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, readahead=False
        )
    return environment


def shard_path(folder: Path, shard: int) -> Path:
    """Path of a shard."""
    return folder / SHARDS / f"{shard:05d}.lmdb"


def as_key(number: int) -> bytes:
    """Key of an image in its shard: keys rise with the numbers."""
    return number.to_bytes(8, "big")


def digest(encoded: bytes) -> int:
    """Return a hash of 64 bits of a file's content."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")
