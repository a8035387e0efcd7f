"""Files that claim more than they hold are refused before anything is allocated for them."""

import struct
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
from cgeartheye.jlssd.sampling.rasters import Source, open_raster
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.tiff_blocks import tiff_blocks

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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tiled": True, "blockxsize": 32, "blockysize": 16},
        {"BIGTIFF": "YES", "tiled": True, "blockxsize": 16, "blockysize": 64},
        {"ENDIANNESS": "BIG", "BLOCKYSIZE": 7},
        {"interleave": "band", "BIGTIFF": "YES", "ENDIANNESS": "BIG"},
    ],
)
def test_blocks_are_those_that_gdal_reads(tmp_path: Path, options: dict[str, object]) -> None:
    path = write(tmp_path / "a.tif", **options)
    with rasterio.open(path) as file:
        (height, width), *_ = file.block_shapes
        together = 1 if options.get("interleave") == "band" else 3
    first, mask = tiff_blocks(path)
    assert first == (width, height, width * height * 2 * together)
    assert mask.size >= mask.width * mask.height // 8


def test_other_and_damaged_files_have_no_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in [0, 3, 7, 15, 60, *rng.integers(0, len(whole), 20).tolist()]:
        path.write_bytes(whole[:size])
        list(tiff_blocks(path))
    for place in rng.integers(0, 400, 100).tolist():
        path.write_bytes(whole[:place] + bytes([255 - whole[place]]) + whole[place + 1 :])
        list(tiff_blocks(path))
    path.write_bytes(b"\x89PNG" + whole[4:])
    assert list(tiff_blocks(path)) == []


def test_a_mask_with_large_blocks_is_refused(tmp_path: Path) -> None:
    """The image is harmless; 64 pixels of its mask claim a block of 65,520 x 65,520."""
    path = write(tmp_path / "a.tif", tiled=True, blockxsize=64, blockysize=64)
    data = path.read_bytes()
    for tag in (322, 323):  # in the mask's header, which is the last
        entry = struct.pack("<HHI", tag, 3, 1) + struct.pack("<HH", 64, 0)
        assert data.count(entry) == 2
        place = data.rindex(entry)
        forged = entry[:8] + struct.pack("<HH", 65_520, 0)
        data = data[:place] + forged + data[place + len(entry) :]
    path.write_bytes(data)
    for read in (
        read_image,
        lambda path: open_scene([path]),
        lambda path: open_raster(Source("a", str(path), [])),
    ):
        with pytest.raises(UserError, match=r"declares blocks of 65,520 x 65,520 pixels"):
            read(path)


def write(path: Path, **options: object) -> Path:
    """An image of three bands of 16 bits with an internal mask."""
    place = rasterio.transform.from_origin(5e5, 44e5, 1, 1)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=64,
            height=64,
            count=3,
            dtype="uint16",
            crs="EPSG:32650",
            transform=place,
            **options,
        ) as file,
    ):
        file.write(np.ones((3, 64, 64), np.uint16))
        file.write_mask(np.eye(64, dtype=bool))
    return path
