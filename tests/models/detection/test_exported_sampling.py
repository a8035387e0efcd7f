"""Deformable sampling as it is exported: gathers give what `embedding_bag` does."""

import torch
from torch import Tensor, nn

from cgeartheye.models.detection.deformable_attention import sample

SHAPES = [(6, 5), (3, 3), (2, 1)]


class Sampling(nn.Module):
    def forward(self, values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        return sample(values, SHAPES, places, weights)


def test_gathers_sum_what_embedding_bag_does() -> None:
    torch.manual_seed(0)
    count = sum(rows * columns for rows, columns in SHAPES)

    def inputs(batch: int) -> tuple[Tensor, Tensor, Tensor]:
        places = torch.rand(batch, 7, 2, 3, 4, 2) * 1.4 - 0.2  # some beyond the edges
        weights = torch.rand(batch, 7, 2, 3, 4)
        return torch.randn(batch, count, 2, 8), places, weights

    batch = torch.export.Dim("batch", min=1, max=9)
    program = torch.export.export(Sampling(), inputs(2), dynamic_shapes=({0: batch},) * 3)
    names = {str(node.target) for node in program.graph.nodes}
    assert not any("embedding_bag" in name or "grid_sampler" in name for name in names)
    for size in (1, 5):
        given = inputs(size)
        assert torch.allclose(
            program.module()(*given), sample(*given[:1], SHAPES, *given[1:]), atol=1e-5
        )
