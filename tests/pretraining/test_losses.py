"""Losses and targets against their definitions, written out in float64, and over processes."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import processes
from torch import Tensor

from cgeartheye.pretraining.losses import (
    Center,
    dino_loss,
    effective_rank,
    ibot_loss,
    koleo_loss,
    sinkhorn_knopp,
    target_entropies,
)

TEACHER, STUDENT = 0.05, 0.1
SAMPLES, VIEWS, PROTOTYPES, SIDE = 6, 5, 37, 4


def softmax(row: list[float], temperature: float) -> list[float]:
    highest = max(row)
    exponentials = [math.exp((x - highest) / temperature) for x in row]
    return [e / sum(exponentials) for e in exponentials]


def cross_entropy(target: list[float], student: list[float]) -> float:
    highest = max(student)
    log_total = math.log(sum(math.exp((x - highest) / STUDENT) for x in student))
    return -sum(
        p * ((x - highest) / STUDENT - log_total) for p, x in zip(target, student, strict=True)
    )


def brute_dino(student: list[Any], targets: list[Any]) -> float:
    """Nested lists: view, sample, prototype."""
    terms = [
        cross_entropy(targets[t][b], student[s][b])
        for t in range(2)
        for s in range(len(student))
        if t != s
        for b in range(len(student[0]))
    ]
    return sum(terms) / len(terms)


def brute_ibot(student: list[Any], targets: list[Any], mask: Tensor) -> float:
    of_images, patch = [], 0
    for image in mask:
        terms = []
        for hidden in image.flatten().tolist():
            if hidden:
                terms.append(cross_entropy(targets[patch], student[patch]))
                patch += 1
        if terms:
            of_images.append(sum(terms) / len(terms))
    return sum(of_images) / len(of_images)


def brute_koleo(features: list[Any]) -> float:
    unit = [[x / math.hypot(*row) for x in row] for row in features]
    return -sum(
        math.log(min(math.dist(a, b) for j, b in enumerate(unit) if i != j))
        for i, a in enumerate(unit)
    ) / len(unit)


def brute_sinkhorn(logits: Tensor) -> Tensor:
    """The published order of operations (SwAV, DINOv2), in place, in float64."""
    q = torch.exp(logits.double() / TEACHER).T
    prototypes, rows = q.shape
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(1, keepdim=True) / prototypes
        q = q / q.sum(0, keepdim=True) / rows
    return (q * rows).T


def numeric_gradient(loss: Callable[[Tensor], float], at: Tensor, where: list[Any]) -> list[float]:
    """Central differences in float64."""
    gradients = []
    for index in where:
        values = []
        for delta in (1e-5, -1e-5):
            moved = at.double().clone()
            moved[index] += delta
            values.append(loss(moved))
        gradients.append((values[0] - values[1]) / 2e-5)
    return gradients


class Batch:
    """A global batch as random logits and features; the samples of the second half are harder."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        self.teacher = 0.3 * draw(2, SAMPLES, PROTOTYPES)
        self.student = 0.3 * draw(VIEWS, SAMPLES, PROTOTYPES)
        self.features = draw(2, SAMPLES, 8)
        # The first process has 4 masked images of 6, the second 2.
        share = torch.tensor([0.2, 0.9, 0.5, 0.3, 0.0, 0.4, 0.0, 0.7, 0.0, 0.0, 0.0, 0.6])
        order = torch.tensor([0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11])  # view by view
        noise = torch.rand(2 * SAMPLES, SIDE, SIDE, generator=generator)
        self.mask = (noise < share[order, None, None]).view(2, SAMPLES, SIDE, SIDE)
        self.patch_teacher = 0.3 * draw(2, SAMPLES, SIDE, SIDE, PROTOTYPES)
        self.patch_student = 0.3 * draw(2, SAMPLES, SIDE, SIDE, PROTOTYPES)


