import math

import pytest
import torch
from torch import nn

from cgeartheye.config import Training
from cgeartheye.training.optimizer import (
    adamw,
    decoder_factor,
    learning_rate,
    set_rates,
    total_steps,
)


def test_schedule_matches_torch_schedulers() -> None:
    """Oracle: LinearLR for the warm-up, CosineAnnealingLR after it."""
    config = Training(epochs=10, lr=1e-3, warmup_epochs=3, warmup_from=0.25)
    steps = 7
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.25, 1.0, total_iters=3 * steps)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7 * steps)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], [3 * steps])
    for step in range(10 * steps):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(step, steps, 32, config) == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        schedule.step()


def test_rate_scales_with_the_global_batch() -> None:
    config = Training(lr=1e-4, base_batch_size=128, warmup_epochs=0)
    assert learning_rate(0, 10, 128, config) == pytest.approx(1e-4)
    assert learning_rate(0, 10, 32, config) == pytest.approx(2.5e-5)


def test_warmup_of_a_short_run_ends_half_way() -> None:
    config = Training(epochs=2, warmup_epochs=5, lr=1.0)
    rates = [learning_rate(s, 10, 1, config) for s in range(20)]
    assert max(rates) == rates[10] == 1.0
    assert rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.9)))


def test_only_matrices_decay() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
            self.linear = nn.Linear(4, 4)
            self.norm = nn.LayerNorm(4)
            self.frozen = nn.Linear(4, 4).requires_grad_(False)

    net = Net()
    config = Training(weight_decay=0.05)
    optimizer = adamw(net, config, decoder_factor(config))
    set_rates(optimizer, 1e-3, config.weight_decay)
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    trained = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert decayed == {id(net.linear.weight)}
    assert trained == {id(p) for n, p in net.named_parameters() if not n.startswith("frozen")}


def test_poly_and_steps_match_torch_schedulers() -> None:
    """Oracle: LinearLR for the warm-up, PolynomialLR of power 1 after it."""
    config = Training(steps=50, lr=1e-3, schedule="poly", warmup_steps=9, warmup_from=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, total_iters=9)
    line = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=41, power=1.0)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, line], [9])
    assert total_steps(7, config) == 50
    for step in range(50):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(step, 7, 8, config) == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        schedule.step()


def test_the_decoder_has_its_own_rate() -> None:
    net = nn.ModuleDict({"backbone": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)})
    config = Training(decoder_lr_mult=10.0)
    groups = adamw(nn.ModuleDict({"module": net}), config, decoder_factor(config)).param_groups
    factors = {id(p): group["lr_factor"] for group in groups for p in group["params"]}
    assert {factors[id(p)] for p in net["backbone"].parameters()} == {1.0}
    assert {factors[id(p)] for p in net["decoder"].parameters()} == {10.0}
