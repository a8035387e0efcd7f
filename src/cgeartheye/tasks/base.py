"""Common part of tasks whose decoder sees feature maps of several layers."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgeartheye.config import ChangeDetection, Normalization, ObjectDetection, SemanticSegmentation
from cgeartheye.data.transforms.image import Normalize
from cgeartheye.inference.engines import Engine
from cgeartheye.models.backbone import Model
from cgeartheye.models.backbone.timm_adapter import TimmBackbone
from cgeartheye.models.backbone.vit import resolve_layers
from cgeartheye.training.loaders import Batch
from cgeartheye.utils.errors import UserError

STRIDE = 16  # pixels a side of a cell of the grid that the maps of a convolutional network share

MapsConfig = SemanticSegmentation | ChangeDetection | ObjectDetection


class FeatureMapTask(nn.Module, ABC):
    """A backbone, and a decoder that who inherits this puts on it; see `training.trainer.Task`.

    Attributes:
        layers: indices of those whose maps the decoder sees.
        channels: of each of the maps.
        stride: pixels of the image a side of one of their cells.
        side: pixels a side of the network's input.
        frozen: whether the backbone is not tuned.
        cacheable: whether the decoder needs nothing of an image but its features.
    """

    cacheable = True
    engine: Engine | None = None  # computes `graph` in place of the modules
    backbone: Model
    decoder: nn.Module

    def __init__(
        self, backbone: Model, normalization: Normalization, config: MapsConfig, count: int
    ):
        """Take a backbone.

        Args:
            backbone: built by `cgeartheye.models.backbone.build`.
            normalization: of the backbone's weights.
            config: of the run.
            count: of the layers, evenly spaced, where `config.decoder` names none.

        Raises:
            UserError: layers that the backbone does not have, or a convolutional one that is tuned.
        """
        super().__init__()
        self.backbone = backbone
        self.layers = _layers(backbone, config, count)
        self.channels, self.stride = _grid(backbone, self.layers)
        self.side = config.data.image_size
        self.normalize = Normalize(normalization.mean, normalization.std)
        self.frozen = config.backbone.tuning == "frozen"

    @abstractmethod
    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses by name."""

    @abstractmethod
    def graph(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute what an exported model does of windows uint8 `[B, C, S, S]`."""

    def outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what `graph` does, computed by the engine if there is one."""
        return self.engine(images) if self.engine else self.graph(images)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the training loss: what DDP and FSDP call."""
        return self.training_loss(batch)

    def train(self, mode: bool = True) -> Self:
        """Switch to training; a frozen backbone stays as it is in a test."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    @property
    def encoder_facts(self) -> dict[str, object]:
        """All that features depend on beside the backbone's weights and the images."""
        device = next(self.parameters()).device
        return {"layers": self.layers, "half": _half_when_frozen(device)}

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Layers, channels, rows and columns of what `maps` returns for an input."""
        grid = self.side // self.stride
        return len(self.layers), self.channels, grid, grid

    def maps(self, images: Tensor) -> Tensor:
        """Map images `[B, 3, H, W]`, uint8 or float, to `[B, layers, channels, h, w]`."""
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen),
            frozen_precision(images.device, self.frozen),
        ):
            maps: list[Tensor] = self.backbone(self.normalize(images), layers=self.layers)[1]
        grid = images.shape[-2] // self.stride, images.shape[-1] // self.stride
        return torch.stack([on_grid(x, grid, self.channels) for x in maps], dim=1).float()


def on_grid(x: Tensor, grid: tuple[int, int], channels: int) -> Tensor:
    """Bring a map of any size onto a grid.

    Nothing of a finer map is lost: the pixels that share a cell are stacked in its channels.
    A coarser one is interpolated.

    Args:
        x: `[B, C, H, W]`; H and W are multiples of the grid, or fewer.
        grid: rows and columns.
        channels: filled up with zeros to so many.
    """
    if x.shape[-1] > grid[1]:
        x = F.pixel_unshuffle(x, x.shape[-1] // grid[1])
    elif x.shape[-1] < grid[1]:
        x = F.interpolate(x, grid, mode="bilinear")
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))


def frozen_precision(device: torch.device, frozen: bool) -> AbstractContextManager[None]:
    """Half precision for a frozen backbone where the device gains by it and training asks none."""
    if _half_when_frozen(device) and frozen and not torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _half_when_frozen(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16 faster than in float32."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _grid(backbone: Model, layers: list[int]) -> tuple[int, int]:
    """Return channels and stride of the maps that the decoder sees."""
    if len(backbone.blocks):
        return backbone.embed_dim, backbone.patch_size
    assert isinstance(backbone, TimmBackbone)
    stride = min(STRIDE, backbone.patch_size)
    sizes = [backbone.maps[index] for index in layers]
    return max(c * max(stride // reduction, 1) ** 2 for c, reduction in sizes), stride


def _layers(backbone: Model, config: MapsConfig, count: int) -> list[int]:
    """Return indices of the layers whose maps the decoder sees."""
    depth, is_plain = backbone.depth, len(backbone.blocks) > 0
    if not is_plain and config.backbone.tuning != "frozen":
        raise UserError(
            f"{config.backbone.name} is no plain transformer: {config.task.replace('_', ' ')} "
            "takes it with backbone.tuning=frozen alone"
        )
    # The stages of a convolutional network differ in size: the coarsest are those that see most.
    even = [depth * (n + 1) // count - 1 if is_plain else n - count for n in range(count)]
    layers = resolve_layers(config.decoder.layers or even, depth)
    if config.backbone.tuning != "frozen" and depth - 1 not in layers:
        raise UserError(
            f"decoder.layers must hold the last one, {depth - 1}, where the backbone is tuned: the "
            "layers above the decoder's would never learn"
        )
    return layers
