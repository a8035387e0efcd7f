"""Image files of every common kind become uint8 tensors `[3, H, W]`."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from PIL import Image, UnidentifiedImageError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import xy
from rasterio.warp import transform_geom
from shapely import LinearRing
from torch import Tensor

from cgeartheye.geo.crs import WGS84
from cgeartheye.geo.georeference import georeference_of
from cgeartheye.geo.rectify import PointFit, RpcFit, fit_points, fit_rpcs
from cgeartheye.geo.stretch import percentile_limits, to_8_bits
from cgeartheye.geo.validity import valid_pixels
from cgeartheye.utils.allocation import refuse_allocation, refuse_blocks
from cgeartheye.utils.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})

# Where Pillow refuses an image as a decompression bomb; as RGB it would take 0.5 GB.
MAX_PIXELS = 178_956_970

_TAIL = 4_096  # bytes in which a JPEG or PNG ends; some have a few more behind

_SIDE_POINTS = 16  # of an outline whose sides are not straight

PILLOW_FORMATS = ("JPEG", "PNG", "BMP")  # others stay closed: EPS, for one, runs a program
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG = b"\x89PNG\r\n\x1a\n"

_Array = npt.NDArray[Any]


class Header(NamedTuple):
    """Header of an image file, read before a pixel is decoded: pixels, and bits a band."""

    width: int
    height: int
    bits: int


class Georeference(NamedTuple):
    """Georeference of an image.

    Attributes:
        crs: the file's own CRS, `EPSG:32633` or, where it has no code, WKT.
        geometry: its outline as a GeoJSON geometry, longitude and latitude (WGS 84), cut at the
            antimeridian.
    """

    crs: str
    geometry: dict[str, Any]


def read_image(
    path: Path,
    bands: tuple[int, int, int] = (1, 2, 3),
    stretch: tuple[float, float] | None = None,
) -> Tensor:
    """Decode an image, whatever its kind and its file's ending.

    JPEG, PNG, TIFF and BMP are recognised by content. Grey is repeated, a palette is resolved,
    CMYK is converted; what is transparent, masked, nodata or NaN becomes 0.

    Args:
        path: the file.
        bands: which bands, counted from 1, are red, green and blue; an image of one or two
            bands (grey, grey and alpha) is grey.
        stretch: values that become 0 and 255 where a band has more than 8 bits. None: the 1st and
            99th percentile of this image, over the chosen bands together.

    Returns:
        uint8 `[3, H, W]`, values 0..255.

    Raises:
        UserError: a missing, empty, truncated, damaged or foreign file, more than `MAX_PIXELS`
            pixels, a band that is not there, or complex values.
    """
    with one_sentence(path):
        if _needs_gdal(path):
            return torch.from_numpy(_read_gdal(path, bands, stretch))
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            refuse_bomb(path, image.width, image.height)
            gray = image.mode in ("1", "L", "LA")
            pixels = torch.from_numpy(pillow_pixels(image)).permute(2, 0, 1)
    if gray or bands == (1, 2, 3):
        return pixels[:3]
    return pixels[_zero_based(path, bands, pixels.shape[0])]


def read_plain(path: Path) -> Image.Image | None:
    """Decode a JPEG, PNG or BMP of three opaque bands with 8 bits, as most images are.

    Its pixels are those that `read_image` returns, without the copies into a tensor.

    Returns:
        None where the file is of another kind.

    Raises:
        UserError: as `read_image`.
    """
    with one_sentence(path):
        if _needs_gdal(path):
            return None
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            refuse_bomb(path, image.width, image.height)
            if image.mode != "RGB" or image.has_transparency_data:
                return None
            image.load()
            return image


def read_header(path: Path) -> Header:
    """Read an image's size and depth without decoding its pixels.

    Raises:
        UserError: as `read_image`, where the head of the file shows it.
    """
    with one_sentence(path):
        if _needs_gdal(path):
            with quiet(), rasterio.open(path) as source:
                return Header(source.width, source.height, np.dtype(source.dtypes[0]).itemsize * 8)
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            return Header(image.width, image.height, 8)


def read_whole_header(path: Path) -> Header:
    """Read an image's size and depth, and check whether its file ends as it should.

    Raises:
        UserError: as `read_header`, or a JPEG or PNG was cut off.
    """
    header = read_header(path)
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(max(path.stat().st_size - _TAIL, 0))
        tail = file.read()
    marks = {b"\xff\xd8": b"\xff\xd9", PNG[:2]: b"IEND"}
    if marks.get(head[:2], b"") not in tail:
        raise UserError(f"{path} is cut off: download it again")
    return header


def read_georeference(path: Path, dem: str | None = None) -> Georeference | None:
    """Read an image's georeference, from its transform, ground control points or RPCs.

    Args:
        path: of the file.
        dem: for RPCs, a raster of heights, or one height in metres above the ellipsoid.

    Returns:
        None where the file has no CRS, and no RPCs with heights.

    Raises:
        UserError: a missing or unreadable file, or a `dem` that is neither file nor number.
    """
    with one_sentence(path), quiet(), rasterio.open(path) as source:
        transform, crs = georeference_of(source)
        fit: PointFit | RpcFit | None = fit_rpcs(source, dem)
        if fit is not None:
            crs = WGS84
        if crs is None:
            return None
        rows, columns = (
            [0, source.height, source.height, 0, 0],
            [0, 0, source.width, source.width, 0],
        )
        points, placed = source.gcps[0], source.crs is not None
        if points and not placed:
            fit = fit_points(points)
        if fit is None or fit.kind == "affine":
            eastings, northings = xy(transform, rows, columns, offset="ul")
        else:  # its sides are not straight
            corners = np.array([columns, rows], float)
            steps = np.linspace(0, 1, _SIDE_POINTS, endpoint=False)
            sides = corners[:, :-1, None] * (1 - steps) + corners[:, 1:, None] * steps
            line = np.concatenate([sides.reshape(2, -1), corners[:, -1:]], axis=1)
            eastings, northings = (places.tolist() for places in fit.to_map(*line))
        ring = list(zip(eastings, northings, strict=True))
        if not LinearRing(ring).is_ccw:  # GeoJSON wants its rings counter-clockwise
            ring.reverse()
        outline = {"type": "Polygon", "coordinates": [ring]}
        return Georeference(crs.to_string(), transform_geom(crs, "EPSG:4326", outline))


def images_below(folder: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders; see `files_below`."""
    return files_below(folder, SUFFIXES)


