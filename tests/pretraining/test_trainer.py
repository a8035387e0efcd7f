import json
import math
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from tests import processes
from toy_pretraining import SIZE, pretrain_toy, toy_config, toy_trainer

from cgeartheye.config import Backbone, load, to_yaml
from cgeartheye.models import backbone
from cgeartheye.models.backbone import SIZES, VisionTransformer, inspect
from cgeartheye.models.backbone.block import PATCH
from cgeartheye.pretraining.losses import effective_rank
from cgeartheye.pretraining.model import SSLNetwork
from cgeartheye.pretraining.monitor import PATIENCE, collapse
from cgeartheye.pretraining.trainer import Position, continue_from
from cgeartheye.training import checkpoint
from cgeartheye.training.run_dir import Run, read_history
from cgeartheye.utils.errors import UserError


@pytest.fixture(autouse=True)
def small_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", SIZE)


def tensors(trainer: Any) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor
        for part in ("student", "teacher", "losses")
        for name, tensor in getattr(trainer, part).state_dict().items()
    }


def without_speed(folder: Path) -> list[dict[str, Any]]:
    speed = {"images_per_s", "data_wait"}
    return [{k: v for k, v in r.items() if k not in speed} for r in read_history(folder)]


def last_checkpoint(folder: Path) -> Path:
    path = checkpoint.latest(folder / "checkpoints")
    assert path
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone__drop_path": 0.4},
        {"objective__centring": "sinkhorn", "objective__koleo_weight": 0.1},
        {"training__freeze_prototypes": 0.9},  # the checkpoint lacks their moments
    ],
)
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = pretrain_toy(toy_config(tmp_path / "whole", **changes))
    config = toy_config(tmp_path / "killed", **changes)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
        step = trainer.step

        def killed(views: Any) -> None:
            if trainer.position.step == 5:
                raise KeyboardInterrupt
            step(views)

        trainer.step = killed  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    path = last_checkpoint(config.work_dir)
    assert path.name == "step-000000004"
    resumed = pretrain_toy(config, path)
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensor, tensors(resumed)[name]), name
    assert without_speed(tmp_path / "whole") == without_speed(tmp_path / "killed")
    assert len(read_history(tmp_path / "whole")) == 6


def test_the_exported_teacher_serves_every_task(tmp_path: Path) -> None:
    trainer = pretrain_toy(toy_config(tmp_path, backbone__gsd=0.6))
    for path in (tmp_path, last_checkpoint(tmp_path)):
        facts = inspect(path / "model.safetensors")
        assert facts["gsd"] == "0.6"
        assert facts["image_size"] == "28"
        built = backbone.build(Backbone(name="tiny", weights=path / "model.safetensors"), 28)
        images = torch.randn(2, 3, 28, 28)
        expected = trainer.teacher.eval().features(images)
        torch.testing.assert_close(built.module(images)[0], expected)


def test_old_checkpoints_are_dropped(tmp_path: Path) -> None:
    pretrain_toy(toy_config(tmp_path, training__checkpoint_every=1, training__keep_every=3))
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000003", "step-000000005", "step-000000006"]


def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(tmp_path)
    real = checkpoint.saving.save

    def full(parts: Any, checkpoint_id: Path, **others: Any) -> None:
        if "step-000000004" in checkpoint_id.name:
            (checkpoint_id / "half").write_bytes(b"x")
            raise OSError(28, "No space left on device")
        real(parts, checkpoint_id=checkpoint_id, **others)

    monkeypatch.setattr(checkpoint.saving, "save", full)
    with pytest.raises(UserError, match=r"No space left on device.*--resume"):
        pretrain_toy(config)
    monkeypatch.undo()
    monkeypatch.setitem(SIZES, "tiny", SIZE)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000000002"]
    resumed = pretrain_toy(config, last_checkpoint(tmp_path))
    assert resumed.position.step == 6


