import subprocess
import sys
from pathlib import Path

import pytest

from cgeartheye.jlssd.workers import spread
from cgeartheye.utils.errors import UserError


@pytest.mark.parametrize("module", ["sampling.cells", "chips.worker"])
def test_processes_import_little(module: str) -> None:
    """PyTorch alone takes each process 1.5 s and 0.6 GB."""
    heavy = {"torch", "pandas", "matplotlib", "sklearn"}
    script = f"import sys, cgeartheye.jlssd.{module}; print(*{heavy!r} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.split() == []


def _note(folder: Path, number: int) -> None:
    if number < 0:
        raise UserError("a number below 0")
    (folder / str(number)).touch()


@pytest.mark.parametrize("workers", [0, 1])
def test_every_task_is_done_and_failures_are_reported(tmp_path: Path, workers: int) -> None:
    assert len(list(spread(_note, tmp_path, range(5), workers))) == 5
    assert {path.name for path in tmp_path.iterdir()} == set("01234")
    with pytest.raises(UserError, match="below 0"):
        list(spread(_note, tmp_path, [-1], workers))
