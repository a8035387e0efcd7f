"""Blocks that travel: what one wrote of the files of a map, for another machine to put into them.

FOLDER/classes.raw      bytes of the pieces, one behind the other
FOLDER/ledger.sqlite    its finished rows, and what was found in them
FOLDER/block.json       of each file its size and its pieces, and the SHA-256
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cgeartheye.geo.reader import Span
from cgeartheye.mapping.blocks import LEDGER, block_folder
from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.job import MapJob
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest, replacing, write_json
from cgeartheye.utils.state import json_object

MANIFEST = "block.json"
_NAME = re.compile(r"[a-z]+\.raw")


def pack_planes(planes: Sequence[RawRaster], folder: Path) -> None:
    """Write what was written of some files, and where; see `geotiff.nearly_empty`.

    Raises:
        UserError: the disk is full.
    """
    entries = {}
    for plane in planes:
        assert plane.written is not None
        path = folder / plane.path.name
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            for rows, columns in plane.written:
                file.write(plane.read_bands(rows, columns).tobytes())
        entries[path.name] = {
            "shape": [plane.bands, plane.height, plane.width],
            "pieces": [[*rows, *columns] for rows, columns in plane.written],
            "sha256": digest([path]),
        }
    write_json(folder / MANIFEST, {"planes": entries}, indent=None)


def pack_ledger(job: MapJob, block: Span, folder: Path) -> None:
    """Add the ledger of a block that is finished.

    Args:
        job: of the folder that it was mapped in.
        block: first row of windows, and the one after the last.
        folder: of the parcel.
    """
    shutil.copy(block_folder(job, block) / LEDGER, folder / LEDGER)


def unpack_block(job: MapJob, block: Span, folder: Path) -> None:
    """Put a block into the files of a map; its ledger comes last, which makes it finished.

    Args:
        job: the map.
        block: first row of windows, and the one after the last.
        folder: what was packed.

    Raises:
        UserError: what was packed is damaged, or the disk is full.
    """
    try:
        planes = json_object((folder / MANIFEST).read_bytes())["planes"]
        for name, entry in planes.items():
            if not _NAME.fullmatch(name) or digest([folder / name]) != entry["sha256"]:
                raise ValueError(f"{name} is not what was written")
            _unpack(job.work / name, entry, folder / name)
        with replacing(block_folder(job, block) / LEDGER) as unfinished:
            shutil.copy(folder / LEDGER, unfinished)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"block {block[0]}-{block[1] - 1} is damaged ({error}): delete it, and map with "
            "--resume"
        ) from error


def _unpack(path: Path, entry: dict[str, Any], source: Path) -> None:
    bands, height, width = entry["shape"]
    path.parent.mkdir(parents=True, exist_ok=True)
    plane = RawRaster(path, bands, height, width)
    try:
        with source.open("rb") as file:
            for top, end, first, last in entry["pieces"]:
                shape = bands, end - top, last - first
                values = np.frombuffer(file.read(int(np.prod(shape))), np.uint8).reshape(shape)
                plane.write((top, end), first, values)
        plane.sync()
    finally:
        plane.close()
