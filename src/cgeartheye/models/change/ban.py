"""BAN, the Bi-temporal Adapter Network (Li et al. 2024), as Open-CD builds it.

A frozen ViT sees each date at its own resolution; its maps are bridged into a small side encoder
that sees the images themselves; a decoder compares the two dates. Modules carry Open-CD's names
(in its checkpoints behind `decode_head.`), so that published weights fit.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgeartheye.models.backbone.checkpoint_io import check_fit, read_tensors
from cgeartheye.models.change.mit import MIT_B2, Attention, MixFFN, MixTransformer
from cgeartheye.models.segmentation.upernet import ConvModule, resize_logits

BRIDGE_HIDDEN = 4  # channels of a bridge's feed-forward layer
DROPOUT = 0.1


class BAN(nn.Module):
    """Turns ViT maps and images of two dates into class scores for every pixel."""

    def __init__(self, embed_dim: int, classes: int, channels: int = 128, symmetric: bool = False):
        """Build a decoder with random weights.

        Args:
            embed_dim: C, channels of every map.
            classes: K.
            channels: inside the decoder.
            symmetric: the same answer, to the last bit, whichever date comes first: sums and
                absolute differences of the dates are compared, in place of the dates themselves,
                and the side encoder sees each date alone, as the last bit of a matrix product may
                depend on what else is in the batch.
        """
        super().__init__()
        self.symmetric = symmetric
        self.side_adapter_network = SideAdapter(embed_dim)
        self.mask_decoder = MLPDecoder(channels, classes, symmetric)

    def forward(
        self,
        before_maps: Sequence[Tensor],
        after_maps: Sequence[Tensor],
        before: Tensor,
        after: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Return logits.

        Args:
            before_maps: of the first date, of four layers, `[B, C, h, w]` each.
            after_maps: of the second date, of the same shapes.
            before: normalised images of the first date, float `[B, 3, H, W]`.
            after: of the second date.
            size: rows and columns of the result.

        Returns:
            float32 `[B, K, *size]`.
        """
        if self.symmetric:
            first = self.side_adapter_network(before, before_maps)
            second = self.side_adapter_network(after, after_maps)
        else:
            maps = [torch.cat(pair) for pair in zip(before_maps, after_maps, strict=True)]
            both = self.side_adapter_network(torch.cat([before, after]), maps)
            first, second = ([x.unflatten(0, (2, -1))[date] for x in both] for date in (0, 1))
        return resize_logits(self.mask_decoder(first, second), size)


class SideAdapter(nn.Module):
    """The side encoder, with a bridge from the ViT behind each of its stages."""

    def __init__(self, embed_dim: int):
        super().__init__()
        self.side_encoder = MixTransformer(MIT_B2)
        self.conv_clips = nn.ModuleList(
            nn.Sequential(LayerNorm2d(embed_dim), _Named(nn.Conv2d(embed_dim, stage.channels, 1)))
            for stage in MIT_B2
        )
        self.clip_attns = nn.ModuleList(Bridge(stage.channels, stage.heads) for stage in MIT_B2)

    def forward(self, images: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map images `[B, 3, H, W]` and four ViT maps `[B, C, h, w]` to four maps."""
        x, stages = images, []
        bridges = zip(self.conv_clips, self.clip_attns, maps, strict=True)
        for number, (project, bridge, vit) in enumerate(bridges):
            x = bridge(self.side_encoder.stage(number, x), project(vit))
            stages.append(x)
        return stages


class Bridge(nn.Module):
    """Lets a map attend to the ViT's, and adds the latter."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.attn = CrossAttention(channels, heads)
        self.norm2 = LayerNorm2d(channels)
        self.ffn = MixFFN(channels, BRIDGE_HIDDEN)

    def forward(self, x: Tensor, vit: Tensor) -> Tensor:
        """Map `[B, C, H, W]`, with `[B, C, h, w]` of the ViT, to `[B, C, H, W]`."""
        x = x + self.attn(self.norm1(x), vit)
        x = x + self.ffn(self.norm2(x))
        return x + F.interpolate(vit, x.shape[-2:], mode="bilinear")


class CrossAttention(nn.Module):
    """Attention between maps."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.attn = Attention(channels, heads)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map `[B, C, H, W]`, with `[B, C, h, w]` to attend to, to `[B, C, H, W]`."""
        tokens = self.attn(x.flatten(2).transpose(1, 2), context.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, x.shape[-2:])  # type: ignore[no-any-return]


class MLPDecoder(nn.Module):
    """Brings the four maps of each date together, then compares the dates."""

    def __init__(self, channels: int, classes: int, symmetric: bool):
        super().__init__()
        self.symmetric = symmetric
        self.convs = nn.ModuleList(ConvModule(stage.channels, channels, 1) for stage in MIT_B2)
        self.fusion_conv = ConvModule(len(MIT_B2) * channels, channels, 1)
        self.discriminator = MixFFN(2 * channels, 2 * channels)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.conv_seg = nn.Conv2d(2 * channels, classes, 1)

    def forward(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Map four maps of each date to logits `[B, K, h, w]` of the largest one's size."""
        one, other = self._fuse(first), self._fuse(second)
        if self.symmetric:
            one, other = one + other, (one - other).abs()
        x = torch.cat([one, other], dim=1)
        x = x + self.discriminator(x)
        return self.conv_seg(self.dropout(x))  # type: ignore[no-any-return]

    def _fuse(self, maps: Sequence[Tensor]) -> Tensor:
        size = maps[0].shape[-2:]
        resized = [
            F.interpolate(conv(x), size, mode="bilinear")
            for conv, x in zip(self.convs, maps, strict=True)
        ]
        return self.fusion_conv(torch.cat(resized, dim=1))  # type: ignore[no-any-return]


class LayerNorm2d(nn.LayerNorm):
    """A layer norm over the channels of a map."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[B, C, h, w]`."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1).contiguous()


class _Named(nn.Module):
    """A convolution by the name that Open-CD gives it."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        nn.init.kaiming_uniform_(conv.weight, a=1)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, h, w]`."""
        return self.conv(x)  # type: ignore[no-any-return]


def load_side_encoder(ban: BAN, path: Path) -> None:
    """Read the weights of the side encoder, MiT-B2 by mmsegmentation's names.

    Raises:
        UserError: the file cannot be read, or does not fit.
    """
    tensors = read_tensors(path)[0]
    tensors = {name.removeprefix("backbone."): x for name, x in tensors.items()}
    encoder = ban.side_adapter_network.side_encoder
    known = {name: x for name, x in tensors.items() if name.startswith("layers.")}
    check_fit(encoder.state_dict(), known, path, "side encoder")
    encoder.load_state_dict(known)
