"""The cache of frozen features.

With a frozen backbone an image gives the same features in every epoch, so each augmented view is
encoded once and read from a memory-mapped file of half-precision numbers from then on.
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from cgeartheye.training import distributed
from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import lock, write_json

Stored = type[np.float16] | type[np.float32] | type[np.uint8]
# Yields, for the samples that this process encodes, their indices and features [n, views, ...].
Encoder = Callable[[], Iterator[tuple[list[int], Tensor]]]


def cached(
    folder: Path,
    facts: Mapping[str, object],
    shape: tuple[int, ...],
    encode: Encoder,
    dtype: Stored = np.float16,
) -> np.ndarray:
    """Return features `[samples, views, ...]`, encoding them if they are not there yet.

    A cache is in use only under its final name, which it gets when every row is on the disk. A
    second run that wants the same features waits for the first and then reads what it made. With
    several processes each encodes its share into one file, so the folder must be shared.

    Args:
        folder: where caches are kept.
        facts: everything that the features depend on; JSON values.
        shape: samples, views, and what one view has.
        encode: called in every process if there is no cache.
        dtype: half precision for features, bytes for the masks and float32 for the boxes beside
            them.

    Raises:
        UserError: no room on the disk, no permission, features that are not finite, or a folder
            that the processes do not share.
    """
    path = _path(folder, facts)
    partial = path.with_suffix(".partial")
    with _lock(path.with_suffix(".lock")):
        failure = None
        found = path.exists() and (not distributed.is_main() or _is_whole(path, shape, dtype))
        if distributed.is_main() and not found:
            try:
                _allocate(partial, shape, dtype)
            except UserError as error:
                failure = error
        distributed.raise_from_rank0(failure)
        if not distributed.gather(found)[0]:
            _fill(partial, encode)
            distributed.barrier()
            if distributed.is_main():
                write_json(path.with_suffix(".json"), json.loads(json.dumps(facts, default=str)))
                with _as_user_error(path):
                    partial.rename(path)
    distributed.barrier()
    if not path.exists():
        raise UserError(f"{folder} must be a folder that all processes share: set cache.folder")
    features: np.ndarray = np.load(path, mmap_mode="r")
    assert features.shape == shape, (features.shape, shape)
    return features


def stored(
    folder: Path, facts: Mapping[str, object], shape: tuple[int, ...], dtype: Stored
) -> np.ndarray | None:
    """Return what `cached` has encoded; none: it has not, or it cannot be read.

    Args:
        folder: see `cached`.
        facts: see `cached`.
        shape: see `cached`.
        dtype: see `cached`.
    """
    path = _path(folder, facts)
    if not (path.exists() and _is_whole(path, shape, dtype)):
        return None
    features: np.ndarray = np.load(path, mmap_mode="r")
    return features


def _path(folder: Path, facts: Mapping[str, object]) -> Path:
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]
    return folder / f"{key}.npy"


def _is_whole(path: Path, shape: tuple[int, ...], dtype: Stored) -> bool:
    """Return whether a cache can be read; one that cannot is removed and made anew."""
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        if rows.shape == shape and rows.dtype == dtype:
            return True
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError, OverflowError):
        pass  # numpy reads the head of a file as Python
    warn(f"the features in {path} are damaged: they are encoded again")
    path.unlink(missing_ok=True)
    return False


def _fill(partial: Path, encode: Encoder) -> None:
    if not partial.exists():
        raise UserError(
            f"{partial.parent} must be a folder that all processes share: set cache.folder"
        )
    rows = np.lib.format.open_memmap(partial, mode="r+")
    for indices, features in encode():
        with np.errstate(over="ignore"):
            values = features.float().cpu().numpy().astype(rows.dtype)
        if not np.isfinite(values).all():
            raise UserError(
                f"the features of image {indices[0]} and the {len(indices) - 1} after it are not "
                "finite: check the backbone's weights, or set training.precision=fp32"
            )
        rows[indices] = values
    with _as_user_error(partial):
        rows.flush()


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    """Turn what a disk raises into a sentence for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _allocate(partial: Path, shape: tuple[int, ...], dtype: Stored) -> None:
    """Make the file with all its blocks, so that a full disk shows now and not half-way."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(partial.parent).free
    try:
        if free < size:
            raise OSError(errno.ENOSPC, "no space left")
        rows = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        offset = partial.stat().st_size - size
        del rows
        with partial.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, offset + size)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the feature cache in {partial.parent} needs {size / 1e9:.2f} GB and "
                f"{free / 1e9:.2f} GB are free: make room, name another cache.folder, lower "
                "cache.views or set cache.enabled=false"
            ) from error
        raise UserError(f"cannot write {partial}: {error.strerror}") from error


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process dies, in the first process."""
    failure = file = None
    if distributed.is_main():
        try:
            file = lock(path, wait=True)
        except UserError as error:
            failure = error
    distributed.raise_from_rank0(failure)
    try:
        yield
    finally:
        if file is not None:
            file.close()