DAMAGED = {
    "empty": "",
    "cut off": '{"store": "',
    "no JSON": "PK\x03\x04",
    "a list": "[1, 2]",
    "nested": '{"store": ' + "[" * 50_000,
    "a number of thousands of digits": '{"step": ' + "9" * 5_000 + "}",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_position_is_named_with_the_way_on(tmp_path: Path, text: str) -> None:
    path = tmp_path / "checkpoints/step-000000004"
    path.mkdir(parents=True)
    (path / checkpoint.POSITION).write_text(text)
    with pytest.raises(UserError, match=r"is damaged.*delete .*--resume") as caught:
        checkpoint.read_position(path, Position)
    assert str(path / checkpoint.POSITION) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_resumes_by_the_message_about_a_damaged_position(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "run")
    pretrain_toy(config)
    whole = without_speed(tmp_path / "run")
    last = last_checkpoint(tmp_path / "run")
    (last / checkpoint.POSITION).write_text(DAMAGED["nested"])
    with pytest.raises(UserError, match=f"delete {last}, then go on"):
        pretrain_toy(config, last)
    shutil.rmtree(last)
    before = last_checkpoint(tmp_path / "run")
    assert pretrain_toy(config, before).position.step == 6
    assert without_speed(tmp_path / "run") == whole


class Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_no_code_runs_from_a_checkpoint(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "run")
    pretrain_toy(config)
    path, target = last_checkpoint(tmp_path / "run"), tmp_path / "owned"
    (path / ".metadata").write_bytes(pickle.dumps(Malicious(target)))
    with pytest.raises(UserError, match=r"step-000000006 is damaged.*system, it was not read"):
        pretrain_toy(config, path)
    with pytest.raises(UserError, match="it was not read"):
        checkpoint.read_part(path, "student")
    assert not target.exists()


def test_a_checkpoint_of_another_batch_or_no_checkpoint(tmp_path: Path) -> None:
    pretrain_toy(toy_config(tmp_path))
    with pytest.raises(UserError, match="4 samples a step, here 2"):
        pretrain_toy(toy_config(tmp_path, batch=2), last_checkpoint(tmp_path))
    with pytest.raises(UserError, match="is no checkpoint"):
        pretrain_toy(toy_config(tmp_path), tmp_path)
    with pytest.raises(UserError, match="of another model"):
        pretrain_toy(toy_config(tmp_path, heads__hidden=8), last_checkpoint(tmp_path))


def test_a_loss_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
        compute = trainer.losses.forward

        def poisoned(*arguments: Any) -> Any:
            losses, targets, tokens = compute(*arguments)
            if trainer.position.step in poisoned_steps:
                losses["dino"] = losses["dino"] * torch.nan
            return losses, targets, tokens

        trainer.losses.forward = poisoned  # type: ignore[method-assign]
        poisoned_steps = {0}
        before = {n: t.clone() for n, t in tensors(trainer).items() if "centre" not in n}
        trainer.step(next(trainer.loader.batches(0, 1)))
        for name, tensor in before.items():
            assert torch.equal(tensor, tensors(trainer)[name]), name
        assert trainer.position.skipped == 1
        poisoned_steps = set(range(1, 6))
        with pytest.raises(UserError, match="not finite for 5 steps in a row, until step 4"):
            trainer.train()


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    config = toy_config(tmp_path, training__steps=8)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
        step = trainer.step

        def breaking(views: Any) -> None:
            step(views)
            if trainer.position.step == 3:
                next(trainer.student.parameters()).data.fill_(math.nan)

        trainer.step = breaking  # type: ignore[method-assign]
        with pytest.raises(UserError, match="weights are not finite at step 4, and are not kept"):
            trainer.train()
    assert last_checkpoint(tmp_path).name == "step-000000002"
    assert math.isnan(effective_rank(torch.full((4, 3), math.nan)))


def test_two_samples_a_step_are_no_collapse(tmp_path: Path) -> None:
    """Their features lie on a line, whatever they are."""
    pretrain_toy(toy_config(tmp_path, batch=1, training__steps=PATIENCE + 6))


def test_a_refused_resume_leaves_the_config(tmp_path: Path) -> None:
    pretrain_toy(toy_config(tmp_path))
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(UserError):
        pretrain_toy(toy_config(tmp_path, batch=2), last_checkpoint(tmp_path))
    assert (tmp_path / "config.yaml").read_text() == before
    pretrain_toy(toy_config(tmp_path, training__steps=8), last_checkpoint(tmp_path))
    assert "steps: 8" in (tmp_path / "config.yaml").read_text()


def test_a_loss_that_is_finite_again_goes_on(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
        compute = trainer.losses.forward

        def poisoned(*arguments: Any) -> Any:
            losses, targets, tokens = compute(*arguments)
            if trainer.position.step % 2:
                losses["dino"] = losses["dino"] * torch.inf
            return losses, targets, tokens

        trainer.losses.forward = poisoned  # type: ignore[method-assign]
        trainer.train()
    assert all(tensor.isfinite().all() for tensor in tensors(trainer).values())
    assert ["dino" in record for record in read_history(tmp_path)] == [True, False] * 3


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        ((0.3, 0.9, 20.0), None),
        ((0.0, 0.0, 20.0), "the same prototype"),
        ((1.0, 1.0, 20.0), "all prototypes alike"),
        ((0.3, 0.9, 1.1), "fill 1.1 dimensions"),
        ((0.3, 0.9, float("nan")), "not finite"),
    ],
)
def test_signs_of_a_collapse(signs: tuple[float, float, float], words: str | None) -> None:
    *entropies, rank = signs
    found = collapse(rank, *entropies)
    assert found is None if words is None else words in str(found)


