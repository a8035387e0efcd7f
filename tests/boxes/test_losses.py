import math

import pytest
import torch
from hypothesis import given, settings
from scipy.spatial.distance import directed_hausdorff
from tests.boxes.boxes import oriented, some_boxes
from torch.distributions import MultivariateNormal, kl_divergence

from cgeartheye.boxes import (
    canonical,
    corners_of,
    gaussian_kld,
    hausdorff,
    hellinger,
    kld_loss,
)
from cgeartheye.boxes.losses import SHORTEST_SIDE


def gaussian(box: torch.Tensor) -> MultivariateNormal:
    turn = torch.stack(
        [
            torch.stack([box[4].cos(), -box[4].sin()]),
            torch.stack([box[4].sin(), box[4].cos()]),
        ]
    )
    return MultivariateNormal(box[:2], turn @ torch.diag(box[2:4].square() / 4) @ turn.T)


@given(oriented, oriented)
@settings(deadline=None)
def test_hausdorff_agrees_with_scipy(a: torch.Tensor, b: torch.Tensor) -> None:
    first, second = corners_of(a).numpy(), corners_of(b).numpy()
    expected = max(directed_hausdorff(first, second)[0], directed_hausdorff(second, first)[0])
    assert hausdorff(a, b).item() == pytest.approx(expected, abs=1e-9)
    assert hausdorff(canonical(a), b).item() == pytest.approx(expected, abs=1e-8)


def test_divergence_agrees_with_that_of_the_distributions() -> None:
    for a, b in zip(some_boxes(50, 60, seed=0), some_boxes(50, 60, seed=1), strict=True):
        expected = kl_divergence(gaussian(a), gaussian(b)).item()
        assert gaussian_kld(a, b).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
        loss = kld_loss(predicted=b, target=a)
        assert loss.item() == pytest.approx(1 - 1 / (1 + math.log1p(expected)), abs=1e-9)


def test_hellinger_agrees_with_the_integral() -> None:
    """1 - H^2 is the integral of the root of the product of the densities (Hellinger 1909)."""
    y, x = torch.meshgrid(*2 * [torch.arange(-90.0, 150.0, 0.25).double()], indexing="ij")
    places = torch.stack([x, y], -1)
    for a, b in zip(some_boxes(12, 60, seed=0), some_boxes(12, 60, seed=1), strict=True):
        b[:2] = a[:2] + (b[:2] - a[:2]) / 4
        # Of covariance w^2 / 12, where `gaussian` has w^2 / 4; wide enough for the grid.
        a[2:4], b[2:4] = a[2:4].clamp(min=8), b[2:4].clamp(min=8)
        scaled = (torch.cat([box[:2], box[2:4] / math.sqrt(3), box[4:]]) for box in (a, b))
        logs = sum(gaussian(box).log_prob(places) for box in scaled)
        shared = (logs / 2).exp().sum().item() / 16
        expected = math.sqrt(max(0.0, 1 - shared))
        assert hellinger(a, b).item() == pytest.approx(expected, abs=2e-3)
        assert hellinger(b, a).item() == pytest.approx(hellinger(a, b).item(), abs=1e-9)


@given(oriented)
@settings(deadline=None)
def test_equal_boxes_are_at_no_distance(box: torch.Tensor) -> None:
    for same in (box, box.float()):
        turned = same + torch.tensor([0, 0, 0, 0, math.pi], dtype=same.dtype)
        # A float32 angle is off by 3e-7 near 2 pi, over 300 pixels.
        near = 1e-9 if same.dtype == torch.float64 else 1e-3
        assert hausdorff(same, same).item() == 0.0
        assert hausdorff(same, turned).item() <= near
        assert gaussian_kld(same, same).item() == pytest.approx(0.0, abs=1e-6)
        assert gaussian_kld(same, turned).item() <= 0.1
        assert kld_loss(same, canonical(same)).item() <= 0.1
        assert hellinger(same, same).item() == pytest.approx(0.0, abs=1e-3)
        assert hellinger(same, turned).item() <= 0.1


@pytest.mark.parametrize("distance", [hausdorff, gaussian_kld, kld_loss, hellinger])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(oriented, oriented)
@settings(max_examples=40, deadline=None)
def test_finite_with_finite_gradients(distance, dtype, a, b) -> None:  # type: ignore[no-untyped-def]
    first = torch.stack([a, a]).to(dtype).requires_grad_()
    second = torch.stack([b, a]).to(dtype).requires_grad_()
    found = distance(first, second)
    assert torch.isfinite(found).all()
    assert (found >= 0).all()
    for gradient in torch.autograd.grad(found.sum(), (first, second)):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("distance", [hausdorff, gaussian_kld, kld_loss, hellinger])
def test_gradients(distance) -> None:  # type: ignore[no-untyped-def]
    a = some_boxes(6, 60, seed=2).requires_grad_()
    b = some_boxes(4, 60, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: distance(x[:, None], y[None]), (a, b))


def test_sides_below_the_shortest_count_as_it() -> None:
    thin = torch.tensor([5.0, 5.0, 10.0, 0.0, 0.3])
    least = torch.tensor([5.0, 5.0, 10.0, SHORTEST_SIDE, 0.3])
    box = torch.tensor([6.0, 5.0, 10.0, 4.0, 0.3])
    assert gaussian_kld(thin, box) == gaussian_kld(least, box)
    assert gaussian_kld(box, thin) == gaussian_kld(box, least)
    assert hellinger(box, thin) == hellinger(box, least)


def test_broadcasting_is_element_by_element() -> None:
    a = some_boxes(24, 60, seed=4).reshape(2, 3, 4, 5)
    b = some_boxes(7, 60, seed=5)
    for distance in (hausdorff, gaussian_kld, kld_loss, hellinger):
        found = distance(a[..., None, :], b)
        assert found.shape == (2, 3, 4, 7)
        torch.testing.assert_close(found[1, 2, 3, 6], distance(a[1, 2, 3], b[6]))
        assert distance(a[..., None, :], b[:0]).shape == (2, 3, 4, 0)


def test_half_precision_is_raised_to_single() -> None:
    a, b = some_boxes(5, 500, seed=6).bfloat16(), some_boxes(5, 500, seed=7).bfloat16()
    for distance in (hausdorff, gaussian_kld, kld_loss, hellinger):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = distance(a, b)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, distance(a.float(), b.float()), rtol=0, atol=0)


def test_single_precision_is_enough() -> None:
    a, b = some_boxes(200, 800, seed=8), some_boxes(200, 800, seed=9)
    for distance in (hausdorff, gaussian_kld, kld_loss, hellinger):
        single = distance(a.float(), b.float()).double()
        torch.testing.assert_close(single, distance(a, b), rtol=1e-4, atol=1e-4)


def test_compiles_without_a_break() -> None:
    """Traced as one graph; the eager backend needs no compiler."""

    def both(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return hausdorff(a, b) + kld_loss(a, b) + hellinger(a, b)

    a, b = some_boxes(3, 60, seed=10)[:, None], some_boxes(4, 60, seed=11)[None]
    compiled = torch.compile(both, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(a, b), both(a, b))
