"""The report of a design: quota and draw of every stratum as table, elevations and maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cgeartheye.geo.crs import METERS_PER_DEGREE
from cgeartheye.jlssd.sampling.cells import NO_CLASS, read_block
from cgeartheye.jlssd.sampling.equal_area_grid import Floats, Ints
from cgeartheye.jlssd.sampling.overview_map import Bytes, Canvas, fit
from cgeartheye.jlssd.sampling.result import Design, strata_table
from cgeartheye.jlssd.sampling.strata import NO_BAND
from cgeartheye.reports import charts
from cgeartheye.reports.html import Cell, Picture, Report
from cgeartheye.utils.colors import distinct_colors

ROWS = 2000  # strata in the page's table; the file beside it has all

_COLORS = {
    "forest": (26, 110, 56),
    "grass": (164, 204, 96),
    "crop": (232, 196, 92),
    "water": (58, 122, 200),
    "wetland": (42, 168, 168),
    "built-up": (204, 60, 60),
    "other": (176, 166, 154),
}
_NO_COVER = (120, 124, 128)


def write_report(design: Design, notes: Sequence[str], path: Path) -> None:
    """Write the report of a design as one page.

    Args:
        design: what was found and drawn.
        notes: sentences on what is missing.
        path: of the page.
    """
    plan, strata = design.plan, design.strata
    report = Report("Design", f"{len(design.drawn.cell):,} places of {len(strata.keys):,} strata")
    floor = int((strata.exact < 1).sum())
    report.figures(
        {
            "places drawn": f"{len(design.drawn.cell):,}",
            "wanted in all, M": f"{plan.num_places:,}",
            "strata": f"{len(strata.keys):,}",
            "of them by the floor of one": f"{floor:,}",
            "cells with land cover": f"{design.tally.cells.total():,}",
            "cells without": f"{design.tally.no_cover.total():,}",
        }
    )
    _add_maps(report, design)
    _add_classes(report, design)
    _add_bands(report, design)
    _add_strata(report, design, path)
    _add_regions(report, design)
    report.section("What is missing", "" if notes else "Nothing: every cell has all it needs.")
    if notes:
        report.table(["note"], [[note] for note in notes])
    report.section("Settings")
    survey = design.survey
    report.facts(
        {
            "cells": f"{survey.grid.side:,} m a side, {survey.grid.area:,.0f} m2",
            "elevation bands": f"{plan.elevation_step:g} m",
            "seed": str(plan.seed),
            "land cover": survey.cover.source.name,
            "elevation": survey.height.source.name,
        }
    )
    report.write(path)


def colors_of(classes: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Return a color for each class: those of the published seven, others in turn."""
    spare = [name for name in classes if name not in _COLORS]
    more = dict(zip(spare, distinct_colors(len(spare)), strict=True))
    return {name: _COLORS.get(name) or more[name] for name in classes}


def _add_maps(report: Report, design: Design) -> None:
    report.section("Maps", "A pixel has the color of the class that most cells in it have.")
    canvas = _canvas(design)
    colors = colors_of(design.classes) | {"no land cover": _NO_COVER}
    palette = np.array(list(colors.values()), np.uint8)
    shape = canvas.height * canvas.width, len(palette)
    everywhere = np.zeros(shape, np.int64)
    for path in design.cells:
        table, _ = read_block(path)
        cell, cover = table["cell"].to_numpy(), table["cover"].to_numpy()
        kind = np.where(cover == NO_CLASS, len(design.classes), cover)
        np.add.at(everywhere, (canvas.index(*design.survey.grid.center(cell)), kind), 1)
    drawn = np.zeros(shape, np.int64)
    pixel = canvas.index(*design.survey.grid.center(design.drawn.cell))
    np.add.at(drawn, (pixel, design.strata.cover[design.drawn.stratum]), 1)
    ground = canvas.paint(everywhere, palette)
    dots = _dots(canvas, drawn, palette, ground)
    report.legend(colors)
    share = f"{100 * len(design.drawn.cell) / design.tally.cells.total():.2f} % of all cells"
    report.pictures(
        [
            Picture(canvas.enlarged(ground), "All cells of the regions"),
            Picture(canvas.enlarged(dots), "Drawn places", share),
        ],
        width=520,
    )


