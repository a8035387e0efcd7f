"""Locks and pictures; that other files are whole or not there is tested where they are written."""

import errno
import json
import math
import multiprocessing
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import json_text, lock, replacing, sample, write_image, write_text


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
    """NaN becomes null in JSON, and everything else is read back as it was."""

    def expected(part: Any) -> Any:
        if isinstance(part, float) and not math.isfinite(part):
            return None
        if isinstance(part, dict):
            return {name: expected(inner) for name, inner in part.items()}
        return [expected(inner) for inner in part] if isinstance(part, list) else part

    assert json.loads(json_text(value), parse_constant=pytest.fail) == expected(value)


def test_the_next_writer_removes_what_dead_processes_left(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    own = subprocess.run([sys.executable, "-c", LEAVE, tmp_path, str(gone.pid)], check=True)
    assert own.returncode == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 5
    write_text(tmp_path / "a.txt", "new")
    names = {path.name for path in tmp_path.iterdir()}
    # A living process, another computer's and what only looks alike are left alone.
    assert names == {"a.txt", *(name for name in left if not name.startswith(".dead"))}


LEAVE = """
import os, sys
from pathlib import Path
from cgeartheye.utils import io
folder = Path(sys.argv[1])
for name in (
    f".dead.{io._OWN}-{sys.argv[2]}-x1.partial.tif",
    f".dead.{io._OWN}-{sys.argv[2]}-x1.partial.tif.aux.xml",
    f".living.{io._OWN}-{os.getppid()}-x1.partial.tif",
    f".elsewhere.00000000-{sys.argv[2]}-x1.partial.tif",
    ".mine.partial.tif",
):
    (folder / name).touch()
"""


def test_a_killed_process_leaves_nothing_for_long(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from cgeartheye.utils.io import replacing
with replacing(Path(sys.argv[1]) / "a.txt") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    (left,) = tmp_path.iterdir()
    assert ".partial" in left.name
    write_text(tmp_path / "a.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Exception):
        pass

    def write(error: Exception) -> str:
        with pytest.raises(UserError) as found, replacing(tmp_path / "a", errors=(Odd,)):
            raise error
        return str(found.value)

    full = "the disk is full: make room, then start again"
    assert write(OSError(errno.ENOSPC, "x")) == f"cannot write {tmp_path / 'a'}: {full}"
    assert write(Odd("two\nlines")) == f"cannot write {tmp_path / 'a'}: two lines"
    nothing = type("Usage", (), {"free": 100})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nothing)
    assert write(Odd("a library's words")) == f"cannot write {tmp_path / 'a'}: {full}"


@pytest.mark.parametrize("name", ["chip.tif", "chip.bmp", "chip.png"])
def test_an_edit_of_some_rows_changes_what_identifies_an_image(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    before = sample(path)
    assert sample(path) == before
    pixels[140:170, 200:220] = 255
    Image.fromarray(pixels).save(path)
    assert sample(path) != before
    for size in (0, 1, 4095, 4096, 4097, 8192, 300_000):
        path.write_bytes(b"x" * size)
        assert sample(path).startswith(str(size).encode())
