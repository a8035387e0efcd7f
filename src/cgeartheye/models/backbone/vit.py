"""The vision transformer (Dosovitskiy et al. 2021) in the form of DINOv2 (Oquab et al. 2023)."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cgeartheye.models.backbone.onednn_linear import Linear, linear
from cgeartheye.models.backbone.variants import Size
from cgeartheye.utils.errors import UserError

PATCH = 14

Groups = tuple[tuple[int, int], ...]  # for crops of each size how many, and the tokens of one
Samples = tuple[Tensor, ...]  # for crops of each size the indices of some


class VisionTransformer(nn.Module):
    """Turns images into a class token and feature maps.

    Parameters carry the names of DINOv2's official release.

    Attributes:
        embed_dim: C, channels of the class token and of every map.
        depth: number of layers.
        patch_size: side of a patch in pixels.
        grid: rows (and columns) of patches that the position embeddings are kept for.
        registers: number of register tokens.
        blocks: the layers.
    """

    def __init__(
        self,
        size: Size,
        grid: int = 37,
        registers: int = 0,
        drop_path: float = 0.0,
        checkpoint_activations: bool = False,
        layer_scale: float = 1e-5,
    ):
        """Build a network with random weights.

        Args:
            size: width, depth, heads, MLP.
            grid: patches a side for which position embeddings are learned; 37 is 518 pixels.
            registers: extra tokens that only take part in the attention (Darcet et al. 2024).
            drop_path: share of the images that pass a branch of a layer by in training (Huang et
                al. 2016), drawn anew for each; it is computed for the others only (Oquab et al.
                2023).
            checkpoint_activations: compute each block again in the backward pass instead of
                keeping its activations.
            layer_scale: what every branch is multiplied by at first (LayerScale, Touvron et al.
                2021); small values start almost as the identity.
        """
        super().__init__()
        self.embed_dim, self.depth, self.patch_size = size.width, size.depth, PATCH
        self.grid = grid
        self.drop_path = drop_path
        self.checkpoint_activations = checkpoint_activations
        self.layer_scale = layer_scale
        self.cls_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid**2, size.width))
        self.mask_token = nn.Parameter(torch.empty(1, size.width))
        if registers:
            self.register_tokens = nn.Parameter(torch.empty(1, registers, size.width))
        self.registers = registers
        self.patch_embed = PatchEmbed(size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)
        self.reset_parameters()

    def forward(
        self, images: Tensor, layers: Sequence[int] | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode images.

        Args:
            images: float `[B, 3, H, W]`, normalised; H and W multiples of 14.
            layers: indices of the layers whose feature maps are wanted; -1 is the last.
            mask: bool `[B, H/14, W/14]`, true where the mask token replaces the patch (iBOT, Zhou
                et al. 2022).

        Returns:
            The class token after the final norm, `[B, C]`, and a map `[B, C, H/14, W/14]` for each
            of `layers`: after the final norm for the last layer, as it leaves the layer for others.

        Raises:
            UserError: a side that is no multiple of 14, or a layer that does not exist.
        """
        indices = resolve_layers(layers, self.depth)
        embedded, grid = self._embed(images, mask)
        shape = embedded.shape[:2]
        maps: dict[int, Tensor] = {}
        # Without a map of the last layer only the class token is needed of it.
        class_only = self.depth - 1 not in indices
        for index, tokens_TC in enumerate(self._layers([embedded], class_only)):
            if index in indices:
                tokens = tokens_TC.unflatten(0, shape)[:, 1 + self.registers :]
                maps[index] = tokens.transpose(1, 2).unflatten(2, grid)
        cls = tokens_TC.unflatten(0, (images.shape[0], -1))[:, 0]
        return cls, [maps[index] for index in indices]

    def forward_crops(
        self,
        crops: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        kept: Sequence[Tensor | None] | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Encode images of several sizes in one pass.

        All but the attention works on the tokens of all crops at once.

        Args:
            crops: batches `[B, 3, H, W]` as `forward` takes them, each of its own size.
            masks: a mask for each, or none.
            kept: for each batch int64 `[B, N]`, the patches that are encoded, the others are left
                out (He et al. 2022); none: all.

        Returns:
            For each batch class tokens `[B, C]` and patch tokens `[B, N, C]`, after the final norm;
            N is H/14 * W/14 where all are kept.
        """
        groups = zip(crops, masks, kept or [None] * len(crops), strict=True)
        embedded = [self._embed(*group)[0] for group in groups]
        *_, tokens_TC = self._layers(embedded, class_only=False)
        parts = tokens_TC.split([x.shape[0] * x.shape[1] for x in embedded])
        tokens = [part.view_as(x) for part, x in zip(parts, embedded, strict=True)]
        return [(x[:, 0], x[:, 1 + self.registers :]) for x in tokens]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new random weights."""
        for token in (self.cls_token, self.pos_embed, self.mask_token):
            nn.init.trunc_normal_(token, std=0.02)
        if self.registers:
            nn.init.trunc_normal_(self.register_tokens, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, ScaledResidual):
                nn.init.constant_(module.gamma, self.layer_scale)

    def _embed(
        self, images: Tensor, mask: Tensor | None, kept: Tensor | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        height, width = images.shape[-2:]
        if height % PATCH or width % PATCH:
            raise UserError(
                f"images of {height} x {width} pixels do not divide into patches: their sides must "
                f"be multiples of {PATCH}"
            )
        grid = height // PATCH, width // PATCH
        patches = self.patch_embed(images)
        if mask is not None:
            token = self.mask_token.to(patches.dtype)
            patches = torch.where(mask.flatten(1).unsqueeze(-1), token, patches)
        positions = resample_positions(self.pos_embed, grid)
        cls = (self.cls_token + positions[:, :1]).expand(images.shape[0], -1, -1)
        patches = patches + positions[:, 1:]
        if kept is not None:
            patches = patches.gather(1, kept.unsqueeze(2).expand(-1, -1, self.embed_dim))
        tokens = [cls, patches]
        if self.registers:
            tokens.insert(1, self.register_tokens.expand(images.shape[0], -1, -1))
        return torch.cat(tokens, dim=1), grid

    def _layers(self, embedded: list[Tensor], class_only: bool) -> Iterator[Tensor]:
        """Yield what leaves each layer, tokens of all groups `[T, C]`; the last after its norm."""
        groups = tuple((x.shape[0], x.shape[1]) for x in embedded)
        x_TC = torch.cat([x.flatten(0, 1) for x in embedded])
        for index, block in enumerate(self.blocks):
            last = index == self.depth - 1
            kept = self._draw_kept(groups, x_TC.device)
            queries = 1 if last and class_only and kept is None else None
            if self.checkpoint_activations and torch.is_grad_enabled():
                # No block draws random numbers.
                x_TC = checkpoint(
                    block,
                    x_TC,
                    groups,
                    queries,
                    kept,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                x_TC = block(x_TC, groups, queries, kept)
            yield self.norm(x_TC) if last else x_TC

    def _draw_kept(self, groups: Groups, device: torch.device) -> tuple[Samples, Samples] | None:
        """Draw which images of each group a block's two branches work on; none: all.

        The draw is made outside of the block, so that all blocks share one compiled graph and
        recomputation sees the same draw.
        """
        if not (self.training and self.drop_path):
            return None
        counts = [(images, max(1, round(images * (1 - self.drop_path)))) for images, _ in groups]
        first, second = (
            tuple(torch.randperm(images, device=device)[:count] for images, count in counts)
            for _ in range(2)
        )
        return first, second


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


def resolve_layers(layers: Sequence[int] | None, depth: int) -> list[int]:
    """Return indices of layers counted from the first.

    Raises:
        UserError: a layer that does not exist.
    """
    for index in layers or ():
        if not -depth <= index < depth:
            raise UserError(f"layer {index} does not exist: the backbone has {depth} layers")
    return [index % depth for index in layers or ()]


def resample_positions(pos_embed: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resample position embeddings to another grid, as mmpretrain does.

    Args:
        pos_embed: `[1, 1 + n * n, C]`, the class token's first.
        grid: rows and columns.

    Returns:
        `[1, 1 + rows * columns, C]`; the class token's is as before.
    """
    side = round((pos_embed.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return pos_embed
    square = pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    # Bicubic weights in half precision would shift the embeddings.
    resampled = F.interpolate(square.float(), grid, mode="bicubic", align_corners=False)
    patches = resampled.to(pos_embed.dtype).flatten(2).transpose(1, 2)
    return torch.cat([pos_embed[:, :1], patches], dim=1)
