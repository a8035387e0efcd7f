"""Maps of whole scenes, and what a finished map holds."""

import html
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import rasterio
from rasterio.enums import Resampling

from cgeartheye.api.isolation import own_random_state
from cgeartheye.api.messages import python_words
from cgeartheye.api.models import Model, load_model
from cgeartheye.api.notebook import Pixels, axes_or_new, gallery, swatch
from cgeartheye.commands.map import map_with
from cgeartheye.geo.vector_writer import FORMATS
from cgeartheye.mapping.job import FACTS, MAP, PREVIEW, PROBABILITIES
from cgeartheye.utils.console import muted
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.state import json_object

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place = str | PathLike[str]
_SIDE = 1000  # pixels of the longer side of a drawn map


class MapResult:
    """A folder with a finished map; what it holds is read from its files.

    Attributes:
        path: the folder.
        info: what `map.json` holds: the scene, the settings, the classes and their areas.
    """

    def __init__(self, path: Place) -> None:
        """Open a finished map.

        Raises:
            UserError: the folder holds none.
        """
        self.path = Path(path)
        try:
            self.info: dict[str, Any] = json_object((self.path / FACTS).read_bytes())
        except OSError as error:
            raise UserError(f"{self.path} holds no finished map: it has no {FACTS}") from error
        except ValueError as error:
            raise UserError(
                f"{self.path / FACTS} is damaged: delete {self.path} and map again"
            ) from error
        for entry in self.info["classes"]:
            if "colour" in entry:  # as maps of 0.1's development have it
                entry["color"] = entry.pop("colour")

    @property
    def kind(self) -> str:
        """Unit of the map: `pixels`, `cells` (of a classifier) or `objects`."""
        kind: str = self.info["kind"]
        return kind

    @property
    def preview(self) -> Path:
        """A page that shows the map over the scene, without a network."""
        return self.path / PREVIEW

    @property
    def vectors(self) -> list[Path]:
        """The files of polygons."""
        paths = [self.path / f"map.{ending}" for ending in FORMATS]
        return [path for path in paths if path.exists()]

    def dataset(self) -> rasterio.DatasetReader:
        """Open the map: the value of a class for each pixel of the scene, 255 without data.

        Returns:
            A dataset of rasterio's; close it, or use it in a `with` statement.

        Raises:
            UserError: the map is one of objects.
        """
        return self._open(MAP, "the map is one of objects: see polygons()")

    def probabilities(self) -> rasterio.DatasetReader:
        """Open the probabilities of the classes, a band each, in percent.

        Raises:
            UserError: they were not written.
        """
        return self._open(PROBABILITIES, "map with probabilities=True")

    def polygons(self) -> geopandas.GeoDataFrame:
        """Return the polygons: class, area and confidence; of objects class, score and sizes.

        Raises:
            UserError: they were not written.
        """
        if not self.vectors:
            raise UserError(f'{self.path} has no polygons: map with vector_format="gpkg"')
        path = self.vectors[0]
        if path.suffix == ".parquet":
            return geopandas.read_parquet(path)
        return geopandas.read_file(path, layer=0)  # a GeoPackage has its style as a second one

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the map with its legend.

        Args:
            ax: matplotlib's axes; none: those of a new figure.
        """
        from matplotlib.patches import Patch

        ax = axes_or_new(ax)
        used = [entry for entry in self.info["classes"] if _amount(entry)]
        if self.kind == "objects":
            frame = self.polygons()
            for entry in used:
                color = _fraction(entry["color"])
                some = frame[frame["class"] == entry["name"]]
                some.plot(ax=ax, facecolor="none", edgecolor=color)
        else:
            pixels, extent = self._picture()
            ax.imshow(pixels, extent=extent)
        patches = [Patch(color=_fraction(e["color"]), label=e["name"]) for e in used]
        ax.legend(handles=patches, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
        ax.set_title(self.path.name)
        return ax

    def __repr__(self) -> str:
        return f"<MapResult {self.path}: {self.kind}, {len(self.info['classes'])} classes>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{swatch(entry['color'])}</td><td>{html.escape(entry['name'])}</td>"
            f"<td>{_amount(entry):,.4g} {'objects' if self.kind == 'objects' else 'km²'}</td></tr>"
            for entry in self.info["classes"]
        )
        picture = ""
        if self.kind != "objects":
            picture = gallery([(self._picture()[0], self.path.name)])
        link = html.escape(self.preview.as_posix())
        return f'{picture}<table>{rows}</table><a href="{link}">{link}</a>'

    def _open(self, name: str, otherwise: str) -> rasterio.DatasetReader:
        path = self.path / name
        for found in (path, path.with_suffix(".vrt")):  # that of a map in tiles
            if found.exists():
                return rasterio.open(found)
        raise UserError(f"{self.path} has no {name}: {otherwise}")

    def _picture(self) -> tuple[Pixels, tuple[float, float, float, float]]:
        """The map in its colors uint8 `[h, w, 4]`, small, and west, east, south and north."""
        with self.dataset() as file:
            scale = max(1.0, max(file.shape) / _SIDE)
            height, width = (max(1, round(side / scale)) for side in file.shape)
            values = file.read(1, out_shape=(height, width), resampling=Resampling.nearest)
            left, bottom, right, top = file.bounds
        colors = np.zeros((256, 4), np.uint8)
        for entry in self.info["classes"]:
            colors[entry["value"]] = (*entry["color"], 255)
        return colors[values], (left, right, bottom, top)


def map_raster(
    model: Model | Place,
    scene: Place | Sequence[Place],
    *,
    out: Place,
    after: Place | Sequence[Place] | None = None,
    vector_format: str | Sequence[str] | None = None,
    min_area: float | None = None,
    smooth: bool = False,
    transparent: str | None = None,
    gsd: float | None = None,
    aoi: Place | None = None,
    overlap: float | None = None,
    probabilities: bool = False,
    bands: tuple[int, int, int] | None = None,
    stretch: tuple[float, float] | None = None,
    crs: str | None = None,
    input_gsd: float | None = None,
    dem: Place | float | None = None,
    date_labels: tuple[str, str] | None = None,
    coregister: bool = False,
    max_object_size: float | None = None,
    score_threshold: float | None = None,
    resume: bool = False,
    progress: bool = True,
) -> MapResult:
    """Map a scene of any size, or what changed between two, with a trained model.

    Writes `map.tif` (a cloud-optimized GeoTIFF on the scene's own grid), `preview.html` and
    `map.json`; a model of objects writes a vector file in place of `map.tif`. Memory does not grow
    with the length of the scene.

    Args:
        model: made by `load_model`, or what that takes.
        scene: a raster that GDAL opens, or several and folders of them as one mosaic; for a model
            of change those of the first date.
        out: a folder for the map alone.
        after: for a model of change, the scene of the second date, on any grid of its own.
        vector_format: polygons too: gpkg, parquet, geojson or fgb, or several of these.
        min_area: of maps of pixels, m² of the smallest polygon: smaller areas go to the largest one
            beside them.
        smooth: of maps of pixels, whether the corners of polygons are cut.
        transparent: a class without polygons, clear in the preview; none: the first, if it is
            called background.
        gsd: m/px that the model sees; none: as in its training.
        aoi: a vector file; outside of its polygons there is no map.
        overlap: share of a window that its neighbor covers too, 0..0.9; none: as in the training.
        probabilities: whether those of every class are written, to `probabilities.tif`.
        bands: which are red, green and blue, counted from 1; none: as in the training.
        stretch: values that become 0 and 255, of more than 8 bits; none: as in the training, or the
            1st and 99th percentile of the scene.
        crs: of a scene that names none, such as EPSG:32650.
        input_gsd: m/px of a scene that is not georeferenced.
        dem: of a scene with RPCs alone, a raster of heights, or one height in metres above the
            ellipsoid.
        date_labels: of two dates, what to call them; none: their tag of date, or file name.
        coregister: of two dates, whether the displacement of the second is measured and undone.
        max_object_size: of objects, metres that the largest reaches, its diagonal: windows overlap
            by as much; none: as in the training.
        score_threshold: of objects, the least score; none: what the model's test found, or 0.3.
        resume: go on with an unfinished map in `out`; a finished map with the same settings is
            returned as it is.
        progress: whether bars and lines are shown.

    Returns:
        The map: `dataset()`, `polygons()`, `plot()`, `info`, `preview`.

    Raises:
        UserError: a scene that cannot be read or placed, arguments that make no sense, a folder
            that holds another map, or a full disk.

    Examples:
        >>> import cgeartheye as cge
        >>> model = cge.load_model("runs/mine")
        >>> result = cge.map_raster(
        ...     model, "scene.tif", out="map", vector_format="gpkg", progress=False
        ... )
        >>> with result.dataset() as raster:
        ...     raster.crs.to_epsg(), raster.read(1).shape  # a cell for each window
        (32650, (3, 5))
        >>> result.polygons().columns.tolist()
        ['class', 'value', 'area_m2', 'confidence', 'geometry']
    """
    if not isinstance(model, Model):
        model = load_model(model)
    model.check_dates(after)
    formats = (vector_format,) if isinstance(vector_format, str) else vector_format
    given: dict[str, Any] = {
        "vector_format": tuple(formats) if formats else None,
        "min_area": min_area,
        "smooth": smooth or None,
        "transparent": transparent,
        "gsd": gsd,
        "aoi": None if aoi is None else Path(aoi),
        "overlap": overlap,
        "probabilities": probabilities or None,
        "bands": bands,
        "stretch": stretch,
        "crs": crs,
        "input_gsd": input_gsd,
        "dem": None if dem is None else str(dem),
        "date_labels": date_labels,
        "coregister": coregister or None,
        "max_object_size": max_object_size,
        "score_threshold": score_threshold,
    }
    options = {name: value for name, value in given.items() if value is not None}
    later = None if after is None else _paths(after)
    with python_words(), own_random_state(), muted(not progress):
        map_with(model.loaded, _paths(scene), Path(out), options, resume, later)
    return MapResult(out)


def _paths(places: Place | Sequence[Place]) -> list[Path]:
    if isinstance(places, str | PathLike):
        return [Path(places)]
    return [Path(place) for place in places]


def _amount(entry: dict[str, Any]) -> float:
    """Amount of a class: objects, or square kilometres."""
    amount: float = entry["objects"] if "objects" in entry else entry["km2"]
    return amount


def _fraction(color: Sequence[int]) -> tuple[float, float, float]:
    """A color 0..255 as matplotlib has it."""
    red, green, blue = (level / 255 for level in color)
    return red, green, blue
