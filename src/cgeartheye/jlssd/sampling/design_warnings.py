"""Warnings about a design, as sentences: nothing is left out without one."""

from collections import Counter

import numpy as np

from cgeartheye.jlssd.sampling.regions import Regions
from cgeartheye.jlssd.sampling.result import Design
from cgeartheye.jlssd.sampling.zonal_stats import HIGHEST, LOWEST

_NAMED = 10  # of many, the first
_ROUNDED = 0.01  # of the wanted places, by which rounding alone may change them


def notes_of(design: Design) -> list[str]:
    """Return a sentence for everything that is missing or odd, with its number."""
    regions, tally = design.survey.regions, design.tally
    seen = tally.cells + tally.no_cover
    uncovered = [i for i in range(len(regions.names)) if tally.no_cover[i] and not tally.cells[i]]
    too_small = [i for i in range(len(regions.names)) if not seen[i]]
    too_small = [i for i in too_small if regions.names[i] not in regions.without]
    partly = Counter({i: n for i, n in tally.no_cover.items() if i not in uncovered})
    notes = _of_number(design)
    if regions.without:
        notes.append(f"{_list(list(regions.without))}: no polygon, so no cells")
    if too_small:
        named = _list([regions.names[i] for i in too_small])
        notes.append(f"{named}: contains no center of a cell, so it has no cells")
    if uncovered:
        named = _list([f"{regions.names[i]} ({tally.no_cover[i]:,} cells)" for i in uncovered])
        notes.append(f"{named}: no land cover at all, so nothing is drawn there")
    if partly:
        named = _counted(partly, regions)
        notes.append(f"{partly.total():,} cells have no land cover and are not drawn: {named}")
    if tally.part_cover:
        notes.append(f"{tally.part_cover:,} cells have land cover in less than half of their area")
    if tally.no_height:
        named = _counted(tally.no_height, regions)
        notes.append(
            f"{tally.no_height.total():,} cells have no elevation and are strata of their own, "
            f"'no elevation': {named}"
        )
    if tally.part_height:
        notes.append(f"{tally.part_height:,} cells have elevation in less than half of their area")
    if tally.unknown:
        named = _list([f"{v} ({n:,} pixels)" for v, n in sorted(tally.unknown.items())])
        notes.append(
            f"values of the land cover that the table of classes does not name, taken as no "
            f"data: {named}"
        )
    if tally.absurd:
        notes.append(
            f"{tally.absurd:,} pixels have an elevation below {LOWEST:,} m or above "
            f"{HIGHEST:,} m, taken as no data: does the raster name its nodata value?"
        )
    if tally.several:
        notes.append(
            f"{tally.several:,} cells are in several regions and belong to the first of them"
        )
    if tally.outside:
        notes.append(f"{tally.outside:,} cells around the regions are in none and are left out")
    return notes


def _of_number(design: Design) -> list[str]:
    """Explain why the number of places drawn differs from the one asked for, if it does."""
    strata, wanted, drawn = design.strata, design.plan.num_places, len(design.drawn.cell)
    if abs(drawn - wanted) <= _ROUNDED * wanted:
        return []
    why = {
        "the floor of one a stratum adds": np.maximum(1 - strata.exact, 0).sum(),
        "strata with fewer cells than their quota lack": np.maximum(
            strata.exact - strata.cells, 0
        ).sum(),
        "classes with the majority in no cell lack": wanted - strata.exact.sum(),
    }
    named = ", ".join(f"{words} {n:,.0f}" for words, n in why.items() if n >= 0.5)
    return [f"{drawn:,} places are drawn, {wanted:,} were wanted: {named or 'rounding'}"]


def _counted(counts: Counter[int], regions: Regions) -> str:
    return _list([f"{regions.names[i]} ({n:,})" for i, n in counts.most_common()])


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
