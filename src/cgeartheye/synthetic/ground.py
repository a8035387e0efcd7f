"""Material, height, slope and paint at each pixel of the world; and their drawing."""

import math
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from rasterio.features import rasterize

from cgeartheye.synthetic.materials import LEVEL_OF, Material
from cgeartheye.synthetic.shapes import Boxes, Floats, Ints, Pixels, pixels_of

GSD = 0.75  # m/px

Reals = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(eq=False)
class Ground:
    """Everything that a picture of the world needs to know of a pixel, whatever the season.

    Attributes:
        material: uint8 `[H, W]`, values of `Material`.
        tint: uint8 `[H, W]`, where between the two ends of its material's colors.
        stripe: float16 `[H, W]`, rows of crops or of mowing, -1..1.
        height: float16 `[H, W]`, metres above the plain.
        slope: float16 `[2, H, W]`, metres of rise a metre to the right and down.
        paint: uint8 `[H, W, 4]`, what has its own color in all seasons, RGB and opacity.
    """

    material: Bytes
    tint: Bytes
    stripe: npt.NDArray[np.float16]
    height: npt.NDArray[np.float16]
    slope: npt.NDArray[np.float16]
    paint: Bytes

    @classmethod
    def blank(cls, size: int) -> Self:
        """A plain of short grass, `size` pixels a side."""
        square = (size, size)
        return cls(
            np.full(square, Material.GRASS, np.uint8),
            np.full(square, 128, np.uint8),
            np.zeros(square, np.float16),
            np.zeros(square, np.float16),
            np.zeros((2, *square), np.float16),
            np.zeros((*square, 4), np.uint8),
        )

    @property
    def size(self) -> int:
        """Pixels a side."""
        return len(self.material)

    def copy(self) -> "Ground":
        """A ground that can be drawn on without changing this one."""
        return Ground(*(getattr(self, field.name).copy() for field in fields(self)))

    def cover(self, index: Ints, material: Material | Bytes, tint: npt.ArrayLike = 128) -> None:
        """Lay a material, and take away what stood there.

        Args:
            index: `[P]` places in the flattened world.
            material: what they are made of from now on, one or `[P]`.
            tint: 0..255, one or `[P]`.
        """
        self.material.ravel()[index] = material
        self.tint.ravel()[index] = np.clip(tint, 0, 255)
        self.stripe.ravel()[index] = 0
        self.height.ravel()[index] = LEVEL_OF[material]
        self.slope.reshape(2, -1)[:, index] = 0
        self.paint.reshape(-1, 4)[index] = 0

    def raise_to(
        self,
        pixels: Pixels,
        height: Floats | Reals,
        slope_u: Floats | Reals | float = 0.0,
        slope_v: Floats | Reals | float = 0.0,
        angle: Floats | float = 0.0,
    ) -> None:
        """Set the height and the slope of pixels.

        Args:
            pixels: that are changed, P.
            height: metres above the plain, `[P]` or one for all.
            slope_u: rise along the heading, metres a pixel's size.
            slope_v: rise across it.
            angle: heading, radians.
        """
        self.height.ravel()[pixels.index] = height
        cos, sin = np.cos(angle), np.sin(angle)
        self.slope[0].ravel()[pixels.index] = slope_u * cos - slope_v * sin
        self.slope[1].ravel()[pixels.index] = slope_u * sin + slope_v * cos

    def blend(self, index: Ints, color: npt.ArrayLike, opacity: Reals) -> None:
        """Paint pixels over what is painted there.

        Args:
            index: `[P]` places in the flattened world.
            color: `[P, 3]` or `[3]`, 0..255.
            opacity: `[P]`, 0..1.
        """
        paint = self.paint.reshape(-1, 4)
        old = paint[index].astype(np.float32)
        below = old[:, 3] / 255 * (1 - opacity)
        total = np.maximum(opacity + below, 1e-6)
        new = np.asarray(color, np.float32) * opacity[:, None] + old[:, :3] * below[:, None]
        paint[index, :3] = np.rint(new / total[:, None])
        paint[index, 3] = np.rint(255 * total)

    def paint_boxes(self, boxes: Boxes, color: npt.ArrayLike, opacity: float = 1.0) -> None:
        """Paint boxes with soft edges.

        Args:
            boxes: N.
            color: `[3]` of all, or `[N, 3]`, 0..255.
            opacity: 0..1.
        """
        pixels = pixels_of(boxes, self.size, margin=0.5)
        colors = np.broadcast_to(np.asarray(color, np.float32), (len(boxes), 3))
        share = opacity * coverage(pixels, boxes)
        self.blend(pixels.index, colors[pixels.box], share)


def coverage(pixels: Pixels, boxes: Boxes) -> Reals:
    """Return the share of each pixel that its box covers, `[P]` 0..1."""
    a, b = boxes.half[pixels.box].T
    share = 1.0
    for place, half in ((pixels.u, a), (pixels.v, b)):
        share *= np.clip(np.minimum(place + 0.5, half) - np.maximum(place - 0.5, -half), 0, 1)
    return np.asarray(share, np.float32)


def polygon(outline: Floats, size: int) -> Ints:
    """List the pixels whose centres a polygon `[K, 2]` holds, as places in the flattened world."""
    low = np.clip(np.floor(outline.min(0)).astype(int) - 1, 0, size)
    high = np.clip(np.ceil(outline.max(0)).astype(int) + 1, 0, size)
    wide, tall = np.maximum(high - low, 1)
    ring = np.concatenate([outline, outline[:1]]) - low
    shape = {"type": "Polygon", "coordinates": [ring.tolist()]}
    mask = rasterize([shape], (tall, wide), dtype="uint8")
    row, column = np.nonzero(mask[: size - low[1], : size - low[0]])
    return np.asarray((row + low[1]) * size + column + low[0])


def noise(rng: np.random.Generator, size: int, grain: float) -> Reals:
    """Return smooth random hills, `[size, size]`, about -2..2.

    Args:
        rng: is drawn from.
        size: pixels a side.
        grain: pixels from hill to hill.
    """
    knots = math.ceil(size / grain) + 3
    coarse = Image.fromarray(rng.standard_normal((knots, knots)).astype(np.float32))
    fine = coarse.resize(
        (size, size), Image.Resampling.BICUBIC, (1, 1, 1 + size / grain, 1 + size / grain)
    )
    return np.asarray(fine, np.float32) * 1.4  # the interpolation takes away from the variance


def fractal(rng: np.random.Generator, size: int, grain: float, octaves: int = 3) -> Reals:
    """Return hills upon hills, `[size, size]`, about -2..2.

    Args:
        rng: is drawn from.
        size: pixels a side.
        grain: pixels from hill to hill in the coarsest octave.
        octaves: each half as wide and half as high as the one before.
    """
    layers = [noise(rng, size, max(2.0, grain / 2**n)) / 2**n for n in range(octaves)]
    return np.asarray(sum(layers) / math.sqrt(sum(0.25**n for n in range(octaves))), np.float32)
