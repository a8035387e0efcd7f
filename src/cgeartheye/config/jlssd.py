"""The construction of a pre-training set."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from cgeartheye.config.base import Positive, Run, Section, Share
from cgeartheye.config.model import Network

Paths = Annotated[tuple[str, ...], Field(min_length=1)]


class PlaceDesign(Section):
    """Which cells of the globe are sampled (see `jlssd/sampling/design.py`)."""

    regions: Path = Field(description="a vector file of polygons")
    region_column: str | None = Field(
        None, description="names the regions; none: name, else the rows' numbers"
    )
    landcover: Paths = Field(
        description="classes such as WorldCover's, one mosaic: any paths of GDAL"
    )
    elevation: Paths = Field(description="in metres, one mosaic: any paths of GDAL")
    cell_size: Positive = Field(
        1000, description="metres a side of a cell, on an equal-area projection"
    )
    num_places: Positive = Field(description="places that are wanted in all")
    elevation_step: float = Field(200.0, gt=0, description="metres of elevation a band")
    classes: Path | None = Field(
        None, description="table from values of the land cover to classes; none: WorldCover's"
    )


class ChipCutting(Section):
    """Settings of cutting chips at the places (see `jlssd/chips/cut.py`)."""

    mosaics: dict[str, Paths] = Field(
        min_length=1, description="of each season: COG, VRT or folders; any path that GDAL opens"
    )
    bands: tuple[Positive, Positive, Positive] = Field(
        (1, 2, 3), description="that are red, green and blue; of a single band all three are it"
    )
    size: Positive = Field(1024, description="pixels a side of a chip")
    gsd: float = Field(0.75, gt=0, description="GSD in m/px")
    max_nodata: Share = Field(0.05, description="share of a chip without data, at most")
    max_cloud: Share = Field(0.3, description="share of a chip below cloud, at most")

    @field_validator("mosaics")
    @classmethod
    def _seasons_are_parts_of_names(cls, value: dict[str, Paths]) -> dict[str, Paths]:
        for season in value:
            if not season.strip() or {"/", "\0"} & set(season):
                raise ValueError(
                    f"{season!r} is no season's name: it becomes part of chip names, so / is not "
                    "allowed"
                )
        return value


class ChipQuality(Section):
    """Limits of what `jlssd/quality/measures.py` measures; a chip beyond one is dropped.

    Of 51 classes of real scenes (0.3 to 8 m) with 40 images each none is below `min_sharpness`, and
    none above `max_haze`; `max_cloud` takes bright beaches and roofs of some.
    """

    max_nodata: Share = Field(0.05, description="share of pixels without data")
    max_saturated: Share = Field(0.3, description="snow and sand come near it, other ground not")
    min_sharpness: Share = Field(
        0.35, description="half of real scenes fall below when blurred by 2 to 3 pixels"
    )
    min_contrast: Share = Field(0.008, description="2 of 255 levels: still water has 3 or more")
    min_entropy: float = Field(2.0, ge=0, le=8, description="bits; 4 levels of equal share")
    max_cloud: Share = Field(0.3, description="share of valid pixels below cloud")
    max_haze: Share = Field(
        0.65, description="what haze through which 30 % of the light comes makes; deserts have 0.62"
    )


class Curation(Section):
    """Settings of thinning redundant places (see `jlssd/curation/curate.py`)."""

    backbone: Network = Field(description="frozen; its class tokens measure how alike places are")
    num_places: Positive = Field(description="places")
    image_size: Positive = Field(224, description="pixels a side at which it sees a chip")
    batch_size: Positive = Field(64, description="chips a forward pass")
    clusters: tuple[Positive, ...] = Field(
        (1000, 50),
        min_length=2,
        max_length=3,
        description="of each level, the finest first; fewer where places are few",
    )
    iterations: Positive = Field(20, description="of k-means")
    resamplings: int = Field(
        3, ge=0, description="of coarse levels, which spread their centroids over what is rare"
    )
    dedup_threshold: float = Field(
        0.97,
        gt=0,
        le=1,
        description="cosine similarity within a cluster, above which one of two places goes",
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")

    @model_validator(mode="after")
    def _levels_are_nested(self) -> "Curation":
        if any(fine <= coarse for fine, coarse in pairwise(self.clusters)):
            raise ValueError("clusters must fall from level to level, as in [1000, 50]")
        if self.image_size % 14:
            raise ValueError(f"image_size must be a multiple of 14, not {self.image_size}")
        return self


class Jlssd(Run):
    """From maps and mosaics to the store of a pre-training: `cgeartheye jlssd build`."""

    task: Literal["jlssd"] = "jlssd"
    license: str = Field(min_length=1, description="of the images, as written on the data card")
    design: PlaceDesign
    cut: ChipCutting
    quality: ChipQuality = ChipQuality()
    curation: Curation
    seed: int = 0
    workers: int = Field(2, ge=0, description="processes that read")