def all_losses(batch: Batch, of: slice) -> dict[str, Tensor]:
    """Two steps with the samples `of` the batch; losses, and gradients in the batch's own shape."""
    results = {}
    mask = batch.mask[:, of]
    class_centre, patch_centre = Center(PROTOTYPES, 0.9), Center(PROTOTYPES, 0.9)
    teacher = batch.teacher[:, of].flatten(0, 1)
    patch_teacher = batch.patch_teacher[:, of][mask]
    for name in ("first", "second", "sinkhorn"):
        student = batch.student[:, of].clone().requires_grad_()
        patches = batch.patch_student[:, of].clone().requires_grad_()
        features = batch.features[:, of].clone().requires_grad_()
        if name == "sinkhorn":
            targets = sinkhorn_knopp(teacher, TEACHER)
            patch_targets = sinkhorn_knopp(patch_teacher, TEACHER)
        else:
            targets = class_centre(teacher, TEACHER)
            patch_targets = patch_centre(patch_teacher, TEACHER)
        losses = {
            "dino": dino_loss(student.flatten(0, 1), targets, STUDENT),
            "ibot": ibot_loss(patches[mask], patch_targets, mask.flatten(0, 1), STUDENT),
            "koleo": koleo_loss(features),
        }
        sum(losses.values()).backward()
        results |= {f"{name} {loss}": value.detach() for loss, value in losses.items()}
        results |= {f"{name} of student": student.grad, f"{name} of patches": patches.grad}
        results |= {f"{name} of features": features.grad}
    results["centre"] = torch.stack([class_centre.centre, patch_centre.centre])
    results["entropies"] = torch.tensor(target_entropies(targets))
    results["rank"] = torch.tensor(effective_rank(batch.features[0, of]))
    return results


@pytest.fixture(scope="module")
def batch() -> Batch:
    return Batch()