def test_a_collapse_stops_the_run(tmp_path: Path) -> None:
    # A teacher so blunt that every image gets all prototypes alike.
    config = toy_config(
        tmp_path, training__steps=2 * PATIENCE, objective__teacher_temperature=(1e4, 1e4)
    )
    with pytest.raises(UserError, match=r"collapsed by step \d+ \(.*all prototypes alike"):
        pretrain_toy(config)


def test_a_backbone_with_weights_waits_for_its_heads(tmp_path: Path) -> None:
    torch.manual_seed(1)
    vit = VisionTransformer(SIZE, grid=2)
    weights = tmp_path / "start.safetensors"
    save_file(
        vit.state_dict(), weights, {"mean": "[120, 120, 120]", "std": "[60, 60, 60]", "gsd": "1"}
    )
    config = toy_config(
        tmp_path / "run",
        backbone__weights=weights,
        training__freeze_backbone=0.5,
        training__weight_decay=(0.0, 0.0),
    )
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
        head = trainer.student.class_head.mlp[0].weight.clone()
        for batch in trainer.loader.batches(0, 3):
            trainer.step(batch)
        for name, tensor in vit.state_dict().items():
            assert torch.equal(trainer.student.backbone.state_dict()[name], tensor), name
        assert not torch.equal(trainer.student.class_head.mlp[0].weight, head)
        trainer.step(next(trainer.loader.batches(3, 4)))
    assert not torch.equal(trainer.student.backbone.cls_token, vit.cls_token)
    assert trainer.normalization.mean == (120, 120, 120)


def test_the_last_layer_of_the_heads_waits(tmp_path: Path) -> None:
    config = toy_config(tmp_path, training__freeze_prototypes=0.5)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
        before = [head.prototypes.weight.clone() for head in trainer.student.heads()]
        for step, batch in enumerate(trainer.loader.batches(0, 4)):
            trainer.step(batch)
            for old, head in zip(before, trainer.student.heads(), strict=True):
                assert torch.equal(old, head.prototypes.weight) == (step < 3)


