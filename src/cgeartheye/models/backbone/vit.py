"""The vision transformer (Dosovitskiy et al. 2021) in the form of DINOv2 (Oquab et al. 2023)."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cgeartheye.models.backbone.block import (
    PATCH,
    Block,
    Groups,
    PatchEmbed,
    Samples,
    ScaledResidual,
)
from cgeartheye.models.backbone.variants import Size
from cgeartheye.utils.errors import UserError


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
        maps: dict[int, Tensor] = {}
        # Without a map of the last layer only the class token is needed of it.
        class_only = self.depth - 1 not in indices
        for index, tokens_TC in enumerate(self._layers([embedded], class_only)):
            tokens = tokens_TC.unflatten(0, (images.shape[0], -1))
            if index == self.depth - 1:
                # By image: OpenVINO cannot open an int8 graph that reshapes what a norm gives.
                tokens = self.norm(tokens)
            if index in indices:
                patches = tokens[:, 1 + self.registers :]
                maps[index] = patches.transpose(1, 2).unflatten(2, grid)
        return tokens[:, 0], [maps[index] for index in indices]

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
        *_, x_TC = self._layers(embedded, class_only=False)
        parts = self.norm(x_TC).split([x.shape[0] * x.shape[1] for x in embedded])
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
        positions = resample_positions(self.pos_embed, grid, self.registers)
        cls = (self.cls_token + positions[:, :1]).expand(images.shape[0], -1, -1)
        patches = patches + positions[:, 1:]
        if kept is not None:
            patches = patches.gather(1, kept.unsqueeze(2).expand(-1, -1, self.embed_dim))
        tokens = [cls, patches]
        if self.registers:
            tokens.insert(1, self.register_tokens.expand(images.shape[0], -1, -1))
        return torch.cat(tokens, dim=1), grid

    def _layers(self, embedded: list[Tensor], class_only: bool) -> Iterator[Tensor]:
        """Yield what leaves each layer, tokens of all groups `[T, C]`, before the final norm."""
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
            yield x_TC

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


def resolve_layers(layers: Sequence[int] | None, depth: int) -> list[int]:
    """Return indices of layers counted from the first.

    Raises:
        UserError: a layer that does not exist.
    """
    for index in layers or ():
        if not -depth <= index < depth:
            raise UserError(f"layer {index} does not exist: the backbone has {depth} layers")
    return [index % depth for index in layers or ()]


def resample_positions(pos_embed: Tensor, grid: tuple[int, int], registers: int) -> Tensor:
    """Resample position embeddings to another grid, as the networks were trained.

    A smaller grid of a network without registers is that of mmpretrain and DINOv2; one with
    registers is smoothed first (antialias), as DINOv2 does since it has them.

    Args:
        pos_embed: `[1, 1 + n * n, C]`, the class token's first.
        grid: rows and columns.
        registers: how many register tokens the network has.

    Returns:
        `[1, 1 + rows * columns, C]`; the class token's is as before.
    """
    side = round((pos_embed.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return pos_embed
    square = pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    # Bicubic weights in half precision would shift the embeddings.
    square = F.interpolate(square.float(), grid, mode="bicubic", antialias=registers > 0)
    patches = square.to(pos_embed.dtype).flatten(2).transpose(1, 2)
    return torch.cat([pos_embed[:, :1], patches], dim=1)
