"""Locks; that files are whole or not there is tested where they are written."""

import multiprocessing
import time
from pathlib import Path

import pytest

from cgeartheye.files import lock


def test_one_at_a_time(tmp_path: Path) -> None:
    with lock(tmp_path / "new" / ".lock"), pytest.raises(BlockingIOError):
        lock(tmp_path / "new" / ".lock")
    lock(tmp_path / "new" / ".lock").close()


def test_a_forked_worker_does_not_keep_a_lock(tmp_path: Path) -> None:
    """As a loader worker that outlives a killed training for some seconds would."""
    held = lock(tmp_path / ".lock")
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    try:
        with pytest.raises(BlockingIOError):
            lock(tmp_path / ".lock")
        held.close()
        deadline = time.monotonic() + 30  # the worker lets go as soon as it runs
        while True:
            try:
                lock(tmp_path / ".lock").close()
                break
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert worker.is_alive()
    finally:
        worker.kill()
        worker.join()
