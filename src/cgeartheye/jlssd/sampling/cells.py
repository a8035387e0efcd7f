"""All cells of the regions with their land cover and elevation, a Parquet file a block.

Blocks are worked on by several processes; a finished one is a file, so that a killed run goes on
with what is left. Nothing else is held, however large the area.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cgeartheye.jlssd.resumable import read_part, write_table
from cgeartheye.jlssd.sampling.equal_area_grid import Block, Bounds, Grid
from cgeartheye.jlssd.sampling.land_cover_classes import ClassTable
from cgeartheye.jlssd.sampling.rasters import Raster
from cgeartheye.jlssd.sampling.regions import NOWHERE, Regions
from cgeartheye.jlssd.sampling.zonal_stats import count_cover, mean_height
from cgeartheye.jlssd.workers import spread
from cgeartheye.utils.console import bar
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import json_text
from cgeartheye.utils.state import json_object

NO_CLASS = -1
"""In place of a class's index, where there is no land cover."""

WHOLE = 65_536
"""The sum of the classes' shares in a cell: sums of integers do not depend on the order."""

_ROWS, _COLUMNS = 64, 256  # of cells in a block


@dataclass
class Counts:
    """Counts that are kept beside the cells.

    Attributes:
        outside: cells around the regions whose middle is in none.
        several: cells whose middle is in several regions.
        no_cover: cells without land cover, by index of the region.
        part_cover: cells that have land cover in less than half of their pixels.
        no_height: cells with land cover and no elevation, by index of the region.
        part_height: cells that have elevation in less than half of their pixels.
        unknown: pixels by value that the table of classes does not name.
        absurd: pixels with an elevation that is none.
        cells: with land cover, by index of the region.
        shares: of the classes, summed over the cells with land cover, in parts of `WHOLE`.
    """

    outside: int = 0
    several: int = 0
    no_cover: Counter[int] = field(default_factory=Counter)
    part_cover: int = 0
    no_height: Counter[int] = field(default_factory=Counter)
    part_height: int = 0
    unknown: Counter[int] = field(default_factory=Counter)
    absurd: int = 0
    cells: Counter[int] = field(default_factory=Counter)
    shares: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Add what another counted."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def as_json(self) -> str:
        """Write it as JSON."""
        return json_text(dict(sorted(vars(self).items())))

    @classmethod
    def from_json(cls, text: str) -> "Counts":
        """Read it again."""
        values = json_object(text)
        return cls(**{name: _read_counts(value) for name, value in values.items()})


def _read_counts(value: Any) -> Any:
    """Keys of JSON are text."""
    if isinstance(value, dict):
        return Counter({int(key): count for key, count in value.items()})
    return value


@dataclass(frozen=True)
class Survey:
    """Inputs of the cells.

    Attributes:
        grid: of the cells.
        regions: that cells belong to.
        cover: land cover.
        table: of its classes.
        height: elevation.
    """

    grid: Grid
    regions: Regions
    cover: Raster
    table: ClassTable
    height: Raster


def survey_cells(survey: Survey, folder: Path, workers: int) -> list[Path]:
    """Make the cells of all blocks that regions touch; those that are there stay.

    Args:
        survey: what cells are made of.
        folder: for the blocks' files.
        workers: processes.

    Returns:
        The blocks' files, from north to south.

    Raises:
        UserError: a raster cannot be read, or the disk is full; what is finished is kept.
    """
    blocks = blocks_of(survey.grid, survey.regions)
    paths = [folder / _name(block) for block in blocks]
    there = {path.name for path in folder.glob("*.parquet")} if folder.exists() else set()
    todo = [i for i, path in enumerate(paths) if path.name not in there]
    done = len(paths) - len(todo)
    with bar("cells", len(paths), "blocks", done=done) as progress:
        tasks = [(blocks[i], paths[i]) for i in todo]
        for _ in spread(write_block, survey, tasks, workers):
            progress.advance()
    return paths


def blocks_of(grid: Grid, regions: Regions) -> list[Block]:
    """Return the blocks that regions may touch, from north to south."""
    firsts = np.arange(0, grid.rows, _ROWS)
    ends = np.minimum(firsts + _ROWS, grid.rows)
    turn = np.full(len(firsts), 180.0)
    bands = regions.touch(Bounds(-turn, grid.latitudes[ends], turn, grid.latitudes[firsts]))
    found = []
    for first in firsts[bands].tolist():
        blocks = grid.blocks(_ROWS, _COLUMNS, first)
        around = np.array([grid.around(block) for block in blocks])
        touched = regions.touch(Bounds(*around.T))
        found += [block for block, touch in zip(blocks, touched, strict=True) if touch]
    return found


def read_block(path: Path) -> tuple[pa.Table, Counts]:
    """Read the cells of a block, ascending, and what was counted beside them.

    The columns are cell (its number in the grid), region and cover (indices; -1: no land cover)
    and elevation (metres; NaN: none).

    Raises:
        UserError: it is damaged.
    """
    table = read_part(path)
    try:
        return table, Counts.from_json(table.schema.metadata[b"tally"].decode())
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it and give the same command again"
        ) from error


def make_block(survey: Survey, block: Block) -> tuple[pa.Table, Counts]:
    """Make the cells of one block.

    Raises:
        UserError: a raster cannot be read.
    """
    cells = survey.grid.cells(block)
    lon, lat = survey.grid.center(cells)
    region, several = survey.regions.holding(lon, lat)
    inside = region != NOWHERE
    tally = Counts(outside=int((~inside).sum()), several=several)
    cells, region = cells[inside], region[inside]
    cover = np.full(len(cells), NO_CLASS, np.int8)
    elevation = np.full(len(cells), np.nan)
    if len(cells):
        edges = survey.grid.bounds(cells)
        around = Bounds(edges.west.min(), edges.south.min(), edges.east.max(), edges.north.max())
        counted = count_cover(survey.cover, survey.table, survey.grid, block, around)
        pixels, missing = counted.pixels[inside], counted.missing[inside]
        valid = pixels.sum(1)
        known = valid > 0
        cover[known] = pixels[known].argmax(1)
        # Floor, so that a cell is never more than whole.
        shares = pixels[known] * WHOLE // valid[known, None]
        tally.shares = Counter(dict(enumerate(shares.sum(0).tolist())))
        tally.no_cover = _by_region(region[~known])
        tally.cells = _by_region(region[known])
        tally.part_cover = int((known & (missing > valid)).sum())
        tally.unknown = counted.unknown
        if known.any():
            heights = mean_height(survey.height, survey.grid, block, around)
            elevation = np.where(known, heights.mean[inside], np.nan)
            lacking = known & np.isnan(elevation)
            tally.no_height = _by_region(region[lacking])
            half = heights.missing[inside] > heights.there[inside]
            tally.part_height = int((known & ~lacking & half).sum())
            tally.absurd = heights.absurd
    table = pa.table({"cell": cells, "region": region, "cover": cover, "elevation": elevation})
    return table, tally


def write_block(survey: Survey, task: tuple[Block, Path]) -> None:
    """Make the cells of one block and write them to its file.

    Raises:
        UserError: a raster cannot be read, or the disk is full.
    """
    block, path = task
    table, tally = make_block(survey, block)
    write_table(path, table.replace_schema_metadata({"tally": tally.as_json()}))


def _by_region(region: np.ndarray) -> Counter[int]:
    names, counts = np.unique(region, return_counts=True)
    return Counter(dict(zip(names.tolist(), counts.tolist(), strict=True)))


def _name(block: Block) -> str:
    return f"{block.first:06}-{block.sector:05}.parquet"
