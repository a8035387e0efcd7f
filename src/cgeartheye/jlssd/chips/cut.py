"""`jlssd cut`: a chip of every season at every place of a design, or the reason why not.

    chips.parquet          a row for each place and season
    images/KEY/000/*.jpg   the chips, in folders of `PART` places; KEY identifies the settings
    chips.parts/KEY        the table's parts, by which a killed cut goes on

A chip is a JPEG, so that the store of pre-training takes its bytes as they are; columns of the
table give its path. It is written whole or not at all.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cgeartheye.config import ChipCutting
from cgeartheye.jlssd.chips.mosaics import open_mosaic
from cgeartheye.jlssd.chips.report import write_report
from cgeartheye.jlssd.chips.worker import OF_PLACE, UNREADABLE, Job, Part, cut_part
from cgeartheye.jlssd.resumable import OK, claim, digest_of, key_of, read_part, write_table
from cgeartheye.jlssd.sampling.rasters import identity_of
from cgeartheye.jlssd.workers import spread
from cgeartheye.utils.console import bar, log_info, warn
from cgeartheye.utils.errors import UserError

PART = 64  # places; what a kill costs each process at most
IMAGES = "images"
NAMED = 5  # rows that cannot be read, of which a sentence is printed


def cut_chips(design: Path, settings: ChipCutting, out: Path, workers: int = 2) -> pa.Table:
    """Cut the chips of a design.

    Killed, the same command goes on. Given again after it has finished, it tries once more what
    could not be read, and cuts chips again that were deleted.

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
    with claim(out):
        table = _cut(design, settings, out, workers)
        _report(table, out)
        write_report(table, settings, out)
    return table


def _cut(design: Path, settings: ChipCutting, out: Path, workers: int) -> pa.Table:
    places = _read_places(design, list(settings.mosaics))
    facts = {
        "design": digest_of(design),
        "settings": settings.model_dump(mode="json", exclude={"mosaics"}),
        # A list: rows are in the order of the seasons.
        "mosaics": [[name, identity_of(paths)] for name, paths in settings.mosaics.items()],
    }
    key = key_of(facts)
    parts = out.with_suffix(".parts") / key
    mosaics = tuple(
        open_mosaic(season, paths, parts / "links", settings.bands)
        for season, paths in settings.mosaics.items()
    )
    count = -(-len(places) // PART)
    paths = [parts / f"{number:06d}.parquet" for number in range(count)]
    todo = [number for number, path in enumerate(paths) if not _is_done(path, out.parent)]
    tasks = _parts(places, paths, todo, f"{IMAGES}/{key}")
    job = Job(mosaics, settings, out.parent)
    with bar("cutting", count, "parts", done=count - len(todo)) as progress:
        for _ in spread(cut_part, job, tasks, min(workers, len(todo))):
            progress.advance()
    table = pa.concat_tables([read_part(path) for path in paths])
    write_table(out, table)
    return table


def has_all_chips(table: pa.Table, folder: Path) -> bool:
    """Return whether every chip that a table names is below its folder, complete or not."""
    return all((folder / path).is_file() for path in table["path"].drop_null().to_pylist())


def _parts(places: pa.Table, paths: list[Path], todo: list[int], images: str) -> Iterator[Part]:
    for number in todo:
        rows = places.slice(number * PART, PART).to_pylist()
        yield Part(paths[number], f"{images}/{number:06d}", rows)


def _read_places(design: Path, seasons: list[str]) -> pa.Table:
    try:
        # A path would lead into a folder too.
        with design.open("rb") as file:
            table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{design} cannot be read as a table of places ({str(error).splitlines()[0]}): make "
            "one with cgeartheye jlssd design"
        ) from error
    missing = [name for name in ("place", "lon", "lat") if name not in table.column_names]
    if missing:
        raise UserError(f"{design} has no column {missing[0]}: it needs place, lon and lat")
    types = {name: kind for name, kind in OF_PLACE.items() if name in table.column_names}
    try:
        table = table.select(list(types)).cast(pa.schema(types))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"{design} has a column of another type than jlssd design writes: {error}"
        ) from error
    if not len(table):
        raise UserError(f"{design} holds no place")
    _check_names(design, table["place"], seasons)
    for name, most in (("lon", 360), ("lat", 90)):
        values = pc.fill_null(table[name], np.nan).to_numpy()
        wrong = np.flatnonzero(~(abs(values) <= most))
        if len(wrong):
            raise UserError(
                f"{design}, row {wrong[0] + 1}: {name} is {table[name][wrong[0]]}, no degrees from "
                f"-{most} to {most}"
            )
    return table


def _check_names(design: Path, places: pa.ChunkedArray, seasons: list[str]) -> None:
    """Refuse places whose chips cannot be called after them and their season."""
    bad = pc.index(pc.fill_null(pc.match_substring_regex(places, r"[/\x00]"), True), True).as_py()
    if bad >= 0:
        raise UserError(
            f"{design}, row {bad + 1}: {places[bad]} is no name of a place: use a name without /"
        )
    if pc.count_distinct(places).as_py() < len(places):
        raise UserError(f"{design} names a place twice: each needs a name of its own")
    # "a" in "b_c" and "a_b" in "c" are both "a_b_c".
    if any(one.endswith(f"_{other}") for one in seasons for other in seasons):
        joined = [pc.binary_join_element_wise(places, season, "_") for season in seasons]
        names = pa.chunked_array([chunk for column in joined for chunk in column.chunks])
        if pc.count_distinct(names).as_py() < len(names):
            raise UserError(
                f"{design} has two places whose chips would have one name, PLACE_SEASON: rename "
                f"the seasons ({', '.join(seasons)})"
            )


def _is_done(path: Path, folder: Path) -> bool:
    """Return whether a part and its chips are there, and nothing in it is worth another try."""
    if not path.exists():
        return False
    part = read_part(path, ["path", "status"])
    return UNREADABLE not in part["status"].to_pylist() and has_all_chips(part, folder)


def _report(table: pa.Table, out: Path) -> None:
    """Print the number of chips, and by season why others are missing."""
    for season in dict.fromkeys(table["season"].to_pylist()):
        part = table.filter(pc.equal(table["season"], season))
        counts = dict(zip(*np.unique(part["status"].to_pylist(), return_counts=True), strict=True))
        named = ", ".join(f"{n:,} {name}" for name, n in counts.items() if name != OK)
        log_info(f"{season}: {counts.get(OK, 0):,} chips" + (f"; {named}" if named else ""))
    unreadable = table.filter(pc.equal(table["status"], UNREADABLE))
    for reason in dict.fromkeys(unreadable["reason"].to_pylist()[:NAMED]):
        warn(f"{reason}")
    if len(unreadable):
        warn(f"{len(unreadable):,} chips could not be read: run the same command again to retry")
    kept = int(pc.sum(pc.equal(table["status"], OK)).as_py() or 0)
    others = [p for p in (out.parent / IMAGES).glob("*") if kept and p.name not in _keys(table)]
    for folder in sorted(others):
        warn(f"{folder} holds the chips of another cut, which this table does not name")
    log_info(f"{out}: {kept:,} chips of {len(set(table['place'].to_pylist())):,} places")


def _keys(table: pa.Table) -> set[str]:
    return {path.split("/")[1] for path in table["path"].drop_null().to_pylist()}
