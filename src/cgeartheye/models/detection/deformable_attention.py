"""Multi-scale deformable attention (Zhu et al. 2021), in plain PyTorch.

A query looks at a few points of each level, which it chooses itself. What it reads there is a
weighted sum of 4 pixels a point, so of `4 * levels * points` rows of one table of values: PyTorch's
`embedding_bag` sums them without ever writing them down, in one call for all levels.
`benchmarks/detection_step.py` measures what that costs beside `grid_sample` level by level.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = Sequence[tuple[int, int]]
"""Rows and columns of each level."""


class DeformableAttention(nn.Module):
    """Attention of queries to points near their reference boxes; module names are mmcv's."""

    def __init__(self, channels: int, heads: int, levels: int, num_points: int):
        """Build with the weights of the paper: each head looks in a direction of its own.

        Args:
            channels: C, a multiple of `heads`.
            heads: of the attention.
            levels: of the values.
            num_points: that a head looks at in each level.
        """
        super().__init__()
        self.heads, self.levels, self.num_points = heads, levels, num_points
        self.sampling_offsets = nn.Linear(channels, heads * levels * num_points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * num_points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        angles = torch.arange(heads) * (2 * math.pi / heads)
        rays = torch.stack([angles.cos(), angles.sin()], -1)
        rays = rays / rays.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, num_points + 1)
        offsets = rays[:, None, None] * steps[:, None]
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_(offsets.expand(-1, levels, -1, -1).flatten())
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)

    def forward(self, queries: Tensor, reference: Tensor, values: Tensor, shapes: Shapes) -> Tensor:
        """Attend.

        Args:
            queries: `[B, Q, C]`.
            reference: where they look, in shares of the image: points `[B, Q, 2]`, boxes
                `[B, Q, 4]` as centre and sides, or `[B, Q, 5]` with the angle of the first side
                besides, in radians; offsets then turn with the box.
            values: `[B, S, C]`, the pixels of all levels one behind the other.
            shapes: of the levels.

        Returns:
            `[B, Q, C]`.
        """
        batch, count = queries.shape[:2]
        form = batch, count, self.heads, self.levels, self.num_points
        offsets = self.sampling_offsets(queries).view(*form, 2).float()
        weights = self.attention_weights(queries).view(*form[:3], -1).softmax(-1, torch.float32)
        places = self._places(reference[:, :, None, None, None].float(), offsets, shapes)
        table = self.value_proj(values).unflatten(-1, (self.heads, -1))
        out: Tensor = self.output_proj(sample(table, shapes, places, weights.view(form)))
        return out

    def _places(self, reference: Tensor, offsets: Tensor, shapes: Shapes) -> Tensor:
        """Return the points, in shares of the image, `[B, Q, heads, levels, points, 2]`."""
        if reference.shape[-1] == 2:
            sizes = offsets.new_tensor([(columns, rows) for rows, columns in shapes])
            return reference + offsets / sizes[:, None]
        offsets = offsets * reference[..., 2:4] * (0.5 / self.num_points)
        if reference.shape[-1] == 5:
            cos, sin = reference[..., 4].cos(), reference[..., 4].sin()
            x, y = offsets.unbind(-1)
            offsets = torch.stack([x * cos - y * sin, x * sin + y * cos], -1)
        return reference[..., :2] + offsets


def sample(values: Tensor, shapes: Shapes, places: Tensor, weights: Tensor) -> Tensor:
    """Sum the values at places of all levels, interpolated; beyond the edges they are 0.

    Args:
        values: `[B, S, heads, D]`, the pixels of all levels one behind the other.
        shapes: of the levels.
        places: float32 x, y in shares of the image `[B, Q, heads, levels, points, 2]`.
        weights: float32 of the places `[B, Q, heads, levels, points]`.

    Returns:
        `[B, Q, heads * D]`, of the type of `values`.
    """
    batch, length, heads, width = values.shape
    queries = places.shape[1]
    sizes = places.new_tensor([(columns, rows) for rows, columns in shapes])[:, None]
    lengths = torch.tensor([0, *(rows * columns for rows, columns in shapes)])
    starts = lengths.cumsum(0)[:-1, None].to(places.device, places.dtype)
    at = places * sizes - 0.5
    low = at.floor()
    share = at - low
    corner_weights, corners = [], []
    for down in (0, 1):
        for across in (0, 1):
            x, y = (low + low.new_tensor((across, down))).unbind(-1)
            columns, rows = sizes.unbind(-1)
            inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            part_x, part_y = share.unbind(-1)
            part = (part_x if across else 1 - part_x) * (part_y if down else 1 - part_y)
            corner_weights.append(part * inside * weights)
            # Whole numbers up to 2^24 are exact in float32, and a NaN would have no index.
            index = starts + y.clamp_min(0).minimum(rows - 1) * columns
            corners.append((index + x.clamp_min(0).minimum(columns - 1)).nan_to_num(0).int())
    number = torch.arange(batch, device=places.device, dtype=torch.int32).view(-1, 1, 1, 1, 1, 1)
    head = torch.arange(heads, device=places.device, dtype=torch.int32).view(-1, 1, 1, 1)
    indices = (number * length + torch.stack(corners, -1)) * heads + head
    bags = batch * queries * heads
    rows_of_bags = indices.reshape(bags, -1)
    table = values.reshape(batch * length * heads, width)
    shares = torch.stack(corner_weights, -1).reshape(bags, -1).to(values.dtype)
    if torch.compiler.is_exporting():
        summed = _gathered(table, rows_of_bags, shares, shapes)
    else:
        summed = F.embedding_bag(rows_of_bags, table, per_sample_weights=shares, mode="sum")
    return summed.view(batch, queries, heads * width)


def _gathered(table: Tensor, indices: Tensor, shares: Tensor, shapes: Shapes) -> Tensor:
    """Sum rows of a table as `embedding_bag` does, by gathers: what every runtime has.

    Level by level, as the rows of all would be many times as large as the table.
    """
    parts = zip(indices.chunk(len(shapes), 1), shares.chunk(len(shapes), 1), strict=True)
    return torch.stack([(F.embedding(i, table) * w.unsqueeze(2)).sum(1) for i, w in parts]).sum(0)