def test_stage_two_takes_over_student_teacher_heads_and_centres(tmp_path: Path) -> None:
    first = pretrain_toy(toy_config(tmp_path / "first"))
    config = toy_config(tmp_path / "second", views__global_size=42)
    config = config.model_copy(update={"start_from": tmp_path / "first"})
    with Run(config, False) as run:
        second = toy_trainer(config, run)
    assert second.teacher.backbone.pos_embed.shape[1] == 1 + 9
    for name, tensor in tensors(first).items():
        if "pos_embed" not in name:
            assert torch.equal(tensor, tensors(second)[name]), name
    broken = toy_config(tmp_path / "third", heads__prototypes=16)
    with Run(broken, False) as run:
        third = toy_trainer(broken, run)
        with pytest.raises(UserError, match="does not fit"):
            continue_from(tmp_path / "first", third.student, third.teacher, third.losses)


def test_the_teacher_is_the_moving_average_of_the_student(tmp_path: Path) -> None:
    config = toy_config(tmp_path, objective__momentum=0.9, objective__momentum_end=1.0)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
        expected = {n: t.double() for n, t in trainer.teacher.state_dict().items()}
        for step, batch in enumerate(trainer.loader.batches(0, 3)):
            trainer.step(batch)
            momentum = trainer.schedule.momentum(step)
            for name, tensor in trainer.student.state_dict().items():
                expected[name] = momentum * expected[name] + (1 - momentum) * tensor.double()
    for name, tensor in trainer.teacher.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective__masked_weight": 0.0},
        {"heads__shared": True},
        {"views__seasons": "extra"},
        {"views__seasons": "off"},
        {"training__precision": "bf16"},
        {"data__hold": "memory", "data__workers": 1},
        {"data__hold": "device"},
        {"backbone__registers": 2, "backbone__checkpoint_activations": True},
    ],
)
def test_every_setting_trains(tmp_path: Path, changes: dict[str, Any]) -> None:
    trainer = pretrain_toy(toy_config(tmp_path, **changes))
    assert all(tensor.isfinite().all() for tensor in tensors(trainer).values())
    assert ("masked" in read_history(tmp_path)[-1]) == ("objective__masked_weight" not in changes)


def test_a_timm_backbone_is_refused(tmp_path: Path) -> None:
    config = toy_config(tmp_path, backbone__name="timm/resnet18")
    with pytest.raises(UserError, match="'timm/resnet18' cannot be pre-trained"):
        pretrain_toy(config)


@pytest.mark.distributed
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_processes_are_one(tmp_path: Path, sharding: str) -> None:
    changes = {
        "training__sharding": sharding,
        "objective__koleo_weight": 0.1,
        "objective__centring": "softmax" if sharding == "fsdp" else "sinkhorn",
    }
    one = pretrain_toy(toy_config(tmp_path / "one", batch=4, **changes))
    script = Path(__file__).with_name("toy_pretraining.py")
    processes.run_ranks([script, tmp_path / "two", "2", json.dumps(changes)])
    two = json.loads((tmp_path / "two" / "history.json").read_text())
    for ours, theirs in zip(read_history(tmp_path / "one"), two, strict=True):
        for name in ("dino", "masked", "koleo", "entropy", "mean_entropy", "rank"):
            assert theirs[name] == pytest.approx(ours[name], rel=2e-4, abs=1e-5), name
    weights = load_file(tmp_path / "two" / "model.safetensors")
    for name, tensor in one.teacher.backbone.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-5)
    # What two processes saved, one goes on with.
    folder = tmp_path / "resumed"
    config = toy_config(folder, batch=4, training__steps=8, **changes)
    shutil.copytree(tmp_path / "two", folder)
    resumed = pretrain_toy(config, last_checkpoint(folder))
    assert resumed.position.step == 8
    assert isinstance(resumed.teacher, SSLNetwork)


def test_its_config_is_read_back(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert load(path) == config


def test_every_published_config_builds() -> None:
    folder = Path(__file__).parents[2] / "config" / "Pretraining"
    paths = sorted(folder.glob("CGEarthEye-*.py"))
    assert len(paths) >= 12
    for path in paths:
        config = load(path)
        assert config.task == "pretraining"
        assert config.views.global_size % PATCH == 0
        assert config.backbone.name == path.stem.split("-")[1].lower()
