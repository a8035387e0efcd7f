"""The layers of the vision transformer, on the tokens of crops of several sizes at once.

All but the attention works on the tokens of all images, one after the other: `[T, C]`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgeartheye.models.backbone.onednn_linear import Linear, linear
from cgeartheye.models.backbone.variants import Size

PATCH = 14

Groups = tuple[tuple[int, int], ...]  # for crops of each size how many, and the tokens of one
Samples = tuple[Tensor, ...]  # for crops of each size the indices of some


class PatchEmbed(nn.Module):
    """Maps patches to tokens linearly."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `[B, 3, H, W]` to tokens `[B, H/14 * W/14, C]`."""
        batch, bands, height, width = images.shape
        patches = images.reshape(batch, bands, height // PATCH, PATCH, width // PATCH, PATCH)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        # The matrix product is what the convolution is, and faster on CPUs.
        return linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Block(nn.Module):
    """A layer: attention, then an MLP, each beside a residual connection."""

    def __init__(self, size: Size):
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, eps=1e-6)
        self.attn = Attention(size.width, size.heads)
        self.ls1 = ScaledResidual(size.width)
        self.norm2 = nn.LayerNorm(size.width, eps=1e-6)
        self.mlp = (SwiGLU if size.swiglu else MLP)(size.width, size.hidden)
        self.ls2 = ScaledResidual(size.width)

    def forward(
        self,
        x_TC: Tensor,
        groups: Groups,
        queries: int | None = None,
        kept: tuple[Samples, Samples] | None = None,
    ) -> Tensor:
        """Apply the layer.

        Args:
            x_TC: the tokens of all images, one after the other.
            groups: how they divide into images.
            queries: return only the first so many tokens of each image; they attend to all.
            kept: the images that the attention and the MLP work on (drop path); others pass by.
        """
        if kept is None:
            x_QC = _first_tokens(x_TC, groups, queries)
            x_QC = self.ls1(x_QC, self.attn(self.norm1(x_TC), groups, queries))
            return self.ls2(x_QC, self.mlp(self.norm2(x_QC)))  # type: ignore[no-any-return]
        rows, part, factor = _choose(groups, kept[0])
        x_TC = self.ls1.add_to_rows(x_TC, rows, self.attn(self.norm1(x_TC[rows]), part), factor)
        rows, part, factor = _choose(groups, kept[1])
        return self.ls2.add_to_rows(x_TC, rows, self.mlp(self.norm2(x_TC[rows])), factor)


class Attention(nn.Module):
    """Multi-head self-attention within each image."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x_TC: Tensor, groups: Groups, queries: int | None = None) -> Tensor:
        """Let tokens of an image attend to all of its tokens.

        Args:
            x_TC: tokens of all images, one after the other.
            groups: of tokens that attend to each other.
            queries: tokens of an image that attend, the first; none: all.
        """
        mixed = []
        for qkv, shape in zip(
            self.qkv(x_TC).split([b * n for b, n in groups]), groups, strict=True
        ):
            # [3, B, heads, N, C / heads]
            q, k, v = qkv.view(*shape, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            x = _attend(q[:, :, :queries], k, v)
            mixed.append(x.transpose(1, 2).flatten(2).flatten(0, 1))
        return self.proj(torch.cat(mixed))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., C]` to `[..., C]`."""
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """A gated MLP (Shazeer 2020): `w3(silu(a) * b)` where `a, b = w12(x)`."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.w12 = Linear(width, 2 * hidden)
        self.w3 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., C]` to `[..., C]`."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)  # type: ignore[no-any-return]


class ScaledResidual(nn.Module):
    """A residual connection with LayerScale (Touvron et al. 2021): `x + gamma * branch`."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Add a branch, scaled by channel."""
        return torch.addcmul(x, branch, self.gamma)

    def add_to_rows(self, x_TC: Tensor, rows: Tensor, branch: Tensor, factor: Tensor) -> Tensor:
        """Add a branch to some of the tokens, scaled by channel and by token.

        Args:
            x_TC: tokens of all images.
            rows: indices of the tokens that the branch was computed of.
            branch: `[rows, C]`.
            factor: of each of these tokens, `[rows, 1]`; 0 for dropped ones.
        """
        return x_TC.index_add(0, rows, (branch * self.gamma * factor).to(x_TC.dtype))


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, tensors `[B, heads, N, C / heads]`."""
    if q.is_cpu and q.dtype == torch.bfloat16 and torch.is_grad_enabled():
        # PyTorch's fused kernel takes several times as long for the gradient.
        scores: Tensor = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        return scores.softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


def _first_tokens(x_TC: Tensor, groups: Groups, count: int | None) -> Tensor:
    if count is None:
        return x_TC
    parts = x_TC.split([images * tokens for images, tokens in groups])
    return torch.cat(
        [x.view(*g, -1)[:, :count].flatten(0, 1) for x, g in zip(parts, groups, strict=True)]
    )


def _choose(groups: Groups, kept: Samples) -> tuple[Tensor, Groups, Tensor]:
    """Return the rows of the images that are kept, how they divide, and the rows' factors.

    The factors keep the expected sum what it is without drop path.
    """
    rows, part, factors, start = [], [], [], 0
    for (images, tokens), samples in zip(groups, kept, strict=True):
        inside = torch.arange(tokens, device=samples.device)
        rows.append((start + samples.unsqueeze(1) * tokens + inside).flatten())
        part.append((len(samples), tokens))
        factors.append(torch.full_like(rows[-1], images / len(samples), dtype=torch.float))
        start += images * tokens
    return torch.cat(rows), tuple(part), torch.cat(factors).unsqueeze(1)
