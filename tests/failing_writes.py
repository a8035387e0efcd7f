"""A disk that is full for one write: the `n`-th of all that Python code makes."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from cgeartheye.utils.errors import UserError

ALL = os.environ.get("CGEARTHEYE_FAULTS") == "all"
"""Every write fails in turn; else some, so that the suite stays quick."""


class FailingWrites:
    """Counts writes, and lets one of them fail."""

    def __init__(self, patch: pytest.MonkeyPatch, n: int = 0):
        self.n, self.count = n, 0
        for place, name in (
            (
                os,
                "fsync",
            ),
            (os, "replace"),
            (Path, "write_text"),
            (Path, "write_bytes"),
            (parquet, "write_table"),
            (parquet.ParquetWriter, "write_table"),
            (np.memmap, "flush"),
        ):
            try:
                patch.setattr(place, name, self._wrap(getattr(place, name)))
            except TypeError:  # a type of C's
                continue

    def _wrap(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **more: Any) -> Any:
            self.count += 1
            if self.count == self.n:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return do(*args, **more)

        return write


def fail_each(
    patch: pytest.MonkeyPatch,
    run: Callable[[Path], object],
    contents: Callable[[Path], object],
    folder: Path,
    few: int = 6,
) -> int:
    """Check that after any write that failed, the same call ends with the same contents.

    Args:
        patch: for each write in turn.
        run: does the work into a folder, and goes on with what is there.
        contents: of such a folder.
        folder: for the work.
        few: writes that fail if not all do.

    Returns:
        How many writes failed.
    """
    with patch.context() as count:
        writes = FailingWrites(count)
        run(folder / "whole")
    whole = contents(folder / "whole")
    step = 1 if ALL else max(1, writes.count // few)
    for n in range(1, writes.count + 1, step):
        out = folder / f"{n}"
        with patch.context() as fault:
            FailingWrites(fault, n)
            with pytest.raises(UserError, match=r"full|cannot write|No space left"):
                run(out)
        run(out)
        assert contents(out) == whole, n
    return len(range(1, writes.count + 1, step))
