"""Meaning of the pixels of a mask: mask files of every kind become class indices."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from PIL import Image
from rasterio.enums import ColorInterp
from torch import Tensor

from cgeartheye.config import ChangeData, Color, SegmentationData
from cgeartheye.data.formats.labelme_masks import UNLABELED, draw_shapes
from cgeartheye.data.image_io import (
    PILLOW_FORMATS,
    PNG,
    TIFF,
    one_sentence,
    quiet,
    refuse_bomb,
    refuse_raster,
    resolve_palette,
)
from cgeartheye.data.index.catalog import MASKED
from cgeartheye.utils.colors import class_colors
from cgeartheye.utils.errors import UserError

__all__ = ["UNLABELED", "Legend", "change_legend", "make_legend", "read_labels", "read_mask"]

CHANGE_COLORS: tuple[Color, Color] = ((32, 32, 32), (230, 60, 40))
_ROWS = 256  # of a picture that are looked up at a time
_STRAY = 254  # while a mask is read: a value that is no class

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Legend:
    """The classes of a data set, and how its masks encode them.

    Attributes:
        classes: names by index.
        colors: of the classes, where masks are drawn.
        of_value: class index, or `UNLABELED`, of each mask value; empty where every mask is a
            picture, grey ones and palettes too.
        of_color: the same of each colour; empty where no mask may be a picture.
        cut_lossy: whether the grey of a JPEG takes the nearest colour, though masks hold values.
    """

    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    of_value: Mapping[int, int]
    of_color: Mapping[Color, int]
    cut_lossy: bool = False


def make_legend(data: SegmentationData) -> Legend:
    """Return the legend of a config: its own classes and masks, or the catalog's.

    Raises:
        UserError: a value or colour of the config does not fit the catalog's classes.
    """
    known = MASKED[data.catalog] if data.catalog else None
    classes = data.classes or (known.classes if known else ())
    values = data.values or (known.values if known else tuple(range(len(classes))))
    colors = data.colors or (known.colors if known else None)
    for name, given in (("values", values), ("colors", colors)):
        if given is not None and len(given) != len(classes):
            raise UserError(
                f"data.{name} has {len(given)} entries for the {len(classes)} classes of "
                f"{data.catalog}: give one for each class"
            )
    unlabeled = data.unlabeled
    if unlabeled is None:
        unlabeled = known.unlabeled if known else (UNLABELED,)
    of_value = {value: UNLABELED for value in unlabeled if isinstance(value, int)}
    of_color = {color: UNLABELED for color in unlabeled if not isinstance(color, int)}
    of_value |= {value: label for label, value in enumerate(values)}
    of_color |= {color: label for label, color in enumerate(colors or ())}
    return Legend(
        classes,
        colors or class_colors(classes),
        of_value={} if data.colors else of_value,
        of_color=of_color if colors else {},
    )


def change_legend(data: ChangeData) -> Legend:
    """Return the legend of change masks by a config.

    Without `data.values` 0 is unchanged, and 1 and 255 are changed; a JPEG is cut at 128.
    """
    of_value = {0: 0, 1: 1, 255: 1}
    if data.values:
        of_value = {value: label for label, value in enumerate(data.values)}
    of_value |= dict.fromkeys(data.unlabeled, UNLABELED)
    black_and_white = {(0, 0, 0): 0, (255, 255, 255): 1}
    return Legend(
        ("unchanged", "changed"),
        CHANGE_COLORS,
        of_value,
        {} if data.values else black_and_white,
        cut_lossy=not data.values,
    )


def read_mask(path: Path, legend: Legend) -> Tensor:
    """Read the class of every pixel, whatever the kind of the mask's file and its ending.

    A palette holds indices, unless the config gives colours.

    Returns:
        uint8 `[H, W]`: class indices, `UNLABELED` where there is none.

    Raises:
        UserError: the file cannot be read, a JPEG's values are blurred, a value is no class, or a
            mask of change holds both values that may mean changed.
    """
    labels, strays = read_labels(path, legend)
    if strays:
        what, pixels = max(strays.items(), key=lambda item: item[1])
        raise UserError(
            f"{path} has {what} in {pixels:,} pixels, which is no class: {stray_advice(legend)}"
        )
    return labels


def read_labels(path: Path, legend: Legend) -> tuple[Tensor, dict[str, int]]:
    """Read a mask past values that are no class.

    Returns:
        The mask, as `read_mask` returns it, with `UNLABELED` where a value is no class; and how
        many pixels have each such value: `the value 7` or `the colour (60, 16, 152)`.

    Raises:
        UserError: the file cannot be read, a JPEG's values are blurred, or a shape of labelme's is
            of no class.
    """
    if path.suffix.lower() == ".json":
        return torch.from_numpy(draw_shapes(path, legend.classes)), {}
    pixels, lossy = _decode(path, keep_indices=bool(legend.of_value))
    if pixels.ndim == 3 and not legend.of_color:
        if (pixels != pixels[..., :1]).any():
            raise UserError(
                f"{path} is a picture in colours: give the colour of each class in data.colors"
            )
        pixels = pixels[..., 0]  # a grey one, saved with three bands
    if legend.cut_lossy and pixels.ndim == 3 and (lossy or (pixels == pixels[..., :1]).all()):
        pixels = pixels.mean(axis=2).round().astype(np.uint8)
    if pixels.ndim == 2 and legend.of_value and not (lossy and legend.cut_lossy):
        if lossy:
            raise UserError(
                f"{path} is a JPEG, whose compression changes values: save it as PNG, or give "
                "data.colors, such as [[0, 0, 0], [255, 255, 255]], to have each pixel take the "
                "nearest"
            )
        if (
            legend.cut_lossy
            and legend.of_value.get(255) == 1
            and {1, 255} <= set(np.unique(pixels))
        ):
            raise UserError(
                f"{path} holds both 1 and 255, either of which may mean changed: if 255 means not "
                "labelled, add it to data.unlabeled; else save the mask with one of them"
            )
        labels, strays = _look_up(pixels, legend.of_value)
        return labels, {f"the value {value}": count for value, count in strays.items()}
    packed = {int(_pack(np.array(color))): label for color, label in legend.of_color.items()}
    labels, strays = torch.empty(pixels.shape[:2], dtype=torch.uint8), Counter[int]()
    # Numbers of 64 bits for all pixels at once would take more than the mask.
    for row in range(0, len(pixels), _ROWS):
        some = pixels[row : row + _ROWS]
        codes = _pack(some if some.ndim == 3 else some[..., None].repeat(3, axis=2))
        if lossy:
            codes = _nearest(codes, np.array([*packed]))
        labels[row : row + _ROWS], astray = _look_up(codes, packed)
        strays.update(astray)
    return labels, {
        f"the colour {tuple(_unpack(np.array(code)).tolist())}": count
        for code, count in strays.items()
    }


def stray_advice(legend: Legend) -> str:
    """Return what to do about a mask value that is no class."""
    if not legend.of_value:
        return "correct data.colors, or add it to data.unlabeled"
    values = [value for value, label in legend.of_value.items() if label != UNLABELED]
    run = list(range(min(values), max(values) + 1))
    shown = f"{run[0]} to {run[-1]}" if values == run else ", ".join(map(str, values))
    return (
        f"the {len(legend.classes)} classes have the values {shown}; correct data.values, or add "
        "it to data.unlabeled"
    )


def _decode(path: Path, keep_indices: bool) -> tuple[_Array, bool]:
    """Decode a mask's own values, not what they look like.

    Args:
        path: the file.
        keep_indices: a palette's indices rather than its colours.

    Returns:
        `[H, W]` of any integer type, or colours, uint8 `[H, W, 3]`; and whether the file's
        compression changes values.
    """
    with one_sentence(path):
        with path.open("rb") as file:
            head = file.read(26)
        if head[:4] in TIFF:
            return _decode_tiff(path, keep_indices)
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            refuse_bomb(path, image.width, image.height, len(image.getbands()) + 4)
            lossy = image.format == "JPEG"
            if image.mode in ("1", "L", "I", "I;16", "I;16B") or (
                image.mode == "P" and keep_indices
            ):
                pixels = np.array(image)
            elif image.mode == "LA":
                pixels = np.array(image.getchannel("L"))
            else:
                pixels = np.array(image.convert("RGB"))
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * (1 if keep_indices else 255)
    elif head[:8] == PNG and head[25] == 0 and head[24] in (2, 4) and keep_indices:
        pixels //= 255 // (2 ** head[24] - 1)  # Pillow spreads grey of 2 or 4 bits over 0 to 255
    return pixels, lossy


def _decode_tiff(path: Path, keep_indices: bool) -> tuple[_Array, bool]:
    with quiet(), rasterio.open(path, driver="GTiff") as source:
        count = 3 if source.count >= 3 else 1
        refuse_raster(path, source, count * np.dtype(source.dtypes[0]).itemsize + 1)
        lossy = source.profile.get("compress") == "jpeg"
        bands = source.read([1, 2, 3]) if source.count >= 3 else source.read([1])
        if source.colorinterp[0] == ColorInterp.palette and not keep_indices:
            bands = resolve_palette(bands[0], source.colormap(1))
    if np.issubdtype(bands.dtype, np.floating):
        fractions = bands[bands != np.trunc(bands)]  # NaN among them
        if fractions.size:
            raise UserError(f"{path} holds {fractions[0]:g}, which is no class: save whole numbers")
        bands = bands.clip(-(2.0**31), 2.0**31).astype(np.int64)
    return (bands[0] if len(bands) == 1 else bands.transpose(1, 2, 0)), lossy


def _look_up(values: _Array, labels: Mapping[int, int]) -> tuple[Tensor, dict[int, int]]:
    """Replace values by class indices, and count those that are none by value."""
    if values.dtype == np.uint8:
        found = _match(np.arange(256), labels)[values]
    else:
        found = _match(values, labels)
    astray = found == _STRAY
    if not astray.any():
        return torch.from_numpy(found), {}
    found[astray] = UNLABELED
    which, counts = np.unique(values[astray], return_counts=True)
    return torch.from_numpy(found), dict(zip(which.tolist(), counts.tolist(), strict=True))


def _match(values: _Array, labels: Mapping[int, int]) -> npt.NDArray[np.uint8]:
    """Return the label of each value, or `_STRAY`."""
    known = np.array(sorted(labels))
    meant = np.array([labels[value] for value in known.tolist()], dtype=np.uint8)
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    return np.where(known[places] == values, meant[places], np.uint8(_STRAY))


def _pack(colors: _Array) -> npt.NDArray[np.int64]:
    """Make one number of each colour, `[..., 3]` to `[...]`; a band may have 16 bits."""
    wide = colors.astype(np.int64)
    packed: npt.NDArray[np.int64] = wide[..., 0] << 32 | wide[..., 1] << 16 | wide[..., 2]
    return packed


def _unpack(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.stack([codes >> 32, codes >> 16 & 0xFFFF, codes & 0xFFFF], axis=-1)


def _nearest(codes: npt.NDArray[np.int64], choices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Replace each colour by that of the choices with the smallest Euclidean distance."""
    seen, places = np.unique(codes, return_inverse=True)
    distances = ((_unpack(seen)[:, None] - _unpack(choices)) ** 2).sum(axis=2)
    nearest: npt.NDArray[np.int64] = choices[distances.argmin(axis=1)][places]
    return nearest.reshape(codes.shape)
