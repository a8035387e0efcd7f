"""Locks and pictures; that other files are whole or not there is tested where they are written."""

import json
import math
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import json_text, lock, write_image


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


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_full_disk_leaves_no_half_of_a_picture(tmp_path: Path, ending: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path, before = tmp_path / f"chip.{ending}", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match=rf"cannot write .*chip\.{ending}"):
            write_image(path, Image.fromarray(pixels))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    write_image(path, Image.fromarray(pixels))
    with Image.open(path) as image:
        assert image.size == (64, 64)
        assert image.format == {"jpg": "JPEG", "png": "PNG"}[ending]


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_strict(value: Any) -> None:
    """What is no number in JSON is null, and everything else is read back as it was."""

    def expected(part: Any) -> Any:
        if isinstance(part, float) and not math.isfinite(part):
            return None
        if isinstance(part, dict):
            return {name: expected(inner) for name, inner in part.items()}
        return [expected(inner) for inner in part] if isinstance(part, list) else part

    assert json.loads(json_text(value), parse_constant=pytest.fail) == expected(value)
