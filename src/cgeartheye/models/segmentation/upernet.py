"""UPerNet (Xiao et al. 2018) on the maps of a plain ViT, as mmsegmentation builds it.

Modules carry mmsegmentation's names, so that the decoder of a published checkpoint fits: `neck.*`,
`decode_head.*`, `auxiliary_head.*`.

Batch norms count over the crops of one process. On several GPUs they should count over all:
`nn.SyncBatchNorm.convert_sync_batchnorm` makes them, and there is none for CPUs.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALES = (4.0, 2.0, 1.0, 0.5)  # of the four maps, from the lowest layer to the highest
POOLED = (1, 2, 3, 6)  # sides of what the highest map is pooled to
AUXILIARY_CHANNELS = 256
AUXILIARY_MAP = 2  # which map the auxiliary head sees
DROPOUT = 0.1


class UPerNet(nn.Module):
    """Turns four feature maps into class scores for every pixel."""

    def __init__(self, embed_dim: int, classes: int, channels: int = 512, auxiliary: bool = True):
        """Build a decoder with random weights.

        Args:
            embed_dim: C, channels of every map.
            classes: K.
            channels: inside the decoder.
            auxiliary: have a second, small head that only serves the training.
        """
        super().__init__()
        self.neck = MultiLevelNeck(embed_dim)
        self.decode_head = UPerHead(embed_dim, channels, classes)
        self.auxiliary_head = FCNHead(embed_dim, classes) if auxiliary else None

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits.

        Args:
            maps: of four layers, `[B, C, h, w]` each.
            size: rows and columns of the result.

        Returns:
            float32 `[B, K, *size]`.
        """
        return resize_logits(self.decode_head(self.neck(maps)), size)

    def training_logits(self, maps: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Return the logits of the decoder, then those of the auxiliary head if there is one."""
        levels = self.neck(maps)
        logits = [self.decode_head(levels)]
        if self.auxiliary_head is not None:
            logits.append(self.auxiliary_head(levels[AUXILIARY_MAP]))
        return [resize_logits(part, size) for part in logits]


class MultiLevelNeck(nn.Module):
    """Makes a pyramid of maps that all have the size of the ViT's grid."""

    def __init__(self, embed_dim: int):
        super().__init__()
        self.lateral_convs = nn.ModuleList(PlainConv(embed_dim, embed_dim, 1) for _ in SCALES)
        self.convs = nn.ModuleList(PlainConv(embed_dim, embed_dim, 3) for _ in SCALES)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map four `[B, C, h, w]` to four `[B, C, scale * h, scale * w]`."""
        levels = []
        for x, scale, lateral, conv in zip(
            maps, SCALES, self.lateral_convs, self.convs, strict=True
        ):
            # By the factor and not to a size: so mmsegmentation places the pixels of an odd grid.
            x = F.interpolate(lateral(x), scale_factor=scale, mode="bilinear")
            levels.append(conv(x))
        return levels


class UPerHead(nn.Module):
    """Pools the highest map of a pyramid (Zhao et al. 2017), then fuses all from the top down."""

    def __init__(self, inputs: int, channels: int, classes: int):
        super().__init__()
        lower = SCALES[:-1]
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), ConvModule(inputs, channels, 1))
            for side in POOLED
        )
        self.bottleneck = ConvModule(inputs + len(POOLED) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(inputs, channels, 1) for _ in lower)
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in lower)
        self.fpn_bottleneck = ConvModule(len(SCALES) * channels, channels, 3)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.conv_seg = _classifier(channels, classes)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map a pyramid, the largest first, to logits of the largest one's size."""
        *lower, top = levels
        pooled = [_resize(pool(top), top.shape[-2:]) for pool in self.psp_modules]
        above = self.bottleneck(torch.cat([top, *pooled], dim=1))
        size = levels[0].shape[-2:]
        fused = [_resize(above, size)]
        for x, lateral, conv in reversed(
            list(zip(lower, self.lateral_convs, self.fpn_convs, strict=True))
        ):
            above = lateral(x) + _resize(above, x.shape[-2:])
            fused.append(_resize(conv(above), size))
        x = self.fpn_bottleneck(torch.cat(fused[::-1], dim=1))
        return self.conv_seg(self.dropout(x))  # type: ignore[no-any-return]


class FCNHead(nn.Module):
    """Classifies the pixels of one map (Long et al. 2015)."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.convs = nn.Sequential(ConvModule(inputs, AUXILIARY_CHANNELS, 3))
        self.dropout = nn.Dropout2d(DROPOUT)
        self.conv_seg = _classifier(AUXILIARY_CHANNELS, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, h, w]` to logits `[B, K, h, w]`."""
        return self.conv_seg(self.dropout(self.convs(x)))  # type: ignore[no-any-return]


class PlainConv(nn.Module):
    """A convolution that keeps the size, named as if it had a norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        nn.init.xavier_uniform_(self.conv.weight)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, h, w]` to `[B, outputs, h, w]`."""
        return self.conv(x)  # type: ignore[no-any-return]


class ConvModule(nn.Module):
    """A convolution that keeps the size, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = BatchNorm(outputs)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, h, w]` to `[B, outputs, h, w]`."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class BatchNorm(nn.BatchNorm2d):
    """A batch norm that takes its running statistics where a channel has a single value.

    So it is for one image pooled to one pixel, where PyTorch's refuses to train.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[B, C, h, w]`."""
        if self.training and x.numel() == self.num_features:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits `[B, K, h, w]` bilinearly to `[B, K, *size]`, in float32."""
    # What follows, a softmax, wants float32: so the large tensor exists once.
    return _resize(logits.float(), size)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, list(size), mode="bilinear")


def _classifier(channels: int, classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
