"""`jlssd cut`: a chip of every season at every place of a design, or the reason why not.

    chips.parquet          a row for each place and season
    images/KEY/000/*.jpg   the chips, in folders of `PART` places; KEY tells the settings
    chips.parts/KEY        the table's parts, by which a killed cut goes on

A chip is a JPEG, so that the store of pre-training takes its bytes as they are; where it lies is
told by columns of the table. It is written whole or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from cgeartheye.config import ChipCutting
from cgeartheye.errors import UserError
from cgeartheye.files import lock, replacing
from cgeartheye.jlssd.cut_report import write_report
from cgeartheye.jlssd.mosaics import Mosaic, Spot, open_mosaic, spot_at
from cgeartheye.jlssd.pool import spread
from cgeartheye.jlssd.quality import measure
from cgeartheye.jlssd.rasters import identity_of
from cgeartheye.jlssd.steps import OK, digest_of, key_of, write_table
from cgeartheye.mapping.scene import Bytes
from cgeartheye.training.progress import bar, say

MISSING, NODATA, CLOUD, UNREADABLE = "missing", "nodata", "cloud", "unreadable"
"""What a row's status is called where there is no chip."""

PART = 64  # places; what a kill costs each process at most
QUALITY = 95
IMAGES = "images"
NAMED = 5  # rows that cannot be read, of which a sentence is printed

