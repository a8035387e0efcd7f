"""Chips: what each season's mosaic shows at some places, cut, judged and written.

It is apart from `cut` because processes that cut chips import it, and need no more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image

from cgeartheye.config import ChipCutting
from cgeartheye.jlssd.chips.mosaics import ChipGrid, Mosaic, chip_grid_at
from cgeartheye.jlssd.quality.measures import measure
from cgeartheye.jlssd.resumable import OK, write_table
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_image

MISSING, NODATA, CLOUD, UNREADABLE = "missing", "nodata", "cloud", "unreadable"
"""The values of a row's status where there is no chip."""

QUALITY = 95

OF_PLACE = {
    "place": pa.string(),
    "lon": pa.float64(),
    "lat": pa.float64(),
    "region": pa.string(),
    "land_cover": pa.string(),
    "elevation": pa.float64(),
    "band": pa.string(),
    "stratum": pa.string(),
}
"""Columns of a design that go on to the table of chips."""

_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "place": pa.string(),
        "season": pa.string(),
        "status": pa.string(),
        "reason": pa.string(),
        "nodata_share": pa.float32(),
        "cloud_share": pa.float32(),
        **OF_PLACE,
        "gsd": pa.float64(),
        "crs": pa.string(),
        "left": pa.float64(),
        "top": pa.float64(),
    }
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """Inputs of every part of a cut.

    Attributes:
        mosaics: of the seasons.
        settings: size and limits.
        folder: of the table.
    """

    mosaics: tuple[Mosaic, ...]
    settings: ChipCutting
    folder: Path


class Part(NamedTuple):
    """Some places whose chips are cut together.

    Attributes:
        path: of their table.
        images: folder of their chips, below that of the job.
        places: rows of the design.
    """

    path: Path
    images: str
    places: list[Row]


def cut_part(job: Job, part: Part) -> None:
    """Cut the chips of some places, then write their table."""
    rows = [
        _cut(job, place, mosaic, part.images) for place in part.places for mosaic in job.mosaics
    ]
    write_table(part.path, pa.Table.from_pylist(rows, schema=_SCHEMA))


def _cut(job: Job, place: Row, mosaic: Mosaic, folder: str) -> Row:
    """Cut one chip, and return its row."""
    settings = job.settings
    chip_grid = chip_grid_at(place["lon"], place["lat"], settings.size, settings.gsd)
    row = place | {"season": mosaic.season, **_where(chip_grid)}
    try:
        seen = mosaic.look(chip_grid)
    except UserError as error:
        # How a map goes on is no advice here.
        return row | {"status": UNREADABLE, "reason": str(error).partition(": restore")[0]}
    if seen is None:
        reason = f"{mosaic.name} does not reach here"
        return row | {"status": MISSING, "reason": reason, "nodata_share": 1.0}
    pixels, valid = seen
    nodata = float(1 - valid.mean())
    row["nodata_share"] = nodata
    if nodata > settings.max_nodata:
        limit = f"{100 * nodata:.1f} % without data, at most {100 * settings.max_nodata:g} %"
        return row | {"status": NODATA, "reason": limit}
    cloud = measure(pixels, valid)["cloud"]
    row["cloud_share"] = cloud
    if cloud > settings.max_cloud:
        limit = f"{100 * cloud:.1f} % below cloud, at most {100 * settings.max_cloud:g} %"
        return row | {"status": CLOUD, "reason": limit}
    path = f"{folder}/{place['place']}_{mosaic.season}.jpg"
    write_image(job.folder / path, Image.fromarray(pixels), quality=QUALITY)
    return row | {"path": path, "status": OK}


def _where(chip_grid: ChipGrid) -> Row:
    return {
        "gsd": chip_grid.gsd,
        "crs": chip_grid.crs,
        "left": chip_grid.left,
        "top": chip_grid.top,
    }
