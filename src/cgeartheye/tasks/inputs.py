"""Inputs of a trained model: images in files or in memory."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cgeartheye.data import images_below, read_image
from cgeartheye.utils.errors import UserError

Image = Path | Tensor
"""A file, or uint8 `[3, H, W]`."""


@dataclass(frozen=True, eq=False)
class Input:
    """An image to predict, or the images of two dates.

    Attributes:
        images: one, or that of each date.
        name: path of the first below the folder that was given, or a name for what has no path.
    """

    images: tuple[Image, ...]
    name: str

    @property
    def image_names(self) -> list[str]:
        """Return the name of the images in messages."""
        return [str(one) if isinstance(one, Path) else self.name for one in self.images]

    @property
    def path(self) -> Path | None:
        """The file of the first image, if it is one."""
        first = self.images[0]
        return first if isinstance(first, Path) else None


def load_image(
    image: Image,
    bands: tuple[int, int, int] = (1, 2, 3),
    stretch: tuple[float, float] | None = None,
) -> Tensor:
    """Return an image as uint8 `[3, H, W]`; see `read_image` for what its file may be.

    Args:
        image: a file, or the image itself, which is returned as it is.
        bands: of the file, counted from 1, that are red, green and blue.
        stretch: values of the file that become 0 and 255; none: see `read_image`.

    Raises:
        UserError: the file cannot be read.
    """
    return image if isinstance(image, Tensor) else read_image(image, bands, stretch)


def find_images(inputs: list[Path]) -> dict[Path, str]:
    """Return images, and the images in folders and their subfolders.

    Returns:
        By their paths: those below the given folder, or the names of files that are given.

    Raises:
        UserError: a path does not exist, or a folder has no image.
    """
    found: dict[Path, str] = {}
    for path in inputs:
        if not path.exists():
            raise UserError(f"no image or folder {path}")
        images = images_below(path) if path.is_dir() else [path]
        if not images:
            raise UserError(f"{path} holds no JPEG, PNG, TIFF or BMP image")
        top = path if path.is_dir() else path.parent
        found |= {image: image.relative_to(top).as_posix() for image in images}
    return found


def find_inputs(inputs: list[Path]) -> list[Input]:
    """Return the images that `find_images` finds, each an input of its own."""
    return [Input((path,), name) for path, name in find_images(inputs).items()]
