"""The fastest way is found by measuring, once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cgeartheye.commands import autotune, tasks
from cgeartheye.commands.autotune import Tuned, tune
from cgeartheye.config.loader import load
from cgeartheye.utils.console import muted


@pytest.mark.usefixtures("shallow")
def test_the_fastest_way_is_found_and_kept(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with muted():
        tasks.train(load(config_file, ["training.epochs=1"]))
    best = Tuned("torch", 1, 16, onednn=False, channels_last=False)
    threads = torch.get_num_threads()
    now: list[Tuned] = []
    monkeypatch.setattr(Tuned, "prepare", lambda self: now.append(self))

    def seconds(model: tasks.LoadedModel, count: int) -> float:
        """Each thing that is not as in the best way doubles the time."""
        way = now[-1]
        pairs = zip(vars(way).values(), vars(best).values(), strict=True)
        return 2.0 ** sum(one != two for one, two in pairs)

    monkeypatch.setattr(autotune, "_seconds", seconds)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert tune(tmp_path / "run", None, None, []) == best
    measured = len(now)
    assert tune(tmp_path / "run", None, None, []) == best
    assert len(now) == measured  # what was measured is kept
    (tmp_path / "cache/cgeartheye/autotune.json").write_text("damaged")
    assert tune(tmp_path / "run", "torch", None, []) == best
    assert torch.get_num_threads() == threads
    assert replace(best, threads=2) != best
