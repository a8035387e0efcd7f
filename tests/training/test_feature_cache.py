import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cgeartheye.training import feature_cache
from cgeartheye.training.feature_cache import cached
from cgeartheye.utils.errors import UserError
from failing_writes import fail_each

SHAPE = (7, 2, 3)
VALUES = torch.arange(42.0).reshape(SHAPE)


def encode() -> Iterator[tuple[list[int], Tensor]]:
    for rows in ([0, 1, 2], [3, 4, 5], [6]):
        yield rows, VALUES[rows]


def encode_slowly() -> Iterator[tuple[list[int], Tensor]]:
    for batch in encode():
        time.sleep(0.3)
        yield batch


def not_again() -> Iterator[tuple[list[int], Tensor]]:
    raise AssertionError("encoded again")
    yield


def files(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir()}


def test_encodes_once_in_half_precision(tmp_path: Path) -> None:
    first = cached(tmp_path, {"weights": "a"}, SHAPE, encode)
    again = cached(tmp_path, {"weights": "a"}, SHAPE, not_again)
    assert first.dtype == np.float16
    np.testing.assert_array_equal(first, VALUES.numpy())
    np.testing.assert_array_equal(again, first)
    assert files(tmp_path) == {".npy", ".json", ".lock"}


def test_a_changed_fact_encodes_again(tmp_path: Path) -> None:
    cached(tmp_path, {"weights": "a", "views": 2}, SHAPE, encode)
    with pytest.raises(AssertionError, match="encoded again"):
        cached(tmp_path, {"weights": "b", "views": 2}, SHAPE, not_again)


def test_a_failure_half_way_leaves_no_cache(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[list[int], Tensor]]:
        yield [0], VALUES[:1]
        raise UserError("image 1 is truncated")

    with pytest.raises(UserError, match="truncated"):
        cached(tmp_path, {}, SHAPE, broken)
    assert ".npy" not in files(tmp_path)
    np.testing.assert_array_equal(cached(tmp_path, {}, SHAPE, encode), VALUES.numpy())


def test_features_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    def overflowing() -> Iterator[tuple[list[int], Tensor]]:
        yield [0, 1], torch.full((2, 2, 3), 1e6)

    with pytest.raises(UserError, match="not finite"):
        cached(tmp_path, {}, SHAPE, overflowing)
    assert ".npy" not in files(tmp_path)


def test_a_full_disk_is_reported_before_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_cache.os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"needs .* GB .* are free"):
        cached(tmp_path, {}, SHAPE, not_again)
    assert files(tmp_path) == {".lock"}


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A cache larger than the disk; nothing is written, nothing stays behind."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    rows = free // (2 * 1024 * 1024) + 1_000_000
    with pytest.raises(UserError, match="make room"):
        cached(tmp_path, {}, (rows, 1024, 1024), not_again)
    assert files(tmp_path) == {".lock"}


def _run(folder: Path, encodings: "multiprocessing.Queue[int]") -> None:
    def counting() -> Iterator[tuple[list[int], Tensor]]:
        encodings.put(os.getpid())
        yield from encode_slowly()

    result = cached(folder, {}, SHAPE, counting)
    assert (result == VALUES.numpy()).all()


def test_two_runs_at_once_encode_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    encodings = context.Queue()
    runs = [context.Process(target=_run, args=(tmp_path, encodings)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0]
    encodings.get(timeout=5)
    assert encodings.empty()


def test_a_kill_half_way_leaves_no_cache_in_use(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    encodings = context.Queue()
    run = context.Process(target=_run, args=(tmp_path, encodings))
    run.start()
    encodings.get(timeout=30)
    time.sleep(0.4)
    assert run.pid
    os.kill(run.pid, signal.SIGKILL)
    run.join(30)
    assert files(tmp_path) == {".partial", ".lock"}
    np.testing.assert_array_equal(cached(tmp_path, {}, SHAPE, encode), VALUES.numpy())
    assert files(tmp_path) == {".npy", ".json", ".lock"}


def test_after_any_write_that_failed_the_cache_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path) -> None:
        cached(folder, {"weights": "a"}, SHAPE, encode)

    def contents(folder: Path) -> object:
        found = cached(folder, {"weights": "a"}, SHAPE, not_again)
        return found.tolist(), files(folder)

    assert fail_each(monkeypatch, run, contents, tmp_path, few=10) >= 4
