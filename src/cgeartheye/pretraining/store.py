"""A packed set of unlabelled images: encoded images in LMDB shards, and one index of columns.

    STORE/index.arrow         a row an image, the images of a place side by side
    STORE/shards/00000.lmdb   key: number in the shard, 8 bytes; value: a JPEG or PNG file

The index is memory-mapped, so all processes of a machine share its pages.
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

from cgeartheye.errors import UserError

INDEX, SHARDS = "index.arrow", "shards"


class Store:
    """Reads a store; may be handed to worker processes.

    Attributes:
        folder: of the store.
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
            self._size = np.stack([self._column("height"), self._column("width")], axis=1)
            self._shard, self._key = self._column("shard"), self._column("key")
            self._first, self._count = self._column("place_first"), self._column("place_count")
        except (pa.ArrowInvalid, KeyError, OSError) as error:
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
        """Of the images and their order."""
        digests = np.ascontiguousarray(self._column("digest"))
        return hashlib.blake2b(digests.tobytes(), digest_size=16).hexdigest()

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self._size[index].tolist()
        return height, width

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
        try:
            encoded = torch.frombuffer(bytearray(self.read(index)), dtype=torch.uint8)
            image: Tensor = decode_image(encoded, ImageReadMode.RGB)
            return image
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.name(index)} is damaged: find what else is with cgeartheye pretrain verify "
                f"{self.folder}"
            ) from error

    def name(self, index: int) -> str:
        """Say which image it is."""
        return f"{self.table['path'][index]} in the store {self.folder}"

    def _column(self, name: str) -> np.ndarray:
        column: np.ndarray = self.table[name].to_numpy()
        return column

    def _open(self, shard: int) -> lmdb.Environment:
        # An environment must not be used after a fork, nor opened twice in a process.
        if self._process != os.getpid():
            self._shards, self._process = {}, os.getpid()
        if shard not in self._shards:
            path = shard_path(self.folder, shard)
            shared = self._process, str(path.resolve())
            environment = _OPEN.get(shared)
            if environment is None:
                environment = _OPEN[shared] = lmdb.open(
                    str(path), subdir=False, readonly=True, lock=False, readahead=False
                )
            self._shards[shard] = environment
        return self._shards[shard]


_OPEN: WeakValueDictionary[tuple[int, str], lmdb.Environment] = WeakValueDictionary()


def shard_path(folder: Path, shard: int) -> Path:
    """Path of a shard."""
    return folder / SHARDS / f"{shard:05d}.lmdb"


def as_key(number: int) -> bytes:
    """Key of an image in its shard: keys rise with the numbers."""
    return number.to_bytes(8, "big")


def digest(encoded: bytes) -> int:
    """64 bits that tell two files apart."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")
