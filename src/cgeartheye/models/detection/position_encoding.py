"""Position encoding: vectors of sines and cosines (Vaswani et al. 2017)."""

import math

import torch
from torch import Tensor

_TEMPERATURE_OF_PIXELS = 20  # DINO's
_TEMPERATURE_OF_BOXES = 10_000
_HARMONICS = 8  # of an angle


def pixel_positions(rows: int, columns: int, channels: int, device: torch.device) -> Tensor:
    """Return the position encoding of a map's pixels, `[rows * columns, channels]`: y, then x.

    Args:
        rows: of the map.
        columns: of the map.
        channels: of the encoding, a multiple of 4.
        device: of the result.
    """
    y = (torch.arange(rows, device=device) + 1) / rows
    x = (torch.arange(columns, device=device) + 1) / columns
    half = channels // 2
    parts = [
        _waves(y, half, _TEMPERATURE_OF_PIXELS)[:, None].expand(-1, columns, -1),
        _waves(x, half, _TEMPERATURE_OF_PIXELS)[None].expand(rows, -1, -1),
    ]
    return torch.cat(parts, -1).flatten(0, 1)


def box_positions(boxes: Tensor, channels: int) -> Tensor:
    """Return the positions of boxes.

    Args:
        boxes: `[..., 4]`, centre and sides in shares of the image, or `[..., 5]` with an angle.
        channels: half of them go to each number; an angle, which has a period of pi, has 16.

    Returns:
        float32 `[..., box_channels(numbers, channels)]`: of y, x, w, h, angle.
    """
    x, y, w, h = boxes[..., :4].float().unbind(-1)
    parts = [_waves(part, channels // 2, _TEMPERATURE_OF_BOXES) for part in (y, x, w, h)]
    if boxes.shape[-1] == 5:
        turns = boxes[..., 4:].float() * 2 * torch.arange(1, _HARMONICS + 1, device=boxes.device)
        parts += [turns.sin(), turns.cos()]
    return torch.cat(parts, -1)


def box_channels(box_dim: int, channels: int) -> int:
    """Return how many channels `box_positions` gives boxes of 4 or 5 numbers."""
    return 4 * (channels // 2) + (2 * _HARMONICS if box_dim == 5 else 0)


def _waves(shares: Tensor, channels: int, temperature: float) -> Tensor:
    """Sine and cosine in turn, `[..., channels]`, of shares 0..1."""
    exponents = torch.arange(channels, device=shares.device).div(2, rounding_mode="floor")
    phase = shares[..., None] * 2 * math.pi / temperature ** (2 * exponents / channels)
    return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], -1).flatten(-2)