def files_below(folder: Path, suffixes: Set[str]) -> list[Path]:
    """Return the files with some endings in a folder and its subfolders, hidden ones left out.

    Args:
        folder: to look into.
        suffixes: in lower case, with their dots.

    Returns:
        Paths that start with `folder`, sorted, so independent of the file system's order.
    """
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
        ]
    return sorted(found, key=lambda path: path.as_posix())


@contextlib.contextmanager
def one_sentence(path: Path) -> Iterator[None]:
    """Turn exceptions of the decoders into one sentence for the user.

    Raises:
        UserError: the file is missing, unreadable, no image, too large, or damaged.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"no image {path}: correct the path or restore the file") from error
    except PermissionError as error:
        raise UserError(f"{path} may not be read: change its permissions") from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path} is not a JPEG, PNG, TIFF or BMP image, or its head is damaged: "
            "replace it or take it out of the data"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(_too_large(path)) from error
    except (OSError, RasterioError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow, PNG
        raise UserError(
            f"{path} is truncated or damaged: replace it or take it out of the data"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out the warning that an image is not a map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _needs_gdal(path: Path) -> bool:
    """Return whether the file is a TIFF, or a PNG of 16 bits, which Pillow would cut to 8."""
    with path.open("rb") as file:
        head = file.read(25)
    if not head:
        raise UserError(f"{path} is empty: replace it or take it out of the data")
    return head[:4] in TIFF or (head[:8] == PNG and head[24:] == b"\x10")


def refuse_bomb(path: Path, width: int, height: int, bytes_a_pixel: int = 9) -> None:
    """Refuse an image that would take too much memory.

    Args:
        path: of the file.
        width: in pixels.
        height: in pixels.
        bytes_a_pixel: that decoding takes, copies included; 9: of three bands of 8 bits.

    Raises:
        UserError: it has more than `MAX_PIXELS`, or far more than its file can hold.
    """
    if width * height > MAX_PIXELS:
        raise UserError(_too_large(path))
    needed = width * height * bytes_a_pixel
    refuse_allocation(path, needed, f"an image of {width:,} x {height:,} pixels")


def refuse_raster(path: Path, source: Any, bytes_a_pixel: int) -> None:
    """Refuse a raster with too many pixels or with blocks that are too large.

    Args:
        path: of the file.
        source: the raster, opened by rasterio.
        bytes_a_pixel: that decoding takes, copies included.

    Raises:
        UserError: see `refuse_bomb` and `refuse_blocks`.
    """
    refuse_bomb(path, source.width, source.height, bytes_a_pixel)
    refuse_blocks(path, source)


def _too_large(path: Path) -> str:
    return f"{path} has more than {MAX_PIXELS // 10**6} million pixels: cut it into chips"


def _zero_based(path: Path, bands: tuple[int, int, int], count: int) -> list[int]:
    """Indices of the chosen bands in an image of `count` bands."""
    if count <= 2:
        return [0, 0, 0]
    if max(bands) > count:
        raise UserError(f"{path} has {count} bands, so no band {max(bands)}: change data.bands")
    return [band - 1 for band in bands]


def pillow_pixels(image: Image.Image) -> _Array:
    """Decode to uint8 `[H, W, 3]`, or `[H, W, 4]` where the image has an alpha band."""
    if image.has_transparency_data:
        pixels = np.array(image.convert("RGBA"))
        pixels[pixels[..., 3] == 0] = 0
        return pixels
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _read_gdal(
    path: Path, bands: tuple[int, int, int], stretch: tuple[float, float] | None
) -> _Array:
    """Decode to uint8 `[3, H, W]`."""
    with quiet(), rasterio.open(path) as source:
        itemsize = np.dtype(source.dtypes[0]).itemsize
        # Values of more than 8 bits become float32, are put in order and scaled.
        of_band = 3 if itemsize == 1 else itemsize + 13
        refuse_raster(path, source, of_band * (3 if source.count >= 3 else 1))
        if source.colorinterp[0] == ColorInterp.palette:
            colors = resolve_palette(source.read(1), source.colormap(1))
            pixels = colors[_zero_based(path, bands, 3)]
            valid = source.read_masks(1) > 0
        else:
            chosen = [index + 1 for index in _zero_based(path, bands, source.count)]
            pixels = source.read(chosen)
            valid = valid_pixels(source, chosen, pixels)
    if pixels.dtype == np.uint8:
        return pixels if valid.all() else pixels * valid
    if np.iscomplexobj(pixels):
        raise UserError(f"{path} holds complex values: convert it to amplitudes")
    return to_8_bits(pixels, stretch or percentile_limits(pixels[:, valid]), valid)


def resolve_palette(indices: _Array, colors: dict[int, tuple[int, int, int, int]]) -> _Array:
    """Look indices `[H, W]` up to uint8 `[3, H, W]`."""
    table = np.zeros((np.iinfo(indices.dtype).max + 1, 3), dtype=np.uint8)
    for index, color in colors.items():
        table[index] = color[:3]
    return table[indices].transpose(2, 0, 1)
