"""Color jitter and normalisation of crops, in batches where the network is."""

import torch
from torch import Tensor

from cgeartheye.config import Normalization

_GRAY = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision has it


def augment(crops: Tensor, jitter: Tensor, normalization: Normalization) -> Tensor:
    """Jitter colors as torchvision's ColorJitter, in fixed order, then normalise.

    Brightness multiplies; contrast blends with the mean grey of the crop, saturation with the grey
    of each pixel; after each, values are cut to 0..255.

    Args:
        crops: uint8 or float `[N, 3, S, S]`, values 0..255.
        jitter: float `[N, 3]`, factors of brightness, contrast and saturation; 1 changes nothing.
        normalization: what the network expects.

    Returns:
        float32 `[N, 3, S, S]`, on the device of the crops.
    """
    # Copied without waiting for the accelerator.
    constants = torch.tensor((_GRAY, normalization.mean, normalization.std))
    gray, mean, std = constants.to(crops.device, non_blocking=True)[:, :, None].unbind()
    brightness, contrast, saturation = jitter[:, :, None, None].unbind(dim=1)
    # In place from here on: on a CPU, memory is the limit.
    pixels = (crops * brightness[..., None]).clamp_(max=255).flatten(2)
    average = (gray.T @ pixels).mean(dim=2, keepdim=True)
    torch.lerp(average, pixels, contrast, out=pixels).clamp_(0, 255)
    torch.lerp(gray.T @ pixels, pixels, saturation, out=pixels).clamp_(0, 255)
    return pixels.sub_(mean).div_(std).view(crops.shape)
