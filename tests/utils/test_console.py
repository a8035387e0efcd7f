import itertools
import subprocess
import sys

import pytest
import torch.distributed as dist
from IPython.display import HTML

from cgeartheye.utils import console
from cgeartheye.utils.console import bar, log_info, muted


@pytest.mark.parametrize(("rank", "printed"), [(0, True), (1, False)])
def test_only_the_first_process_of_a_group_prints(
    rank: int, printed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    log_info("here")
    assert ("here" in capsys.readouterr().out) == printed


def test_a_bar_needs_no_pytorch() -> None:
    script = (
        "import sys; from cgeartheye.utils.console import bar, log_info\n"
        "with bar('work', 2, 'parts') as progress: progress.advance()\n"
        "log_info('torch' if 'torch' in sys.modules else 'light')"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "light"


def test_a_bar_counts_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cgeartheye.utils.console.SECONDS_BETWEEN_LINES", -1)
    with bar("work", 4, "parts", done=1) as progress:
        progress.advance()
    assert "work: 2/4" in capsys.readouterr().out


def test_a_notebook_shows_one_line_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, drawn: HTML) -> None:
            shown.append(drawn.data)

    def display(drawn: HTML, display_id: bool) -> Handle:
        shown.append(drawn.data)
        return Handle()

    clock = itertools.count(0.0, 0.01)
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(console.console, "is_jupyter", True)
    monkeypatch.setattr("IPython.display.display", display)
    with bar("quick", 5, "parts") as progress:
        progress.advance(5)
    assert not shown  # what is over at once leaves nothing in a notebook
    with bar("work <1>", 1000, "parts") as progress:
        for _ in range(1000):
            progress.advance()
    assert 20 < len(shown) < 200  # a notebook keeps all that it was sent
    assert 'value="1000" max="1000"' in shown[-1]
    assert "work &lt;1&gt;" in shown[-1]


def test_what_is_muted_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with muted():
        log_info("one")
        with muted(False):
            log_info("two")
    with muted(False):
        log_info("three")
    assert capsys.readouterr().out.split() == ["three"]