def test_dino_is_its_definition(batch: Batch) -> None:
    student = batch.student.flatten(0, 1).requires_grad_()
    targets = Center(PROTOTYPES, 0.9)(batch.teacher.flatten(0, 1), TEACHER)
    loss = dino_loss(student, targets, STUDENT)
    loss.backward()
    exact = [[softmax(row, TEACHER) for row in view] for view in batch.teacher.tolist()]

    def brute(x: Tensor) -> float:
        return brute_dino(x.view(VIEWS, SAMPLES, PROTOTYPES).tolist(), exact)

    assert loss.item() == pytest.approx(brute(student.detach()), rel=1e-6)
    # Both global views and a local one.
    where = [(1, 3), (SAMPLES + 2, 36), (4 * SAMPLES + 5, 0)]
    expected = numeric_gradient(brute, student.detach(), where)
    assert student.grad is not None
    assert [student.grad[i].item() for i in where] == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_ibot_is_its_definition(batch: Batch) -> None:
    mask = batch.mask.flatten(0, 1)
    assert 0 < mask.flatten(1).any(1).sum() < len(mask)
    student = batch.patch_student[batch.mask].requires_grad_()
    logits = batch.patch_teacher[batch.mask]
    loss = ibot_loss(student, Center(PROTOTYPES, 0.9)(logits, TEACHER), mask, STUDENT)
    loss.backward()
    exact = [softmax(row, TEACHER) for row in logits.tolist()]

    def brute(x: Tensor) -> float:
        return brute_ibot(x.tolist(), exact, mask)

    assert loss.item() == pytest.approx(brute(student.detach()), rel=1e-6)
    where = [(0, 0), (len(student) // 2, 20), (len(student) - 1, 36)]
    expected = numeric_gradient(brute, student.detach(), where)
    assert student.grad is not None
    assert [student.grad[i].item() for i in where] == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_koleo_is_its_definition(batch: Batch) -> None:
    features = batch.features.clone().requires_grad_()
    loss = koleo_loss(features)
    loss.backward()

    def brute(x: Tensor) -> float:
        return sum(brute_koleo(view) for view in x.tolist())

    assert loss.item() == pytest.approx(brute(features.detach()), rel=1e-5)
    where = [(0, 0, 0), (1, 5, 7), (1, 2, 3)]
    expected = numeric_gradient(brute, features.detach(), where)
    assert features.grad is not None
    assert [features.grad[i].item() for i in where] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    alone = koleo_loss(batch.features[0]) + koleo_loss(batch.features[1])
    assert alone.item() == pytest.approx(loss.item(), rel=1e-6)


def test_many_rows_are_worked_on_in_parts() -> None:
    """More values than one part has; the last part is shorter."""
    torch.manual_seed(0)
    student, teacher = torch.randn(4 * 18, 2**15), torch.randn(2 * 18, 2**15)
    student.requires_grad_()
    centre = Center(2**15, 0.9)
    loss = dino_loss(student, centre(teacher, TEACHER), STUDENT)
    loss.backward()
    exact = student.detach().double().requires_grad_()
    p = torch.softmax(teacher.double() / TEACHER, -1).view(2, 18, -1)
    logp = torch.log_softmax(exact / STUDENT, -1).view(4, 18, -1)
    pairs = [-(p[t] * logp[s]).sum(-1).mean() for t in range(2) for s in range(4) if s != t]
    expected = torch.stack(pairs).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(student.grad, exact.grad.float(), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(centre.centre, 0.1 * teacher.mean(0))


def test_the_gradient_follows_the_weight_of_the_loss(batch: Batch) -> None:
    targets = Center(PROTOTYPES, 0.9)(batch.teacher.flatten(0, 1), TEACHER)
    student = batch.student.flatten(0, 1).requires_grad_()
    (once,) = torch.autograd.grad(dino_loss(student, targets, STUDENT), student)
    (thrice,) = torch.autograd.grad(3 * dino_loss(student, targets, STUDENT), student)
    torch.testing.assert_close(thrice, 3 * once)
    kept = dino_loss(student, targets, STUDENT)
    kept.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()


def test_half_precision_costs_nothing_but_the_rounding_of_the_logits(batch: Batch) -> None:
    teacher = batch.teacher.flatten(0, 1).bfloat16()
    student = batch.student.flatten(0, 1).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        targets = Center(PROTOTYPES, 0.9)(teacher, TEACHER)
        balanced = sinkhorn_knopp(teacher, TEACHER)
        loss = dino_loss(student, targets, STUDENT)
        koleo = koleo_loss(batch.features)
    loss.backward()
    assert targets.dtype == balanced.dtype == loss.dtype == torch.float32
    exact = Center(PROTOTYPES, 0.9)(teacher.float(), TEACHER)
    assert torch.equal(targets, exact)
    assert torch.equal(balanced, sinkhorn_knopp(teacher.float(), TEACHER))
    assert loss.item() == dino_loss(student.detach().float(), exact, STUDENT).item()
    assert koleo.item() == koleo_loss(batch.features).item()
    assert student.grad is not None
    assert student.grad.dtype == torch.bfloat16


def test_no_masked_patch_costs_nothing() -> None:
    student = torch.randn(0, PROTOTYPES, requires_grad=True)
    targets = Center(PROTOTYPES, 0.9)(torch.randn(0, PROTOTYPES), TEACHER)
    loss = ibot_loss(student, targets, torch.zeros(3, SIDE, SIDE, dtype=torch.bool), STUDENT)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None


def test_centre_moves_after_its_use_and_only_in_training() -> None:
    torch.manual_seed(0)
    centre, logits = Center(PROTOTYPES, 0.75), torch.randn(9, PROTOTYPES)
    torch.testing.assert_close(centre(logits, TEACHER), torch.softmax(logits / TEACHER, -1))
    expected = 0.25 * logits.mean(0)
    torch.testing.assert_close(centre.centre, expected)
    torch.testing.assert_close(
        centre(logits, TEACHER), torch.softmax((logits - expected) / TEACHER, -1)
    )
    torch.testing.assert_close(centre.centre, 0.75 * expected + 0.25 * logits.mean(0))
    before = centre.centre.clone()
    centre.eval()(logits, TEACHER)
    centre.train()(logits[:0], TEACHER)
    centre(torch.where(torch.arange(9)[:, None] == 4, torch.nan, logits), TEACHER)
    assert torch.equal(centre.centre, before)
    assert "centre" in centre.state_dict()


def test_sinkhorn_is_its_definition() -> None:
    logits = torch.rand(23, PROTOTYPES, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(
        sinkhorn_knopp(logits, TEACHER).double(), brute_sinkhorn(logits), rtol=1e-4, atol=1e-7
    )


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 12),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    shift=st.floats(-100, 100),
    seed=st.integers(0, 1000),
)
def test_sinkhorn_stays_finite(rows: int, scale: float, shift: float, seed: int) -> None:
    """Also where exp(logits / temperature) itself would overflow, or a column is empty."""
    logits = scale * torch.randn(rows, 7, generator=torch.Generator().manual_seed(seed)) + shift
    targets = sinkhorn_knopp(logits, TEACHER)
    assert (targets >= 0).all()
    torch.testing.assert_close(targets.sum(1), torch.ones(rows), rtol=1e-4, atol=1e-4)


def test_entropies_detect_collapse() -> None:
    uniform = torch.full((8, 16), 1 / 16)
    assert target_entropies(uniform) == pytest.approx((1, 1), abs=1e-5)
    one = torch.eye(16)[[3] * 8]
    assert target_entropies(one) == pytest.approx((0, 0), abs=1e-6)
    each = torch.eye(16)
    assert target_entropies(each) == pytest.approx((0, 1), abs=1e-6)
    halves = torch.eye(16)[[0, 1, 2, 3]]
    assert target_entropies(halves) == pytest.approx((0, 0.5), abs=1e-6)


def test_effective_rank_counts_directions() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(24, 24))[0]
    corners = torch.cat([basis[:5], -basis[:5]])  # five directions of equal strength
    assert effective_rank(corners + 3) == pytest.approx(5, rel=1e-4)
    line = torch.randn(40, 1) * torch.randn(24) + torch.randn(24)
    assert effective_rank(line) == pytest.approx(1, abs=0.01)
    same = torch.randn(24).expand(40, 24)
    assert effective_rank(same) == 1
    assert effective_rank(same * (1 + 1e-7 * torch.randn(40, 24))) == pytest.approx(1)
    assert effective_rank(torch.randn(2000, 24)) > 23.5


@pytest.mark.distributed
def test_two_processes_are_one(tmp_path: Path, batch: Batch) -> None:
    """With different numbers of masked images and patches in each."""
    half = SAMPLES // 2
    counts = [int(batch.mask[:, :half].sum()), int(batch.mask[:, half:].sum())]
    assert counts[0] != counts[1] > 0
    processes.run_ranks([Path(__file__), tmp_path])
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    whole = all_losses(batch, slice(None))
    for name, expected in whole.items():
        parts = [result[name] for result in ranks]
        # A gradient is of this process's samples; training takes the mean over processes.
        gradient = " of " in name
        together = torch.cat(parts, dim=1) / 2 if gradient else torch.stack(parts).mean(0)
        difference = (together - expected).abs().max() / expected.abs().max()
        assert difference < 1e-5, name
    for name in ("centre", "entropies", "rank"):
        assert torch.equal(ranks[0][name], ranks[1][name])


if __name__ == "__main__":
    dist.init_process_group("gloo")
    this, half = dist.get_rank(), SAMPLES // 2
    torch.save(
        all_losses(Batch(), slice(this * half, (this + 1) * half)),
        Path(sys.argv[1]) / f"{this}.pt",
    )
    dist.destroy_process_group()
