"""From a decoded image to the network's input: augmented, or as tested, then normalised."""

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from cgeartheye.config.schema import Triple

_BICUBIC = v2.InterpolationMode.BICUBIC


def train_transform(image_size: int, crop_area: tuple[float, float]) -> v2.Transform:
    """Return the published augmentation: a random crop, resized, and a horizontal flip.

    Args:
        image_size: pixels a side of the result.
        crop_area: the share of the image that a crop covers lies between these; its aspect ratio
            between 3/4 and 4/3.

    Returns:
        A transform of uint8 `[3, H, W]` to uint8 `[3, image_size, image_size]`. It draws from
        torch's global generator.
    """
    # Pixels stay uint8 up to the device: a quarter of the memory, and torch resizes them fastest.
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                image_size, scale=crop_area, ratio=(3 / 4, 4 / 3), interpolation=_BICUBIC
            ),
            v2.RandomHorizontalFlip(0.5),
        ]
    )


def eval_transform(image_size: int, resize_to: int) -> v2.Transform:
    """Return the published test view: the short side to `resize_to`, then the central square.

    Returns:
        A transform of uint8 `[3, H, W]` to uint8 `[3, image_size, image_size]`.
    """
    assert resize_to >= image_size, "the crop would have black borders"
    return v2.Compose([v2.Resize(resize_to, interpolation=_BICUBIC), v2.CenterCrop(image_size)])


class Normalise(nn.Module):
    """`(x - mean) / std` for each band, on the device where it is needed."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Triple, std: Triple) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images.

        Args:
            images: `[..., 3, H, W]`, uint8 or float, values 0..255.

        Returns:
            float32 of the same shape.
        """
        return (images - self.mean) / self.std