_OF_DESIGN = {
    "lon": pa.float64(),
    "lat": pa.float64(),
    "region": pa.string(),
    "land_cover": pa.string(),
    "elevation": pa.float64(),
    "band": pa.string(),
    "stratum": pa.string(),
}
_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "place": pa.string(),
        "season": pa.string(),
        "status": pa.string(),
        "reason": pa.string(),
        "nodata_share": pa.float32(),
        "cloud_share": pa.float32(),
        **_OF_DESIGN,
        "gsd": pa.float64(),
        "crs": pa.string(),
        "left": pa.float64(),
        "top": pa.float64(),
    }
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What every part of a cut needs.

    Attributes:
        places: rows of the design.
        mosaics: of the seasons.
        settings: size and limits.
        folder: of the table.
        images: folder of the chips, below it.
    """

    places: Sequence[Row]
    mosaics: tuple[Mosaic, ...]
    settings: ChipCutting
    folder: Path
    images: str


def cut_chips(design: Path, settings: ChipCutting, out: Path, workers: int = 2) -> pa.Table:
    """Cut the chips of a design.

    Killed, the same command goes on. Given again after it has finished, it tries once more what
    could not be read.

    Args:
        design: a table with columns place, lon and lat, as `jlssd design` writes it; region,
            land_cover, elevation, band and stratum go on to the table of chips.
        settings: mosaics by season, size, pixels and limits.
        out: the table of chips, a Parquet file; a report and the chips go beside it.
        workers: processes.

    Returns:
        The table, by place in the design's order, then by season in that of the settings.

    Raises:
        UserError: a design or a mosaic that cannot be used, or another cut into the same folder.
    """
    if out.suffix != ".parquet":
        raise UserError(f"{out} is to be a Parquet file, such as chips.parquet")
    places = _read_places(design)
    facts = {
        "design": digest_of(design),
        "settings": settings.model_dump(mode="json", exclude={"mosaics"}),
        "mosaics": {season: identity_of(paths) for season, paths in settings.mosaics.items()},
    }
    key = key_of(facts)
    parts = out.with_suffix(".parts") / key
    try:
        held = lock(parts / ".lock")
    except BlockingIOError as error:
        raise UserError(f"another process cuts chips into {out.parent}: wait for it") from error
    with held:
        mosaics = tuple(
            open_mosaic(season, paths, parts / "links")
            for season, paths in settings.mosaics.items()
        )
        job = Job(places, mosaics, settings, out.parent, f"{IMAGES}/{key}")
        count = -(-len(places) // PART)
        paths = [parts / f"{number:06d}.parquet" for number in range(count)]
        todo = [(number, path) for number, path in enumerate(paths) if not _is_done(path)]
        with bar("cutting", count, "parts", done=count - len(todo)) as progress:
            for _ in spread(_cut_part, job, todo, min(workers, len(todo))):
                progress.advance()
        table = pa.concat_tables([pq.read_table(path) for path in paths])
        write_table(out, table)
    _tell(table, out)
    write_report(table, settings, out)
    return table


def _read_places(design: Path) -> list[Row]:
    try:
        table = pq.read_table(design)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{design} cannot be read as a table of places ({str(error).splitlines()[0]}): make "
            "one with cgeartheye jlssd design"
        ) from error
    missing = [name for name in ("place", "lon", "lat") if name not in table.column_names]
    if missing:
        raise UserError(f"{design} has no column {missing[0]}: it needs place, lon and lat")
    known = [name for name in ("place", *_OF_DESIGN) if name in table.column_names]
    rows: list[Row] = table.select(known).to_pylist()
    if not rows:
        raise UserError(f"{design} holds no place")
    if len({row["place"] for row in rows}) < len(rows):
        raise UserError(f"{design} names a place twice: each needs a name of its own")
    return rows


def _is_done(path: Path) -> bool:
    """Whether a part is there and nothing in it is worth another try."""
    if not path.exists():
        return False
    return UNREADABLE not in set(pq.read_table(path, columns=["status"])["status"].to_pylist())


def _cut_part(job: Job, task: tuple[int, Path]) -> None:
    number, path = task
    rows = [
        _cut(job, place, mosaic, f"{job.images}/{number:06d}")
        for place in job.places[number * PART : (number + 1) * PART]
        for mosaic in job.mosaics
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=_SCHEMA))


def _cut(job: Job, place: Row, mosaic: Mosaic, folder: str) -> Row:
    """Cut one chip, and return its row."""
    settings = job.settings
    spot = spot_at(place["lon"], place["lat"], settings.size, settings.gsd)
    row = place | {"season": mosaic.season, **_where(spot)}
    try:
        seen = mosaic.look(spot)
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
    _write(pixels, job.folder / path)
    return row | {"path": path, "status": OK}


def _where(spot: Spot) -> Row:
    return {"gsd": spot.gsd, "crs": spot.crs, "left": spot.left, "top": spot.top}


def _write(pixels: Bytes, path: Path) -> None:
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, "JPEG", quality=QUALITY)


def _tell(table: pa.Table, out: Path) -> None:
    """Say how many chips there are, and of each season why there are no more."""
    for season in dict.fromkeys(table["season"].to_pylist()):
        part = table.filter(pc.equal(table["season"], season))
        counts = dict(zip(*np.unique(part["status"].to_pylist(), return_counts=True), strict=True))
        named = ", ".join(f"{n:,} {name}" for name, n in counts.items() if name != OK)
        say(f"{season}: {counts.get(OK, 0):,} chips" + (f"; {named}" if named else ""))
    unreadable = table.filter(pc.equal(table["status"], UNREADABLE))
    for reason in dict.fromkeys(unreadable["reason"].to_pylist()[:NAMED]):
        say(f"note: {reason}")
    if len(unreadable):
        say(f"note: {len(unreadable):,} chips could not be read: the same command tries them again")
    kept = int(pc.sum(pc.equal(table["status"], OK)).as_py() or 0)
    others = [p for p in (out.parent / IMAGES).glob("*") if kept and p.name not in _keys(table)]
    for folder in sorted(others):
        say(f"note: {folder} holds the chips of another cut, which this table does not name")
    say(f"{out}: {kept:,} chips of {len(set(table['place'].to_pylist())):,} places")


def _keys(table: pa.Table) -> set[str]:
    return {path.split("/")[1] for path in table["path"].drop_null().to_pylist()}
