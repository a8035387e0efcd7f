"""Sizes of the blocks of all images in a TIFF, its masks and overviews too, from their headers."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

_SIZES = {1: 1, 3: 2, 4: 4, 16: 8}  # bytes of the types of whole numbers
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_WIDTH, _LENGTH, _BITS, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_LENGTH = (
    256, 257, 258, 277, 278, 284, 322, 323,
)  # fmt: skip
_WANTED = {_WIDTH, _LENGTH, _BITS, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_LENGTH}
_MOST = 1000  # images in a file that are looked at


class Block(NamedTuple):
    """A block that an image is stored in: pixels, and bytes once it is decoded."""

    width: int
    height: int
    size: int


def tiff_blocks(path: Path | str) -> Iterator[Block]:
    """Yield the block of each image in a TIFF (TIFF 6.0, BigTIFF); none of other or damaged files.

    Args:
        path: of the file.
    """
    try:
        with open(path, "rb") as file:
            yield from _blocks(file)
    except (OSError, ValueError, struct.error):
        return


def _blocks(file: IO[bytes]) -> Iterator[Block]:
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        return
    (version,) = struct.unpack(order + "H", head[2:4])
    if version not in (42, 43):
        return
    big = version == 43
    (place,) = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])
    count, entry, link = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    seen: set[int] = set()
    while place and place not in seen and len(seen) < _MOST:
        seen.add(place)
        file.seek(place)
        (number,) = struct.unpack(order + count, file.read(struct.calcsize("<" + count)))
        step = struct.calcsize("<" + entry)
        data = file.read(min(number, 65_535) * step)
        (place,) = struct.unpack(order + link, file.read(struct.calcsize("<" + link)))
        found = {}
        for tag, kind, length, value in struct.iter_unpack(order + entry, data):
            # Of several numbers, as bits of each band, the first stands for all.
            if tag in _WANTED and kind in _SIZES and length:
                found[tag] = _first(file, order, kind, length, value)
        yield _block(found)


def _first(file: IO[bytes], order: str, kind: int, length: int, value: bytes) -> int:
    size = _SIZES[kind]
    if size * length > len(value):
        (place,) = struct.unpack(order + ("Q" if len(value) == 8 else "I"), value)
        file.seek(place)
        value = file.read(size)
    (number,) = struct.unpack(order + _FORMATS[kind], value[:size])
    return int(number)


def _block(found: dict[int, int]) -> Block:
    width, height = found.get(_WIDTH, 0), found.get(_LENGTH, 0)
    if _TILE_WIDTH in found:
        width, height = found[_TILE_WIDTH], found.get(_TILE_LENGTH, 0)
    else:
        height = min(height, found.get(_ROWS, height))
    samples = found.get(_SAMPLES, 1) if found.get(_PLANAR, 1) == 1 else 1
    return Block(width, height, width * height * samples * found.get(_BITS, 1) // 8)
