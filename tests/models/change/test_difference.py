import pytest
import torch
from torch import Tensor

from cgeartheye.models.change import DifferenceDecoder
from cgeartheye.models.segmentation import cross_entropy


def maps(seed: int, batch: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 12, 5, 4, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("symmetric", [True, False])
def test_symmetry_is_exact(symmetric: bool) -> None:
    torch.manual_seed(0)
    decoder = DifferenceDecoder(12, 2, 2, 16, symmetric).eval()
    with torch.no_grad():
        one, other = decoder(maps(0), maps(1), (20, 16)), decoder(maps(1), maps(0), (20, 16))
    assert one.shape == (3, 2, 20, 16)
    assert torch.equal(one, other) == symmetric
    assert one.std() > 0


def test_only_differences_count() -> None:
    torch.manual_seed(0)
    decoder = DifferenceDecoder(12, 2, 2, 16).eval()
    shift = [torch.full_like(x, 0.5) for x in maps(0)]
    with torch.no_grad():
        one = decoder(maps(0), maps(1), (20, 16))
        moved = [[x + s for x, s in zip(maps(n), shift, strict=True)] for n in (0, 1)]
        torch.testing.assert_close(decoder(*moved, (20, 16)), one, atol=1e-5, rtol=1e-4)


def test_learns_which_cells_changed() -> None:
    """And, where it may, in which direction."""
    torch.manual_seed(0)
    before = [torch.randn(8, 12, 5, 4) for _ in range(2)]
    sign = torch.randint(-1, 2, (8, 1, 5, 4)).float()
    after = [x + sign for x in before]
    mask = (sign[:, 0] + 1).long().repeat_interleave(4, 1).repeat_interleave(4, 2)
    for symmetric, least in ((False, 0.95), (True, 0.8)):
        truth = (mask != 1).long() if symmetric else mask
        decoder = DifferenceDecoder(12, 2, 3, 32, symmetric)
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
        for _ in range(80):
            optimizer.zero_grad()
            loss = cross_entropy(decoder(before, after, (20, 16)), truth)
            loss.backward()
            optimizer.step()
        right = decoder.eval()(before, after, (20, 16)).argmax(1) == truth
        assert right.float().mean() > least
