"""Preparation of images for a backbone, in plain torchvision transforms."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

Triple = tuple[float, float, float]

_BICUBIC = v2.InterpolationMode.BICUBIC


@dataclass(frozen=True)
class Preprocessing:
    """Requirements of a backbone's weights on the images.

    Attributes:
        mean: of the red, green and blue pixel values on the scale 0..255.
        std: their standard deviations.
        gsd: m/px that the weights were trained at, if known.
        multiple_of: sides of an image are multiples of so many pixels, the patch size.

    Examples:
        >>> import cgeartheye as cge, numpy as np
        >>> preprocessing = cge.create_backbone("tiny").preprocessing
        >>> preprocessing.multiple_of
        14
        >>> transform = preprocessing.transform(image_size=224)
        >>> transform(np.zeros((300, 400, 3), np.uint8)).shape
        torch.Size([3, 224, 224])
    """

    mean: Triple
    std: Triple
    gsd: float | None
    multiple_of: int

    @property
    def image_mean(self) -> Triple:
        """The mean on the scale 0..1, as `transformers` and torchvision name it."""
        red, green, blue = (value / 255 for value in self.mean)
        return red, green, blue

    @property
    def image_std(self) -> Triple:
        """The standard deviation on the scale 0..1."""
        red, green, blue = (value / 255 for value in self.std)
        return red, green, blue

    def transform(self, image_size: int | None = None) -> v2.Compose:
        """Return a torchvision transform of one image to what the backbone sees.

        Args:
            image_size: pixels a side, a multiple of `multiple_of`: the shorter side is resized to
                it and the central square is cut out. None: the image keeps its own pixels, as far
                as its sides are multiples of `multiple_of`; they are resized to the nearest.

        Returns:
            A transform of an image of Pillow's, an array `[H, W, 3]` or a tensor `[3, H, W]`,
            uint8 0..255 or float 0..1, to float32 `[3, h, w]`.
        """
        sizes: list[nn.Module] = [ResizeToMultiple(self.multiple_of)]
        if image_size is not None:
            crop = v2.CenterCrop(image_size)
            sizes = [v2.Resize(image_size, interpolation=_BICUBIC, antialias=True), crop]
        return v2.Compose(
            [
                v2.ToImage(),
                v2.RGB(),
                *sizes,
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(self.image_mean), list(self.image_std)),
            ]
        )

    def processor_config(self, image_size: int) -> dict[str, Any]:
        """Return the arguments of `transformers.BitImageProcessor` that does the same.

        Args:
            image_size: as in `transform`.
        """
        return {
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": image_size},
            "resample": 3,  # bicubic
            "do_center_crop": True,
            "crop_size": {"height": image_size, "width": image_size},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
        }


class ResizeToMultiple(nn.Module):
    """Resizes an image `[..., H, W]` so that its sides are the nearest multiples of a number."""

    def __init__(self, multiple_of: int) -> None:
        super().__init__()
        self.multiple_of = multiple_of

    def forward(self, image: Tensor) -> Tensor:
        """Resize; an image whose sides are multiples is returned as it is."""
        step = self.multiple_of
        size = [max(1, round(side / step)) * step for side in image.shape[-2:]]
        if size == list(image.shape[-2:]):
            return image
        resized: Tensor = v2.functional.resize(image, size, _BICUBIC, antialias=True)
        return resized
