"""Colors of classes that have none of their own."""

import colorsys
from collections.abc import Sequence

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
_UNCHANGED: RGB = (189, 189, 189)
_BACKGROUND: RGB = (0, 0, 0)


def distinct_colors(count: int) -> list[RGB]:
    """Return so many distinct colors, always the same: chosen ones, then the golden angle's hues.

    Args:
        count: of the classes.
    """
    colors = list(_CHOSEN[:count])
    for n in range(count - len(colors)):
        red, green, blue = colorsys.hsv_to_rgb(n * 0.618 % 1, 0.75, 0.8)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colors


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
