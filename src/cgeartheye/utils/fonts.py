"""Letters in pictures: a font that has those of a name; where none does, the name's number."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from matplotlib import font_manager, get_data_path
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

_ASCII = frozenset(range(32, 127))  # of scores and punctuation beside the names
_OWN = str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"))  # on every machine


def writable(names: Sequence[str]) -> list[str]:
    """Return names as pictures can show them.

    Returns:
        The names; in place of one whose letters no font has, `#` and its place from 0.
    """
    return [name if _font_with(_beyond(name)) else f"#{n}" for n, name in enumerate(names)]


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font that has the letters of a text, made of `writable` names and ASCII.

    Args:
        text: to be written.
        size: of the letters, pixels.
    """
    return _opened(_font_with(_beyond(text)) or _OWN, size)


def _beyond(text: str) -> frozenset[int]:
    return frozenset(map(ord, text)) - _ASCII


@cache
def _font_with(letters: frozenset[int]) -> str | None:
    """Return the file of the first font that has these letters and ASCII; none: there is none."""
    return next((path for path in (_OWN, *_system_fonts()) if _has(path, letters)), None)


def _has(path: str, letters: frozenset[int]) -> bool:
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # a damaged file
        return False
    # Pictures as letters, such as emoji, are of one size.
    return font.scalable and (letters | _ASCII) <= font.get_charmap().keys()


@cache
def _system_fonts() -> tuple[str, ...]:
    """Return the files of the system's fonts, upright ones of common weight first."""
    paths = sorted(font_manager.findSystemFonts())
    # One font of macOS stands in for all letters, with frames.
    real = [path for path in paths if not Path(path).stem.startswith("LastResort")]
    return tuple(sorted(real, key=lambda path: "regular" not in Path(path).stem.lower()))


@cache
def _opened(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
