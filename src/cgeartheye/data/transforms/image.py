"""From a decoded image to the network's input: augmented, or as tested, then normalised."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from cgeartheye.config import Triple

_BICUBIC = v2.InterpolationMode.BICUBIC
_BILINEAR = v2.InterpolationMode.BILINEAR
_NEAREST = v2.InterpolationMode.NEAREST_EXACT
_DRAWS = 10  # of a crop, until no class covers too much of it


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's global generator draw from `seed` in this block, and go on as before after it."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed also queues a seed for every GPU, which takes 40 times as long.
        torch.default_generator.manual_seed(seed)
        yield


def train_transform(image_size: int, crop_area: tuple[float, float]) -> v2.Transform:
    """Return the published augmentation: a random crop, resized, and a horizontal flip.

    Args:
        image_size: pixels a side of the result.
        crop_area: the share of the image that a crop covers is between these; its aspect ratio
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


def dense_transform(
    image_size: int,
    scale: tuple[float, float],
    max_class_ratio: float,
    color_jitter: bool,
    rotation: float = 0.0,
) -> v2.Transform:
    """Return the published augmentation of an image, or of two dates, and their mask.

    A random turn, if any, resize and crop, photometric distortion, padding where that is smaller
    (0 in the image, 255 in the mask), both flips and, beyond what is published, a quarter turn:
    all 8 symmetries are equally likely.

    Args:
        image_size: pixels a side of the result.
        scale: the image is resized by a factor between these before it is cropped.
        max_class_ratio: a crop is drawn again, up to 10 times, while one class covers more of its
            labelled pixels, or none is labelled.
        color_jitter: whether colors are distorted, those of each date on their own.
        rotation: degrees by which every other image is turned at most.

    Returns:
        A transform of `tv_tensors.Image` uint8 `[3, H, W]`, or `[6, H, W]` of two dates, and
        `tv_tensors.Mask` uint8 `[H, W]`, together, to the same of `image_size`. It draws from
        torch's global generator.
    """
    outside = {tv_tensors.Image: 0, tv_tensors.Mask: 255}
    turn = v2.RandomRotation(rotation, _BILINEAR, fill=outside)
    return v2.Compose(
        [
            *([v2.RandomApply([turn], 0.5)] if rotation else []),
            RandomWindow(image_size, scale, max_class_ratio),
            *([PhotometricDistortion()] if color_jitter else []),
            v2.RandomCrop(image_size, pad_if_needed=True, fill=outside),
            v2.RandomHorizontalFlip(0.5),
            v2.RandomVerticalFlip(0.5),
            v2.RandomApply([v2.RandomRotation((90, 90))], 0.5),
        ]
    )


class RandomWindow(nn.Module):
    """A random resize by one factor, then a random crop, of at most `size` pixels a side.

    Only the window that the crop shows is resized, so its place is rounded to whole pixels of the
    image. A crop is drawn again as mmsegmentation's RandomCrop does with `cat_max_ratio`.
    """

    def __init__(self, size: int, scale: tuple[float, float], max_class_ratio: float) -> None:
        super().__init__()
        self._size, self._scale, self._max_class_ratio = size, scale, max_class_ratio

    def forward(
        self, image: tv_tensors.Image, mask: tv_tensors.Mask
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Cut the same window out of both."""
        factor = uniform(*self._scale)
        for _ in range(_DRAWS):
            window = draw_window(mask.shape, factor, self._size)
            # As a plain tensor: for masks torchvision insists on its older nearest neighbour,
            # which is half a pixel off from where images are.
            labels = F.resized_crop(mask.as_subclass(Tensor)[None], *window, _NEAREST)[0]
            pixels = torch.bincount(labels.flatten(), minlength=256)[:255]
            if pixels.any() and pixels.max() <= self._max_class_ratio * pixels.sum():
                break
        return F.resized_crop(image, *window, _BILINEAR, antialias=True), tv_tensors.Mask(labels)


def draw_window(
    sides: Sequence[int], factor: float, size: int
) -> tuple[int, int, int, int, list[int]]:
    """Draw a window that is at most `size` pixels a side when an image is resized by a factor.

    Args:
        sides: height and width of the image in pixels.
        factor: of the resizing.
        size: pixels.

    Returns:
        Top, left, height and width of the window in pixels of the image, and its height and width
        after the resizing.
    """
    height, width = (
        side if side * factor <= size else max(1, round(size / factor)) for side in sides
    )
    top, left = (
        int(torch.randint(side - length + 1, ()))
        for side, length in zip(sides, (height, width), strict=True)
    )
    to = [max(1, min(size, round(side * factor))) for side in sides]
    return top, left, height, width, to


class PhotometricDistortion(nn.Module):
    """mmsegmentation's PhotoMetricDistortion: four changes of color, each half of the time.

    Brightness adds -32 to 32. Contrast multiplies by 0.5 to 1.5, before or after the rest.
    Saturation and hue are those of HSV: one is multiplied by 0.5 to 1.5, the other is turned by up
    to a tenth of the circle.
    """

    def forward(
        self, image: tv_tensors.Image, *truth: Tensor
    ) -> tuple[tv_tensors.Image, *tuple[Tensor, ...]]:
        """Change the colors of an image, uint8 `[3, H, W]`; a mask or boxes stay as they are.

        Those of two dates, `[6, H, W]`, change independently.
        """
        dates = image.as_subclass(Tensor).split(3)
        return tv_tensors.Image(torch.cat([_distorted(date) for date in dates])), *truth


def _distorted(image: Tensor) -> Tensor:
    lighter, contrast, colored, turned, contrast_first = (torch.rand(5) < 0.5).tolist()
    gain = uniform(0.5, 1.5) if contrast else 1.0
    pixels = image.float()
    if lighter:
        pixels = (pixels + uniform(-32, 32)).clamp_(0, 255)
    if contrast_first:
        pixels = (pixels * gain).clamp_(0, 255)
    if colored:
        pixels = _saturate(pixels, uniform(0.5, 1.5))
    if turned:
        pixels = F.adjust_hue(pixels / 255, uniform(-0.1, 0.1)) * 255
    if not contrast_first:
        pixels = (pixels * gain).clamp_(0, 255)
    return pixels.round().to(torch.uint8)


def _saturate(pixels: Tensor, factor: float) -> Tensor:
    """Multiply the saturation of HSV, which is (value - least) / value, up to 1."""
    value = pixels.amax(dim=0)
    most = value / (value - pixels.amin(dim=0)).clamp(min=1e-3)
    return value - (value - pixels) * most.clamp(max=factor)


def uniform(low: float, high: float) -> float:
    """Draw a number from torch's global generator."""
    return float(torch.empty(()).uniform_(low, high))


class Normalize(nn.Module):
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
