"""The Mix Transformer, the encoder of SegFormer (Xie et al. 2021).

Modules carry mmsegmentation's names (`layers.<stage>.<embed, blocks, norm>`), so that published
weights of it, and of what is built on it, fit.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Stage(NamedTuple):
    """One of four stages.

    Attributes:
        channels: C.
        depth: blocks.
        heads: of the attention.
        reduction: how much smaller a side of the map that keys and values are made of is.
        kernel: pixels a side that a token is made of.
        stride: pixels from one token to the next.
    """

    channels: int
    depth: int
    heads: int
    reduction: int
    kernel: int
    stride: int


MIT_B2 = (
    Stage(64, 3, 1, 8, 7, 4),
    Stage(128, 4, 2, 4, 3, 2),
    Stage(320, 6, 5, 2, 3, 2),
    Stage(512, 3, 8, 1, 3, 2),
)
EXPANSION = 4  # of the feed-forward layers
EPS = 1e-6  # of the layer norms


class MixTransformer(nn.Module):
    """Four stages, each of which makes a map of half the size."""

    def __init__(self, stages: tuple[Stage, ...] = MIT_B2, drop_path: float = 0.1):
        """Build an encoder with random weights.

        Args:
            stages: from the largest map to the smallest.
            drop_path: of the last block; that of the others rises to it.
        """
        super().__init__()
        depth = sum(stage.depth for stage in stages)
        rates = [drop_path * block / max(depth - 1, 1) for block in range(depth)]
        inputs, layers = 3, []
        for stage in stages:
            blocks = [Block(stage, rates.pop(0)) for _ in range(stage.depth)]
            norm = nn.LayerNorm(stage.channels, EPS)
            layers.append(nn.ModuleList([Embedding(inputs, stage), nn.ModuleList(blocks), norm]))
            inputs = stage.channels
        self.layers = nn.ModuleList(layers)
        self.apply(_initialize)

    def stage(self, number: int, x: Tensor) -> Tensor:
        """Map images `[B, 3, H, W]`, or the map of the stage before, to this stage's map."""
        embed, blocks, norm = self.layers[number].children()
        x, (height, width) = embed(x)
        for block in blocks.children():
            x = block(x, height, width)
        x = norm(x).transpose(1, 2).unflatten(2, (height, width))
        return x.contiguous()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images `[B, 3, H, W]` to maps of a 4th, 8th, 16th and 32nd of their size."""
        maps, x = [], images
        for number in range(len(self.layers)):
            x = self.stage(number, x)
            maps.append(x)
        return maps


class Embedding(nn.Module):
    """Tokens of overlapping patches."""

    def __init__(self, inputs: int, stage: Stage):
        super().__init__()
        self.projection = nn.Conv2d(
            inputs, stage.channels, stage.kernel, stage.stride, stage.kernel // 2
        )
        self.norm = nn.LayerNorm(stage.channels, EPS)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Map `[B, inputs, H, W]` to tokens `[B, h * w, C]`, and h and w."""
        x = self.projection(x)
        return self.norm(x.flatten(2).transpose(1, 2)), (x.shape[2], x.shape[3])


class Block(nn.Module):
    """Attention, then a feed-forward layer that sees the neighbours."""

    def __init__(self, stage: Stage, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(stage.channels, EPS)
        self.attn = ReducedAttention(stage)
        self.norm2 = nn.LayerNorm(stage.channels, EPS)
        self.ffn = MixFFN(stage.channels, EXPANSION * stage.channels)
        self.drop_path = drop_path

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Transform the pixels of a map to ones of the same shape.

        Args:
            x: `[B, height * width, C]`.
            height: rows of the map.
            width: columns of the map.
        """
        x = x + self._dropped(self.attn(self.norm1(x), height, width))
        tokens = self.norm2(x).transpose(1, 2).unflatten(2, (height, width))
        return x + self._dropped(self.ffn(tokens).flatten(2).transpose(1, 2))

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return x
        kept = x.new_empty(len(x), 1, 1).bernoulli_(1 - self.drop_path)
        return x * kept / (1 - self.drop_path)


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values come from a smaller map."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.attn = Attention(stage.channels, stage.heads)
        self.reduction = stage.reduction
        if stage.reduction > 1:
            self.sr = nn.Conv2d(stage.channels, stage.channels, stage.reduction, stage.reduction)
            self.norm = nn.LayerNorm(stage.channels, EPS)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Transform the pixels of a map to ones of the same shape.

        Args:
            x: `[B, height * width, C]`.
            height: rows of the map.
            width: columns of the map.
        """
        context = x
        if self.reduction > 1:
            context = self.sr(x.transpose(1, 2).unflatten(2, (height, width)))
            context = self.norm(context.flatten(2).transpose(1, 2))
        return self.attn(x, context)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017), named as `nn.MultiheadAttention`'s weights."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Let tokens `[B, N, C]` attend to `[B, M, C]`; the result is `[B, N, C]`."""
        channels = x.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        query = F.linear(x, weight[:channels], bias[:channels])
        both = F.linear(context, weight[channels:], bias[channels:])
        parts = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (query, *both.chunk(2, dim=2))
        )
        return self.out_proj(  # type: ignore[no-any-return]
            F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        )


class MixFFN(nn.Module):
    """Two pointwise convolutions with a depthwise one between them."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Identity(),  # where mmsegmentation has a dropout: its names count it
            nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, h, w]` to the same."""
        return self.layers(x)  # type: ignore[no-any-return]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.out_channels * module.weight[0, 0].numel() // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
