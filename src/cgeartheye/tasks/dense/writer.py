"""Predicted masks as files."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from cgeartheye.data import Legend
from cgeartheye.data.image_io import quiet
from cgeartheye.geo.georeference import placement_of
from cgeartheye.geo.raster_writer import replacing_raster
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_image


def check_names(images: Iterable[tuple[str, str]]) -> None:
    """Refuse images whose masks would have the same name, before any work is done.

    Args:
        images: path and name of each.

    Raises:
        UserError: naming two of them.
    """
    taken: dict[str, str] = {}
    for path, name in images:
        other = taken.setdefault(str(Path(name).with_suffix("")), path)
        if other != path:
            raise UserError(
                f"the masks of {other} and {path} would have the same name: predict their folders "
                "one after the other"
            )


def write_mask(
    folder: Path, name: str, classes: np.ndarray, legend: Legend, image: Path | None
) -> Path:
    """Write the class of every pixel, with the classes' colors as the file's palette.

    Args:
        folder: where to.
        name: of the image, below the folder; the mask has another ending.
        classes: uint8 `[H, W]`, indices from 0.
        legend: the classes and their colors.
        image: file of what was predicted. Where it is georeferenced the mask is a GeoTIFF
            with the same georeference, else a PNG.

    Returns:
        The file.

    Raises:
        UserError: it cannot be written.
    """
    place = None
    if image:
        with quiet(), rasterio.open(image) as source:
            place = placement_of(source)
    path = (folder / name).with_suffix(".tif" if place else ".png")
    if place is None:
        picture = Image.fromarray(classes)
        picture.putpalette([level for color in legend.colors for level in color])
        write_image(path, picture, optimize=True)
        return path
    height, width = classes.shape
    with (
        replacing_raster(path) as temporary,
        quiet(),
        rasterio.open(
            temporary,
            "w",
            driver="GTiff",
            count=1,
            height=height,
            width=width,
            dtype="uint8",
            compress="deflate",
            **place,
        ) as target,
    ):
        target.write(classes, 1)
        target.write_colormap(1, dict(enumerate(legend.colors)))
        target.update_tags(**{f"CLASS_{n}": name for n, name in enumerate(legend.classes)})
    return path
