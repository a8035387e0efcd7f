import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tests import processes
from toy import CHIPS, Hits, ToySource, ToyTask, toy_config, train_toy

from cgeartheye.training import checkpoint
from cgeartheye.training.checkpoint import latest, read_part
from cgeartheye.training.run_dir import Run, read_history
from cgeartheye.training.trainer import Data, Trainer
from cgeartheye.utils.errors import UserError


def losses(history: list[dict[str, Any]]) -> list[float]:
    return [record["loss"] for record in history if record["kind"] == "train"]


def figures(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in history if record["kind"] == "val"]


def test_learns(tmp_path: Path) -> None:
    _, history = train_toy(toy_config(tmp_path, epochs=30))
    assert figures(history)[-1]["hits"] > 0.95
    assert losses(history)[-1] < 0.5 * losses(history)[0]
    assert len(losses(history)) == 30 * -(-CHIPS // 12)


class Killed(Exception):
    pass


@pytest.mark.parametrize("step", [3, 5, 11])
def test_resume_is_bit_identical(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of an epoch, at its end (5 steps an epoch), and later."""
    dropout = ToyTask()
    dropout.dropout.p = 0.3
    whole, expected = train_toy(toy_config(tmp_path / "whole", grad_accum_steps=1), task=dropout)

    config = toy_config(tmp_path / "cut", checkpoint_minutes=0)
    original = Trainer._step

    def dying(self: Trainer, *arguments: Any) -> float:
        if self.position.step == step:
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", dying)
    again = ToyTask()
    again.dropout.p = 0.3
    with pytest.raises(Killed):
        train_toy(config, task=again)
    monkeypatch.setattr(Trainer, "_step", original)
    again = ToyTask()
    again.dropout.p = 0.3
    again.head.weight.data.zero_()  # whatever the new process starts with
    resumed, history = train_toy(config, resume=latest(tmp_path / "cut/checkpoints"), task=again)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert losses(history) == losses(expected)
    assert figures(history) == figures(expected)


@pytest.mark.distributed
@pytest.mark.parametrize(("sharding", "grad_accum_steps"), [("ddp", 1), ("ddp", 2), ("fsdp", 1)])
def test_processes_follow_one_process(tmp_path: Path, sharding: str, grad_accum_steps: int) -> None:
    alone, expected = train_toy(toy_config(tmp_path / "one", clip_norm=0.5), batch=12)
    folder = tmp_path / "two"
    toy = [Path(__file__).with_name("toy.py"), folder, sharding]
    processes.run_ranks([*toy, str(6 // grad_accum_steps), str(grad_accum_steps)])
    together = torch.load(folder / "weights.pt", weights_only=True)
    history = json.loads((folder / "history.json").read_text())
    assert losses(history) == pytest.approx(losses(expected), rel=1e-4)
    assert [f["hits"] for f in figures(history)] == [f["hits"] for f in figures(expected)]
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=1e-3, atol=1e-4)

    # A checkpoint of two processes goes on in one.
    config = toy_config(folder, clip_norm=0.5)
    resumed, _ = train_toy(config, resume=latest(folder / "checkpoints"))
    assert all(torch.equal(resumed[name], together[name]) for name in together)


def test_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    large, _ = train_toy(toy_config(tmp_path / "a"), batch=12)
    small, _ = train_toy(toy_config(tmp_path / "b", grad_accum_steps=4), batch=3)
    for name, weight in large.items():
        torch.testing.assert_close(small[name], weight, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    config = toy_config(tmp_path, checkpoint_minutes=0)
    with pytest.raises(UserError, match=r"loss became nan by step \d+: .*checkpoints") as caught:
        train_toy(config, train=ToySource(poison=7))
    assert "\n" not in str(caught.value)
    kept = latest(tmp_path / "checkpoints")
    if kept:
        assert all(value.isfinite().all() for value in read_part(kept, "model").values())


def test_early_stop(tmp_path: Path) -> None:
    _, history = train_toy(toy_config(tmp_path, epochs=50, patience=2, lr=1e-9))
    assert len(figures(history)) == 3


@pytest.mark.parametrize("step", [1, {"x": 1}])
def test_a_checkpoint_of_another_step_drops_none(tmp_path: Path, step: object) -> None:
    train_toy(toy_config(tmp_path, epochs=1))
    path = latest(tmp_path / "checkpoints")
    assert path
    position = json.loads((path / "position.json").read_text())
    (path / "position.json").write_text(json.dumps(position | {"step": step}))
    with pytest.raises(UserError, match=r"position.json is damaged"):
        train_toy(toy_config(tmp_path, epochs=1), resume=path)
    assert path.exists()


def test_a_second_run_does_not_overwrite_the_first(tmp_path: Path) -> None:
    config = toy_config(tmp_path, epochs=1)
    train_toy(config)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="already holds a run: add --resume"):
        train_toy(config)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("file", [".metadata", "position.json", "__0_0.distcp"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02cos\nsystem\nq\x00."])
def test_a_broken_checkpoint_is_one_sentence(tmp_path: Path, file: str, content: bytes) -> None:
    config = toy_config(tmp_path, epochs=1)
    train_toy(config)
    path = latest(tmp_path / "checkpoints")
    assert path
    (path / file).write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged|no checkpoint") as caught:
        train_toy(config, resume=path)
    assert "\n" not in str(caught.value)


def test_a_run_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        train_toy(toy_config(tmp_path / "file" / "run"))


def test_a_checkpoint_of_other_steps_is_refused(tmp_path: Path) -> None:
    train_toy(toy_config(tmp_path, epochs=1), batch=12)
    last = latest(tmp_path / "checkpoints")
    with pytest.raises(UserError, match=r"53 images, 12 a step, this one has 53 and 6"):
        train_toy(toy_config(tmp_path, epochs=2), batch=6, resume=last)
    train_toy(toy_config(tmp_path, epochs=2, grad_accum_steps=2), batch=6, resume=last)


def test_two_trainings_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        Run(toy_config(tmp_path), resume=False),
        pytest.raises(UserError, match="another training is running"),
    ):
        Run(toy_config(tmp_path), resume=True)
    Run(toy_config(tmp_path), resume=True).close()


def test_a_training_that_failed_lets_the_next_one_in(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken") as kept, Run(toy_config(tmp_path), False):
        raise ValueError("broken")
    # Whoever keeps the error keeps its frames, and with them everything that they refer to.
    assert kept.tb is not None
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="already holds a run") as refused:
        Run(toy_config(tmp_path), resume=False)
    assert refused.tb is not None
    Run(toy_config(tmp_path), resume=True).close()


def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(tmp_path, epochs=1)
    train_toy(config)
    last = latest(tmp_path / "checkpoints")
    assert last
    before = {path.name: path.read_bytes() for path in last.iterdir()}

    def full(parts: object, checkpoint_id: Path, **others: object) -> None:
        (checkpoint_id / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.saving, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        train_toy(toy_config(tmp_path, epochs=2), resume=last)
    assert {path.name: path.read_bytes() for path in last.iterdir()} == before
    assert list(last.parent.iterdir()) == [last]


def test_one_checkpoint_stays_and_later_ones_are_removed(tmp_path: Path) -> None:
    """A training that goes on with an earlier checkpoint leaves none of the way that it left."""
    config = toy_config(tmp_path, epochs=1)
    train_toy(config)
    first = latest(tmp_path / "checkpoints")
    assert first
    shutil.copytree(first, tmp_path / "first" / first.name)
    train_toy(toy_config(tmp_path, epochs=3), resume=first)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000000015"]
    train_toy(toy_config(tmp_path, epochs=2), resume=tmp_path / "first" / first.name)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000000010"]


def test_a_line_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, history = train_toy(toy_config(tmp_path, epochs=4, evaluate_every=2))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    assert ["hits" in line for line in lines] == [False, True, False, True]
    of_epoch = [r["loss"] for r in history if r["kind"] == "train" and 5 < r["step"] <= 10]
    assert f"loss {sum(of_epoch) / len(of_epoch):.4f}" in lines[1]
    best = max(f["hits"] for f in figures(history))
    assert f"best {best:.2f}" in lines[3]
    assert lines[3].endswith("0:00:00 left")


def test_a_figure_that_is_not_defined_is_null_and_never_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F1 of no change, where none is found: the first model is kept until there is a figure."""
    found = iter([math.nan, 0.5, math.nan, 0.4])
    monkeypatch.setattr(Hits, "compute", lambda self: {"hits": next(found)})
    exported: list[int] = []
    config = toy_config(tmp_path, epochs=4)
    data = Data(train=ToySource(), train_batch=12, val=ToySource(), val_batch=12)
    with Run(config, False) as run:
        trainer = Trainer(
            task := ToyTask(),
            task.blocks,
            data,
            config.training,
            run,
            export=lambda model: exported.append(trainer.position.step),
        )
        trainer.train()
    assert exported == [5, 10]
    assert trainer.position.best == 0.5
    last = latest(tmp_path / "checkpoints")
    assert last
    texts = [(last / "position.json").read_text()]
    for text in texts + (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(text, parse_constant=pytest.fail)
    assert [math.isnan(f["hits"]) for f in figures(read_history(tmp_path))] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("found", "exported"), [([math.nan] * 3, [5, 10, 15]), ([math.nan, math.nan, 0.0], [5, 10, 15])]
)
def test_without_a_figure_the_newest_model_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: list[float], exported: list[int]
) -> None:
    """A validation part without an object has no average precision, at no time."""
    coming = iter(found)
    monkeypatch.setattr(Hits, "compute", lambda self: {"hits": next(coming)})
    kept: list[int] = []
    config = toy_config(tmp_path, epochs=3, patience=1)
    data = Data(train=ToySource(), train_batch=12, val=ToySource(), val_batch=12)
    with Run(config, False) as run:
        trainer = Trainer(
            task := ToyTask(),
            task.blocks,
            data,
            config.training,
            run,
            export=lambda model: kept.append(trainer.position.step),
        )
        trainer.train()
    assert kept == exported


@pytest.mark.parametrize("steps", [3, 7])
def test_a_training_that_is_at_its_end_is_resumed_in_vain(tmp_path: Path, steps: int) -> None:
    """Killed in the test after it; 5 steps are an epoch."""
    config = toy_config(tmp_path, steps=steps)
    _, before = train_toy(config)
    trained, after = train_toy(config, resume=latest(tmp_path / "checkpoints"))
    assert len(before) == len(after)
    assert trained is not None


@pytest.mark.parametrize("has", [False, True])
def test_bfloat16_without_hardware_is_named(
    tmp_path: Path,
    has: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    train_toy(toy_config(tmp_path, epochs=1, precision="bf16"))
    assert ("training.precision=fp32 is faster" in capsys.readouterr().out) is not has
