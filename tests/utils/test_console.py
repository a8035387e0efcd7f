import subprocess
import sys

import pytest
import torch.distributed as dist

from cgeartheye.utils.console import bar, log_info


@pytest.mark.parametrize(("rank", "told"), [(0, True), (1, False)])
def test_only_the_first_process_of_a_group_prints(
    rank: int, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    log_info("here")
    assert ("here" in capsys.readouterr().out) == told


def test_a_bar_needs_no_pytorch() -> None:
    script = (
        "import sys; from cgeartheye.utils.console import bar, say\n"
        "with bar('work', 2, 'parts') as progress: progress.advance()\n"
        "say('torch' if 'torch' in sys.modules else 'light')"
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
