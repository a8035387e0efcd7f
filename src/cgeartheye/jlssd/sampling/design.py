"""`jlssd design`: which places of the world are to be seen, so that all its strata are."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from cgeartheye.geo.vrt import file_signature
from cgeartheye.jlssd.resumable import claim, key_of, write_table
from cgeartheye.jlssd.sampling.cells import NO_CLASS, Counts, Survey, read_block, survey_cells
from cgeartheye.jlssd.sampling.design_warnings import notes_of
from cgeartheye.jlssd.sampling.equal_area_grid import Grid
from cgeartheye.jlssd.sampling.land_cover_classes import WORLDCOVER, read_classes
from cgeartheye.jlssd.sampling.rasters import Raster, find_source, open_raster
from cgeartheye.jlssd.sampling.regions import read_regions
from cgeartheye.jlssd.sampling.report import write_report
from cgeartheye.jlssd.sampling.result import Design, SamplingPlan, strata_table
from cgeartheye.jlssd.sampling.strata import LOWEST_BAND, Cells, draw, find_strata
from cgeartheye.utils.console import bar, log_info, warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_json

STRATA, REPORT = ".strata.parquet", ".html"
"""Endings of the files beside the table of a design, in place of its suffix."""

CELLS = "cells"
"""The folder beside it for the cells, which designs of the same inputs share."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of a design.

    Attributes:
        regions: a vector file.
        cover: rasters of land cover, one mosaic: files, folders, or one path of GDAL.
        height: rasters of elevation, in the same forms.
        column: whose values name the regions.
        classes: a table of classes; none: WorldCover's.
    """

    regions: Path
    cover: tuple[str, ...]
    height: tuple[str, ...]
    column: str | None = None
    classes: Path | None = None


def make_design(
    inputs: Inputs, plan: SamplingPlan, out: Path, side: int = 1000, workers: int = 2
) -> None:
    """Draw places and write them as a table, with all strata and a report beside it.

    Strata and report are called after the table, `design.strata.parquet` and `design.html` beside
    `design.parquet`. Killed, the same command goes on. All cells stay below the folder `cells`
    beside the table, in a folder for their inputs, so that another total, height of bands or seed
    needs no second look at the rasters.

    Args:
        inputs: regions and rasters.
        plan: what is drawn.
        out: the table, a Parquet file.
        side: of the cells, metres.
        workers: processes.

    Raises:
        UserError: an input that cannot be used or read, no cell with land cover, or another process
            that makes the same table.
    """
    if plan.num_places < 1 or not LOWEST_BAND <= plan.elevation_step < math.inf:
        raise UserError(
            f"--num-places must be 1 or more, and --elevation-step {LOWEST_BAND:g} metres or more"
        )
    with claim(out):
        design = _make(inputs, plan, out.parent, side, workers)
        notes = notes_of(design)
        for note in notes:
            warn(f"{note}")
        _write_tables(design, out)
        report = out.with_suffix(REPORT)
        write_report(design, notes, report)
    log_info(
        f"{out}: {len(design.drawn.cell):,} places of {len(design.strata.keys):,} strata, from "
        f"{design.tally.cells.total():,} cells; see {report}"
    )


def _make(inputs: Inputs, plan: SamplingPlan, where: Path, side: int, workers: int) -> Design:
    """Find all cells, below a folder `where`, and draw from them."""
    grid = Grid(side)
    table = read_classes(inputs.classes or WORLDCOVER)
    regions = read_regions(inputs.regions, inputs.column)
    cover = _open_cover(inputs)
    survey = Survey(grid, regions, cover, table, open_raster(find_source(inputs.height)))
    settings = _settings(inputs, survey)
    folder = where / CELLS / key_of(settings)
    write_json(folder / "settings.json", settings)
    paths = survey_cells(survey, folder, workers)
    tally = Counts()
    for path in paths:
        tally.add(read_block(path)[1])
    if not tally.cells:
        raise UserError(
            f"no cell of {inputs.regions} has land cover in {cover.source.name}: check that they "
            "cover the same area, and that the table of classes has its values"
        )
    read = partial(_read, paths)
    shares = np.array([tally.shares[index] for index in range(len(table.names))], np.int64)
    strata = find_strata(read, shares, plan.elevation_step, plan.num_places)
    drawn = draw(read, strata, len(table.names), plan.elevation_step, plan.seed)
    design = Design(survey, plan, tally, strata, drawn, tuple(paths))
    assert (design.per_stratum == strata.quota).all()
    return design


def _open_cover(inputs: Inputs) -> Raster:
    cover = open_raster(find_source(inputs.cover))
    if cover.dtype not in {"uint8", "uint16"}:
        raise UserError(
            f"{cover.source.name} holds {cover.dtype} and not classes of 8 or 16 bits: convert it "
            "with gdal_translate -ot Byte"
        )
    return cover


def _settings(inputs: Inputs, survey: Survey) -> dict[str, object]:
    """All that the cells depend on."""
    return {
        "cells": survey.grid.side,
        "regions": [list(one) for one in file_signature([inputs.regions])],
        "region column": inputs.column,
        "land cover": survey.cover.source.identity,
        "elevation": survey.height.source.identity,
        "classes": [list(survey.table.names), sorted(survey.table.class_of.items())],
    }


def _read(paths: list[Path]) -> Iterable[Cells]:
    """All cells with land cover."""
    with bar("strata", len(paths), "blocks") as progress:
        for path in paths:
            table, _ = read_block(path)
            columns = [table[name].to_numpy() for name in table.column_names]
            known = columns[2] != NO_CLASS
            yield Cells(*(column[known] for column in columns))
            progress.advance()


def _write_tables(design: Design, out: Path) -> None:
    strata, drawn, grid = strata_table(design), design.drawn, design.survey.grid
    lon, lat = grid.center(drawn.cell)
    bounds = grid.bounds(drawn.cell)
    own = strata.take(pa.array(drawn.stratum))
    places = pa.table(
        {
            "place": grid.names(drawn.cell),
            "cell": drawn.cell,
            "lon": lon,
            "lat": lat,
            **bounds._asdict(),
            "region": own["region"],
            "land_cover": own["land_cover"],
            "elevation": pa.array(drawn.elevation, pa.float64(), mask=np.isnan(drawn.elevation)),
            "band": own["band"],
            "stratum": own["stratum"],
            "stratum_cells": own["cells"],
            "class_share": own["class_share"],
            "class_cells": own["class_cells"],
            "quota": own["quota"],
        }
    )
    plan = {
        "cells": str(grid.side),
        "total": str(design.plan.num_places),
        "band_height": f"{design.plan.elevation_step:g}",
        "seed": str(design.plan.seed),
    }
    for path, table in ((out.with_suffix(STRATA), strata), (out, places)):
        write_table(path, table.replace_schema_metadata(plan))
