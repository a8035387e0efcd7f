"""Images and boxes from disk to the network's input: as tested, or augmented."""

from typing import Literal

import numpy as np
import shapely
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from cgeartheye.data.transforms.image import PhotometricDistortion, draw_window, uniform

_BILINEAR = v2.InterpolationMode.BILINEAR

View = tuple[tv_tensors.Image, tv_tensors.BoundingBoxes, Tensor, Tensor]
"""An image, its boxes, their classes and which of them are ignored."""


def eval_scale(height: int, width: int, image_size: int, resize: bool) -> float:
    """Return the scale from an image on disk to the view of it in a test.

    Args:
        height: pixels of the image on disk.
        width: pixels of the image on disk.
        image_size: pixels a side of the network's input.
        resize: whether the longer side becomes `image_size`.
    """
    return image_size / max(height, width) if resize else 1.0


def eval_view(image: Tensor, image_size: int, resize: bool) -> tv_tensors.Image:
    """Return what a test sees of an image.

    Args:
        image: uint8 `[3, H, W]`.
        image_size: pixels that the longer side is resized to.
        resize: whether it is; the image is then padded, right and below, with zeros.

    Returns:
        uint8 `[3, image_size, image_size]`, or the image as it is.
    """
    if not resize:
        return tv_tensors.Image(image)
    height, width = image.shape[1:]
    scale = eval_scale(height, width, image_size, resize)
    to = [max(1, round(side * scale)) for side in (height, width)]
    return tv_tensors.Image(_pad(F.resize(image, to, _BILINEAR, antialias=True), image_size))


def box_transform(
    image_size: int,
    resize: bool,
    scale: tuple[float, float],
    flips: Literal["none", "horizontal", "both", "all"],
    color_jitter: bool,
    min_visibility: float,
    min_box_size: float,
) -> v2.Transform:
    """Return the augmentation of an image and its boxes.

    A random resize and crop, photometric distortion, padding where that is smaller, and flips:
    none; horizontal; both; or both and a reflection in the diagonal, with which all 8 symmetries
    are equally likely, quarter turns among them.

    Args:
        image_size: pixels a side of the result.
        resize: whether test images are resized to it; the random scale is relative to that.
        scale: range of the random factor of the resizing.
        flips: symmetries of which one is drawn.
        color_jitter: random brightness, contrast, saturation and hue.
        min_visibility: share of a box's area, 0..1, below which it is left out.
        min_box_size: pixels; boxes with a shorter side are left out.

    Returns:
        A transform of a `View` to one of `image_size`, in whose pixels the boxes then are: uint8
        `[3, H, W]`, boxes `XYXY` or `XYXYXYXY`, int64 and bool `[n]`. It draws from torch's global
        generator.
    """
    return v2.Compose(
        [
            RandomBoxWindow(image_size, resize, scale, min_visibility, min_box_size),
            *([PhotometricDistortion()] if color_jitter else []),
            *([v2.RandomHorizontalFlip(0.5)] if flips != "none" else []),
            *([v2.RandomVerticalFlip(0.5)] if flips in ("both", "all") else []),
            *([RandomTranspose()] if flips == "all" else []),
        ]
    )


class RandomBoxWindow(nn.Module):
    """A random resize by one factor, then a random crop, padded with zeros on the right and below.

    What the crop shows of a box decides whether and as what it stays; see `cut_boxes`.
    """

    def __init__(
        self,
        size: int,
        resize: bool,
        scale: tuple[float, float],
        min_visibility: float,
        min_box_size: float,
    ) -> None:
        super().__init__()
        self._size, self._resize, self._scale = size, resize, scale
        self._min_visibility, self._min_box_size = min_visibility, min_box_size

    def forward(
        self,
        image: tv_tensors.Image,
        boxes: tv_tensors.BoundingBoxes,
        labels: Tensor,
        flags: Tensor,
    ) -> View:
        """Cut the same window out of image and boxes.

        Args:
            image: uint8 `[3, H, W]`.
            boxes: `[n, 4]` or `[n, 8]`.
            labels: int64 `[n]`.
            flags: bool `[n]`.
        """
        rows, columns = image.shape[1:]
        test = eval_scale(rows, columns, self._size, self._resize)
        factor = uniform(*self._scale) * test
        top, left, height, width, to = draw_window((rows, columns), factor, self._size)
        cut = _pad(
            F.resized_crop(image, top, left, height, width, to, _BILINEAR, antialias=True),
            self._size,
        )
        points = boxes.as_subclass(Tensor).unflatten(1, (-1, 2))
        ratio = torch.tensor([to[1] / width, to[0] / height])
        points = (points - torch.tensor([left, top])) * ratio
        shown, share = cut_boxes(points.flatten(1), to[0], to[1])
        kept = (
            (share >= self._min_visibility)
            & (_shorter_sides(shown) >= self._min_box_size)
            & (share > 0)
        )
        return (
            tv_tensors.Image(cut),
            tv_tensors.BoundingBoxes(
                shown[kept], format=boxes.format, canvas_size=(self._size, self._size)
            ),
            labels[kept],
            flags[kept],
        )