def _canvas(design: Design) -> Canvas:
    """A canvas around all cells: the corners of their blocks are enough."""
    lon: list[Floats] = []
    lat: list[Floats] = []
    for path in design.cells:
        cell = read_block(path)[0]["cell"].to_numpy()
        if len(cell):
            ends = design.survey.grid.center(cell[:: max(1, len(cell) // 500)])
            lon.append(ends[0])
            lat.append(ends[1])
    cell_height = design.survey.grid.side / METERS_PER_DEGREE
    return fit(np.concatenate(lon), np.concatenate(lat), cell_height)


def _dots(canvas: Canvas, drawn: Ints, palette: Bytes, ground: Bytes) -> Bytes:
    """Drawn places as dots over the faded map; a dot is seen however small its cell is."""
    picture = np.round(0.2 * ground.astype(np.float64) + 0.8 * 250).astype(np.uint8)
    reach = max(canvas.height, canvas.width) // 600
    for pixel in np.flatnonzero(drawn.sum(1)):
        row, column = divmod(int(pixel), canvas.width)
        rows = slice(max(0, row - reach), row + reach + 1)
        columns = slice(max(0, column - reach), column + reach + 1)
        picture[rows, columns] = palette[drawn[pixel].argmax()]
    return picture


def _add_classes(report: Report, design: Design) -> None:
    report.section(
        "Classes",
        "A_p is the share of the area that a class covers, pixel by pixel; N_p the cells in which "
        "it has the majority. M x A_p / N_p is how many of its cells in a hundred are drawn, but "
        "for rounding and the floor of one a stratum.",
    )
    shares = _shares(design)
    rows: list[list[Cell]] = []
    for index, name in enumerate(design.classes):
        own = design.strata.cover == index
        cells, quota = int(design.strata.cells[own].sum()), int(design.strata.quota[own].sum())
        exact = design.plan.num_places * shares[index]
        of_cells = 100 * cells / design.tally.cells.total()
        of_draw = 100 * quota / len(design.drawn.cell)
        rate = 100 * quota / cells if cells else float("nan")
        strata = int(own.sum())
        rows.append(
            [name, 100 * shares[index], cells, of_cells, strata, exact, quota, of_draw, rate]
        )
    names = ["class", "A_p %", "N_p", "% of cells", "strata", "M x A_p", "drawn", "% of draw"]
    report.table([*names, "drawn of 100 cells"], rows)
    unseen = [name for i, name in enumerate(design.classes) if not rows[i][2] and shares[i] > 0]
    if unseen:
        part = 100 * sum(shares[design.classes.index(name)] for name in unseen)
        report.heading(
            "Classes without a cell",
            f"{', '.join(unseen)}: {part:.2f} % of the area and the majority in no cell; their "
            "part of M is not drawn.",
        )


def _shares(design: Design) -> list[float]:
    total = design.tally.shares.total()
    return [design.tally.shares[index] / total for index in range(len(design.classes))]


def _add_bands(report: Report, design: Design) -> None:
    report.section("Elevation", "Cells and places by the lower edge of their elevation band.")
    strata, height = design.strata, design.plan.elevation_step
    known = strata.band != NO_BAND
    if not known.any():
        return
    bands = np.arange(strata.band[known].min(), strata.band[known].max() + 1)
    found = colors_of(design.classes)
    colors = {name: "#" + bytes(color).hex() for name, color in found.items()}
    elevations = {}
    for caption, number in (
        ("Cells with land cover", strata.cells),
        ("Places drawn", strata.quota),
    ):
        lines = {}
        for index, name in enumerate(design.classes):
            own = known & (strata.cover == index)
            if own.any():
                of_band = strata.band[own] - bands[0]
                sums = np.bincount(of_band, number[own], minlength=len(bands))
                lines[name] = ((bands * height).tolist(), sums.tolist())
        of_lines = [colors[name] for name in lines]
        elevations[caption] = charts.curves(lines, "metres above the sea", colors=of_lines)
    report.charts(elevations)


def _add_strata(report: Report, design: Design, path: Path) -> None:
    table = strata_table(design)
    note = (
        "Quota = max(1, M x A_p x k / N_p), rounded to the nearest whole number, a half upwards, "
        "and never more than k, the cells of the stratum."
    )
    order = np.argsort(-design.strata.cells, kind="stable")[:ROWS]
    if len(table) > ROWS:
        note += (
            f" Here are the {ROWS:,} largest; {path.stem}.strata.parquet has all {len(table):,}."
        )
    report.section("Strata", note)
    most = max(1, int(design.strata.quota.max()))
    rows: list[list[Cell]] = [
        [
            row["region"],
            row["land_cover"],
            row["band"].replace(" ", "\N{NO-BREAK SPACE}"),
            row["cells"],
            f"{row['class_share']:.6f}",
            row["class_cells"],
            f"{row['formula']:.3f}",
            row["quota"],
            row["drawn"],
            100 * row["drawn"] / most,
        ]
        for row in table.take(order).to_pylist()
    ]
    report.table(
        ["region", "class", "band", "k", "A_p", "N_p", "formula", "quota", "drawn", "% of largest"],
        rows,
        bars=["% of largest"],
    )


def _add_regions(report: Report, design: Design) -> None:
    report.section("Regions")
    strata, tally = design.strata, design.tally
    quota = np.bincount(strata.region, strata.quota, minlength=len(design.regions))
    number = np.bincount(strata.region, minlength=len(design.regions))
    rows: list[list[Cell]] = [
        [
            name,
            tally.cells[i],
            tally.no_cover[i],
            tally.no_height[i],
            int(number[i]),
            int(quota[i]),
            100 * float(quota[i]) / len(design.drawn.cell),
        ]
        for i, name in enumerate(design.regions[:ROWS])
    ]
    names = ["region", "cells", "without land cover", "without elevation", "strata", "drawn"]
    report.table([*names, "% of draw"], rows, bars=["% of draw"])
