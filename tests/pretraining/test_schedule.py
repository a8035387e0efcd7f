import itertools

import pytest

from cgeartheye.config import Heads, Objective, PretrainingSchedule
from cgeartheye.models.backbone import Size, VisionTransformer
from cgeartheye.pretraining.model import SSLNetwork
from cgeartheye.pretraining.schedule import Schedule, lr_factors
from cgeartheye.training.optimizer import adamw

DEPTH = 3


def schedule(**training: object) -> Schedule:
    objective = Objective(
        momentum=0.9, momentum_end=1.0, teacher_temperature=(0.04, 0.08), teacher_warmup=0.2
    )
    settings = {"steps": 100, "lr": 1e-3, "base_batch_size": 64, "lr_end": 1e-5, "warmup": 0.1}
    return Schedule(objective, PretrainingSchedule(**settings | training), global_batch=256)


def test_learning_rate() -> None:
    found = [schedule().lr(step) for step in range(101)]
    # Four times the batch, twice the rate.
    assert found[9] == pytest.approx(2e-3)
    assert found[4] == pytest.approx(1e-3)
    assert found[10 + 45] == pytest.approx((2e-3 + 1e-5) / 2)
    assert found[100] == pytest.approx(1e-5)
    assert all(a < b for a, b in itertools.pairwise(found[:10]))
    assert all(a > b for a, b in itertools.pairwise(found[10:]))
    assert schedule(base_batch_size=None).lr(9) == pytest.approx(1e-3)


def test_what_else_changes() -> None:
    plan = schedule(weight_decay=(0.04, 0.2), freeze_prototypes=0.02, freeze_backbone=0.05)
    assert [plan.weight_decay(s) for s in (0, 50, 100)] == pytest.approx([0.04, 0.12, 0.2])
    assert [plan.momentum(s) for s in (0, 50, 100)] == pytest.approx([0.9, 0.95, 1.0])
    temperatures = [plan.teacher_temperature(s) for s in (0, 10, 20, 99)]
    assert temperatures == pytest.approx([0.04, 0.06, 0.08, 0.08])
    assert [plan.freezes_prototypes(s) for s in (0, 1, 2)] == [True, True, False]
    assert [plan.freezes_backbone(s) for s in (0, 4, 5)] == [True, True, False]
    assert [plan.warms_up(s) for s in (0, 19, 20)] == [True, True, False]


def test_every_parameter_has_its_rate_and_decay() -> None:
    vit = VisionTransformer(Size(width=12, depth=DEPTH, heads=2, hidden=24), grid=2, registers=1)
    student = SSLNetwork(vit, Heads(prototypes=8, hidden=6, bottleneck=4), Objective())
    training = PretrainingSchedule(layer_decay=0.5, patch_embed_lr_mult=0.1)
    of_parameter = {
        id(parameter): group
        for group in adamw(student, training, lr_factors(DEPTH, training)).param_groups
        for parameter in group["params"]
    }
    found = {name: of_parameter[id(p)] for name, p in student.named_parameters()}
    assert len(found) == len(of_parameter)
    expected = {
        "backbone.patch_embed.proj.weight": (0.1 * 0.5**4, True),
        "backbone.patch_embed.proj.bias": (0.1 * 0.5**4, False),
        "backbone.pos_embed": (0.5**4, False),
        "backbone.mask_token": (0.5**4, False),
        "backbone.register_tokens": (0.5**4, False),
        "backbone.blocks.0.attn.qkv.weight": (0.5**3, True),
        "backbone.blocks.2.attn.qkv.weight": (0.5, True),
        "backbone.blocks.2.ls1.gamma": (0.5, False),
        "backbone.norm.weight": (1.0, False),
        "class_head.mlp.0.weight": (1.0, True),
        "patch_head.prototypes.weight": (1.0, True),
    }
    for name, (factor, decayed) in expected.items():
        assert found[name]["lr_factor"] == pytest.approx(factor), name
        assert found[name]["decays"] == decayed, name