class RandomTranspose(nn.Module):
    """A reflection in the main diagonal, half of the time: with both flips, quarter turns."""

    def forward(
        self, image: tv_tensors.Image, boxes: tv_tensors.BoundingBoxes, *others: Tensor
    ) -> tuple[Tensor, ...]:
        """Swap x and y of a square image and its boxes."""
        if float(torch.rand(())) < 0.5:
            return image, boxes, *others
        points = boxes.as_subclass(Tensor).unflatten(1, (-1, 2)).flip(-1).flatten(1)
        turned = tv_tensors.BoundingBoxes(
            points, format=boxes.format, canvas_size=boxes.canvas_size
        )
        return tv_tensors.Image(image.mT.contiguous()), turned, *others


def cut_boxes(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cut boxes to what an image shows of them.

    A horizontal box is clipped. Of an oriented one the smallest rectangle of its own direction
    around the part that is seen stays. Kept whole (as in mmrotate) it would ask for what is not
    seen, and its centre may be where a network that answers in shares of the image cannot put it;
    the smallest rectangle of any direction (as in DOTA's tools) turns away from the object where a
    corner is cut. The one of its own direction does neither: it is within the box, its angle is
    right, and its centre is seen.

    Args:
        boxes: float32 `[n, 4]` as x0, y0, x1, y1, or corners of rectangles `[n, 8]`.
        height: of the image in pixels.
        width: of the image in pixels.

    Returns:
        The boxes, and the share of the area of each that is seen; 0 where it has no area.
    """
    limits = torch.tensor([width, height], dtype=boxes.dtype)
    points = boxes.unflatten(1, (-1, 2))
    if boxes.shape[1] == 4:
        clipped = torch.minimum(points.clamp(min=0), limits)
        whole, seen = ((sides[:, 1] - sides[:, 0]).prod(1) for sides in (points, clipped))
        return clipped.flatten(1), _share(seen, whole)
    shown, share = boxes.clone(), (_shorter_sides(boxes) > 0).to(boxes.dtype)
    crossing = ((points < 0) | (points > limits)).any(-1).any(-1) & (share > 0)
    if crossing.any():
        shown[crossing], share[crossing] = _cut_rectangles(points[crossing], height, width)
    return shown, share


def _cut_rectangles(corners: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cut rectangles, corners `[n, 4, 2]`; see `cut_boxes`."""
    points = corners.double().numpy()
    outlines = shapely.polygons(points)
    seen = shapely.intersection(outlines, shapely.box(0, 0, width, height))
    share = shapely.area(seen) / shapely.area(outlines)
    vertices, owner = shapely.get_coordinates(seen, return_index=True)
    # In a box's own axes the first corner is (0, 0) and the third (1, 1).
    origin, along, across = points[:, 0], points[:, 1] - points[:, 0], points[:, 3] - points[:, 0]
    low, high = np.ones((len(points), 2)), np.zeros((len(points), 2))
    for axis, side in enumerate((along, across)):
        length = (side**2).sum(1)
        place = ((vertices - origin[owner]) * side[owner]).sum(1) / length[owner]
        np.minimum.at(low[:, axis], owner, place)
        np.maximum.at(high[:, axis], owner, place)
    (u0, v0), (u1, v1) = low.T[..., None], high.T[..., None]
    rectangle = [
        origin + u * along + v * across for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))
    ]
    cut = torch.from_numpy(np.concatenate(rectangle, axis=1))
    return cut.to(corners.dtype), torch.from_numpy(share).to(corners.dtype)


def _shorter_sides(boxes: Tensor) -> Tensor:
    """Return the shorter side of each box, `[n, 4]` or `[n, 8]`, in pixels."""
    points = boxes.unflatten(1, (-1, 2))
    if boxes.shape[1] == 4:
        sides = points[:, 1] - points[:, 0]
    else:
        sides = torch.linalg.vector_norm(points[:, :3:2] - points[:, 1:2], dim=2)
    shorter: Tensor = sides.amin(1)
    return shorter


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part.clamp(min=0) / whole, 0)


def _pad(image: Tensor, size: int) -> Tensor:
    """Pad an image on the right and below with zeros."""
    height, width = image.shape[1:]
    padded: Tensor = F.pad(image.as_subclass(Tensor), [0, 0, size - width, size - height])
    return padded
