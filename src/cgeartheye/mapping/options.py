"""Options of a map."""

from dataclasses import dataclass
from pathlib import Path

from cgeartheye.geo.vector_writer import FORMATS
from cgeartheye.utils.errors import UserError


@dataclass(frozen=True)
class Options:
    """Options of the mapping of a scene.

    Attributes:
        gsd: m/px that the model sees; none: what it was trained with, or, if that is
            not known, the scene's pixels as they are.
        overlap: least share of a window that its neighbour covers too, 0..0.9; the default is the
            cheapest without seams (benchmarks/map_overlap.py).
        bands: counted from 1, that are red, green and blue.
        stretch: values of bands of more than 8 bits that become 0 and 255; none: the 1st and 99th
            percentile of the scene.
        aoi: a vector file; outside of its polygons there is no data.
        crs: of a scene that names none, `EPSG:32650`.
        input_gsd: m/px of a scene that is not georeferenced.
        dem: of a scene that RPCs place: a raster of heights, or one height in metres above the
            ellipsoid.
        probabilities: whether those of all classes are written too.
        vector_format: endings of the files of polygons: gpkg, parquet, geojson, fgb.
        min_area: m² of the smallest polygon of a map of pixels; smaller areas go to the largest one
            beside them. None: every area has its polygon.
        smooth: whether the polygons of a map of pixels have their corners cut.
        transparent: name of a class that is clear in the preview and gets no polygons; none: the
            first class, if it is called background.
        batch_size: windows at a time, at most.
        coregister: of two dates: measure how the second is displaced, and move it back.
        date_labels: of two dates: what to call them.
        max_object_size: of a detector: diagonal of the largest object in metres; none: that of its
            training set, or, if that is not known, `overlap` alone.
        score_threshold: of a detector: lowest score of an object, 0..1; none: the detector's own,
            or 0.3.
        tiles: of a map of pixels or cells: metres a side of the GeoTIFFs that it is cut into; none:
            it is one.
    """

    gsd: float | None = None
    overlap: float = 1 / 12
    bands: tuple[int, int, int] = (1, 2, 3)
    stretch: tuple[float, float] | None = None
    aoi: Path | None = None
    crs: str | None = None
    input_gsd: float | None = None
    dem: str | None = None
    probabilities: bool = False
    vector_format: tuple[str, ...] = ()
    min_area: float | None = None
    smooth: bool = False
    transparent: str | None = None
    batch_size: int = 16
    coregister: bool = False
    date_labels: tuple[str, str] | None = None
    max_object_size: float | None = None
    score_threshold: float | None = None
    tiles: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"--overlap {self.overlap} is out of range: give a share of 0 to 0.9")
        for name, size, meant in (
            ("--gsd", self.gsd, "a pixel"),
            ("--input-gsd", self.input_gsd, "a pixel"),
            ("--tiles", self.tiles, "a tile"),
            ("--max-object-size", self.max_object_size, "the largest object"),
        ):
            if size is not None and not 0 < size < float("inf"):
                raise UserError(
                    f"{name} {size} is out of range: give the size of {meant} in metres, above 0"
                )
        if self.min_area is not None and not 0 < self.min_area < float("inf"):
            raise UserError(
                f"--min-area {self.min_area} is out of range: give square metres, above 0"
            )
        if (self.min_area is not None or self.smooth) and not self.vector_format:
            raise UserError(
                "--min-area and --smooth are for polygons: ask for them with --vector-format gpkg"
            )
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise UserError(
                f"--score-threshold {self.score_threshold} is out of range: give 0 to 1"
            )
        for ending in self.vector_format:
            if ending not in FORMATS:
                raise UserError(
                    f"--vector-format {ending} is unknown: give one of {', '.join(FORMATS)}"
                )
        if self.stretch and not self.stretch[0] < self.stretch[1]:
            raise UserError(f"--stretch {self.stretch} does not rise: give the lower value first")
