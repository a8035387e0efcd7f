"""A finished design: what was found and drawn, and the table of its strata."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from cgeartheye.jlssd.sampling.cells import Counts, Survey
from cgeartheye.jlssd.sampling.strata import NO_BAND, Draw, Strata


@dataclass(frozen=True)
class SamplingPlan:
    """Plan of the draw of places from the cells.

    Attributes:
        num_places: cells in all, M of the formula.
        elevation_step: metres.
        seed: decides which cells of a stratum are drawn.
    """

    num_places: int
    elevation_step: float = 200.0
    seed: int = 0


@dataclass(frozen=True)
class Design:
    """Result of a design, with names for its indices.

    Attributes:
        survey: what its cells are made of.
        plan: what was asked for.
        tally: what was counted beside the cells.
        strata: with their quotas.
        drawn: cells.
        cells: the files of all cells.
    """

    survey: Survey
    plan: SamplingPlan
    tally: Counts
    strata: Strata
    drawn: Draw
    cells: tuple[Path, ...]

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions."""
        return self.survey.regions.names

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.survey.table.names

    @property
    def per_stratum(self) -> np.ndarray:
        """Number of cells drawn of each stratum."""
        return np.bincount(self.drawn.stratum, minlength=len(self.strata.keys))


def band_names(bands: np.ndarray, height: float) -> list[str]:
    """Name elevation bands by their limits in metres."""
    return [
        "no elevation" if band == NO_BAND else f"{band * height:g} to {(band + 1) * height:g} m"
        for band in bands.tolist()
    ]


def strata_table(design: Design) -> pa.Table:
    """Return all strata: names, k_i, A_p, N_p, what the formula gives, quota and draw."""
    strata = design.strata
    regions = [design.regions[i] for i in strata.region.tolist()]
    classes = [design.classes[i] for i in strata.cover.tolist()]
    bands = band_names(strata.band, design.plan.elevation_step)
    low = strata.band * design.plan.elevation_step
    return pa.table(
        {
            "stratum": ["/".join(name) for name in zip(regions, classes, bands, strict=True)],
            "region": regions,
            "land_cover": classes,
            "band": bands,
            "band_low": pa.array(low, pa.float64(), mask=strata.band == NO_BAND),
            "cells": strata.cells,
            "class_share": strata.class_share,
            "class_cells": strata.class_cells,
            "formula": strata.exact,
            "quota": strata.quota,
            "drawn": design.per_stratum,
        }
    )
