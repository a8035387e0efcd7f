"""Colors of classes that have none of their own."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RGB = tuple[int, int, int]

# Colors that differ in hue and in lightness.
_CHOSEN: tuple[RGB, ...] = (
    (66, 133, 244),
    (46, 125, 50),
    (251, 192, 45),
    (211, 47, 47),
    (142, 68, 173),
    (255, 138, 101),
    (0, 172, 193),
    (141, 110, 99),
    (174, 213, 129),
    (240, 98, 146),
    (96, 125, 139),
    (57, 73, 171),
)
_DARKEST, _LIGHTEST = 0.35, 0.9  # of Oklab: away from a black background and from paper
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_UNCHANGED: RGB = (189, 189, 189)
_BACKGROUND: RGB = (0, 0, 0)


def distinct_colors(count: int) -> list[RGB]:
    """Return so many distinct colors, always the same: chosen ones, then the farthest from them.

    Each further color is that of a grid which is farthest from all before it, in Oklab.

    Args:
        count: of the classes.
    """
    colors = list(_CHOSEN[:count])
    if count > len(colors):
        levels = np.arange(0, 256, 17)
        grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
        places = oklab(grid)
        seen = (places[:, 0] > _DARKEST) & (places[:, 0] < _LIGHTEST)
        grid, places = grid[seen], places[seen]
        distance = np.full(len(grid), np.inf)
        for chosen in oklab(np.array(colors)):
            distance = np.minimum(distance, np.linalg.norm(places - chosen, axis=1))
        while len(colors) < count:
            farthest = int(distance.argmax())
            red, green, blue = grid[farthest].tolist()
            colors.append((red, green, blue))
            distance = np.minimum(distance, np.linalg.norm(places - places[farthest], axis=1))
    return colors


def oklab(colors: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return colors in Oklab, where equal distances look alike (Ottosson 2020).

    Args:
        colors: sRGB 0..255, `[N, 3]`.

    Returns:
        Lightness 0..1 and two axes of color, `[N, 3]`.
    """
    share = colors / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    lab: npt.NDArray[np.float64] = np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T
    return lab


def class_colors(names: Sequence[str]) -> tuple[RGB, ...]:
    """Return a color for each class: black for one named background, distinct ones for others."""
    others = iter(distinct_colors(len(names)))
    return tuple(_BACKGROUND if name.lower() == "background" else next(others) for name in names)


def change_colors(count: int) -> list[RGB]:
    """Return the colors of change: grey for what is unchanged, red and then others.

    Args:
        count: of the classes, the unchanged one with them.
    """
    return [_UNCHANGED, *distinct_colors(count + 2)[3:]]
