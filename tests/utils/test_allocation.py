"""Files that claim more than they hold are refused before anything is allocated for them."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.windows import Window

from cgeartheye.data.formats.masks import Legend, read_mask
from cgeartheye.data.image_io import read_image
from cgeartheye.geo.reader import open_scene
from cgeartheye.utils.errors import UserError

LEGEND = Legend(("a", "b"), ((0, 0, 0), (9, 9, 9)), {0: 0, 1: 1}, {})
READERS: dict[str, Callable[[Path], object]] = {
    "chip": read_image,
    "mask": lambda path: read_mask(path, LEGEND),
    "scene": lambda path: open_scene([path], ground=1.0),
}


def sparse(path: Path, side: int, block: int, bands: int = 3, dtype: str = "uint8") -> Path:
    """A TIFF of one pixel with a value, whatever it claims."""
    with rasterio.open(
        path, "w", "GTiff", side, side, bands, dtype=dtype, tiled=True, blockxsize=block,
        blockysize=block, sparse_ok=True, compress="deflate", interleave="pixel",
    ) as file:  # fmt: skip
        if block < 4096:
            file.write(np.ones((bands, 1, 1), dtype), window=Window(0, 0, 1, 1))
    return path


@pytest.mark.parametrize("kind", READERS)
def test_blocks_larger_than_what_a_file_can_hold_are_refused(tmp_path, kind):
    path = sparse(tmp_path / "a.tif", 64, 65_520)
    assert path.stat().st_size < 2**20
    with pytest.raises(UserError, match=r"declares blocks of 65,520 x 65,520 pixels"):
        READERS[kind](path)


@pytest.mark.parametrize("kind", ["chip", "mask"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pixels_beyond_what_a_file_can_hold_are_refused(tmp_path, kind, dtype):
    path = sparse(tmp_path / "a.tif", 12_000, 512, dtype=dtype)
    with pytest.raises(UserError, match=r"declares an image of 12,000 x 12,000 pixels"):
        READERS[kind](path)


def test_a_scene_of_any_size_is_read_in_pieces(tmp_path):
    open_scene([sparse(tmp_path / "a.tif", 30_000, 512)], ground=1.0, stretch=None)


def test_an_empty_mask_of_a_large_chip_is_read_within_the_bound(tmp_path):
    Image.new("L", (8000, 8000)).save(tmp_path / "mask.png")
    tracemalloc.start()
    assert not read_mask(tmp_path / "mask.png", LEGEND).any()
    assert tracemalloc.get_traced_memory()[1] < 0.5e9
    tracemalloc.stop()


def test_a_picture_that_claims_much_is_refused(tmp_path):
    Image.new("RGB", (9000, 9000)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="declares an image of 9,000 x 9,000"):
        read_image(tmp_path / "a.png")
