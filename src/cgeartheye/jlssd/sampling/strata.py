"""Strata = region x land-cover class x elevation band, and how many cells of each are drawn.

The published formula, with M the wanted number of cells in all, A_p the share of class p, N_p the
number of cells of class p in the world and k_i the number of cells of stratum i:

    max(1, M * A_p * k_i / N_p)

Here the world is all cells of the design, N_p counts the cells in which p has the majority, and A_p
is the share of their area that p covers, pixel by pixel. The two differ: a class scattered in
small pieces has the majority in fewer cells than its area would fill, and is drawn the denser. The
result is rounded to the nearest whole number, a half upwards, and is never more than k_i.

Which cells are drawn depends on a value that each cell gets from the seed and its own number
alone (SplitMix64, Steele et al. 2014): in every stratum those with the lowest. So the draw depends
neither on the order in which cells are found nor on the number of processes, and a larger draw
with the same seed holds the smaller one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cgeartheye.jlssd.sampling.cells import NO_CLASS
from cgeartheye.jlssd.sampling.equal_area_grid import Floats, Ints

Hashes = npt.NDArray[np.uint64]

NO_BAND = 2**20 - 1
"""In place of a band's number, where there is no elevation."""

LOWEST_BAND = 0.1
"""Metres that a band is high at least: `NO_BAND` is then none of the Earth's."""

_SHIFT, _BANDS = 2**19, 2**20
_MARGIN = 8.0  # standard deviations of the number of cells whose hash is below a limit


@dataclass(frozen=True)
class Strata:
    """All strata that have cells, in the order of region, class and band.

    Attributes:
        keys: a number for each.
        region: index.
        cover: index of the class.
        band: number of the elevation band, `NO_BAND` without elevation.
        cells: k_i.
        class_share: A_p of the stratum's class.
        class_cells: N_p of the stratum's class.
        exact: what the formula gives, before it is rounded.
        quota: how many cells are drawn.
    """

    keys: Ints
    region: Ints
    cover: Ints
    band: Ints
    cells: Ints
    class_share: Floats
    class_cells: Ints
    exact: Floats
    quota: Ints


@dataclass(frozen=True)
class Draw:
    """Drawn cells, ascending.

    Attributes:
        cell: numbers in the grid.
        stratum: index in `Strata`.
        elevation: metres, NaN where there is none.
    """

    cell: Ints
    stratum: Ints
    elevation: Floats


@dataclass(frozen=True)
class Cells:
    """Some cells with land cover.

    Attributes:
        cell: numbers in the grid.
        region: indices.
        cover: indices of the classes.
        elevation: metres, NaN where there is none.
    """

    cell: Ints
    region: Ints
    cover: Ints
    elevation: Floats

    def __post_init__(self) -> None:
        assert not (self.cover == NO_CLASS).any()


Read = Callable[[], Iterable[Cells]]
"""Reads all cells of a design, some at a time; more than once."""


def bands_of(elevation: Floats, height: float) -> Ints:
    """Return the band of each elevation: band n reaches from n to n + 1 times its height."""
    known = np.isfinite(elevation)
    bands = np.floor(np.where(known, elevation, 0) / height).astype(np.int64)
    return np.where(known, bands, NO_BAND)


def find_strata(read: Read, shares: Ints, elevation_step: float, total: int) -> Strata:
    """Count the cells of every stratum and apply the formula.

    Args:
        read: the cells.
        shares: of each class in all cells, summed, in parts of `WHOLE` (see `Tally.shares`).
        elevation_step: metres.
        total: M.
    """
    counts: dict[int, int] = {}
    for cells in read():
        keys, number = np.unique(_keys(cells, len(shares), elevation_step), return_counts=True)
        for key, count in zip(keys.tolist(), number.tolist(), strict=True):
            counts[key] = counts.get(key, 0) + count
    keys = np.array(sorted(counts), np.int64)
    k = np.array([counts[key] for key in keys.tolist()], np.int64)
    cover = keys // _BANDS % len(shares)
    class_cells = np.bincount(cover, k, minlength=len(shares)).astype(np.int64)
    share = shares / max(1, int(shares.sum()))
    exact = total * share[cover] * k / class_cells[cover]
    quota = np.minimum(np.floor(np.maximum(1.0, exact) + 0.5).astype(np.int64), k)
    band = keys % _BANDS - _SHIFT
    return Strata(
        keys=keys,
        region=keys // _BANDS // len(shares),
        cover=cover,
        band=np.where(band == _SHIFT - 1, NO_BAND, band),
        cells=k,
        class_share=share[cover],
        class_cells=class_cells[cover],
        exact=exact,
        quota=quota,
    )


def draw(read: Read, strata: Strata, classes: int, elevation_step: float, seed: int) -> Draw:
    """Draw the quota of every stratum.

    Args:
        read: the same cells.
        strata: of them.
        classes: their number.
        elevation_step: metres, the same.
        seed: decides which cells are drawn.
    """
    # In a pass over the cells, those are kept whose hash is so low that they are almost surely
    # enough; a stratum that is short of them gets another pass without a limit.
    margin = strata.quota + _MARGIN * np.sqrt(strata.quota) + _MARGIN**2
    limits = np.minimum(margin / np.maximum(strata.cells, 1), 1.0) * float(2**64)
    found = _pass(read, strata, classes, elevation_step, seed, limits)
    short = np.bincount(found.stratum, minlength=len(strata.keys)) < strata.quota
    if short.any():
        limits = np.where(short, np.inf, limits)
        found = _pass(read, strata, classes, elevation_step, seed, limits)
    order = np.lexsort((hashes(found.cell, seed), found.stratum))
    stratum = found.stratum[order]
    rank = np.arange(len(order)) - np.searchsorted(stratum, stratum)
    drawn = order[rank < strata.quota[stratum]]
    drawn = drawn[np.argsort(found.cell[drawn])]
    return Draw(found.cell[drawn], found.stratum[drawn], found.elevation[drawn])


def hashes(cell: Ints, seed: int) -> Hashes:
    """Return a number for each cell; never the same for two (SplitMix64)."""
    start = _mixed(np.array([seed % 2**64], np.uint64))
    return _mixed(cell.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start)


def _pass(
    read: Read, strata: Strata, classes: int, elevation_step: float, seed: int, limits: Floats
) -> Draw:
    kept: list[Draw] = []
    for cells in read():
        stratum = np.searchsorted(strata.keys, _keys(cells, classes, elevation_step))
        low = hashes(cells.cell, seed).astype(np.float64) <= limits[stratum]
        kept.append(Draw(cells.cell[low], stratum[low], cells.elevation[low]))
    return Draw(*(np.concatenate(column) for column in zip(*map(_columns, kept), strict=True)))


def _columns(draw: Draw) -> tuple[Ints, Ints, Floats]:
    return draw.cell, draw.stratum, draw.elevation


def _keys(cells: Cells, classes: int, elevation_step: float) -> Ints:
    band = bands_of(cells.elevation, elevation_step)
    band = np.where(band == NO_BAND, _SHIFT - 1, band)
    assert abs(band).max(initial=0) < _SHIFT
    return (cells.region * np.int64(classes) + cells.cover) * _BANDS + band + _SHIFT


def _mixed(x: Hashes) -> Hashes:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
