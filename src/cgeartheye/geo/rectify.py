"""Rasters georeferenced by control points or RPCs alone: fitted, or warped by GDAL."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.rpc import RPC
from rasterio.transform import GCPTransformer, RPCTransformer, from_gcps, xy
from rasterio.warp import transform as transform_points

from cgeartheye.geo.crs import WGS84, utm_epsg
from cgeartheye.geo.validity import MaskedRaster, rectified
from cgeartheye.utils.errors import UserError

Reals = npt.NDArray[np.float64]

MOST_OFF = 0.5  # pixels; the largest residual of a control point
_MOST_ROUNDS = 20  # in which places and their heights come together
_SAME_HEIGHT = 0.01  # metres
_MOST_SPLINES = 500  # control points; a spline through more takes minutes


@dataclass(frozen=True)
class PointFit:
    """The way from pixels to the map that ground control points give.

    The simplest that puts every point within half a pixel: an affine transform, a polynomial of
    GDAL's order for so many points, or else a thin plate spline through all of them.

    Attributes:
        points: the control points.
        affine: the best affine transform.
        affine_off: pixels by which it misses the worst point.
        kind: `affine`, `polynomial` or `spline`.
        off: pixels by which the chosen way misses the worst point.
    """

    points: Sequence[GroundControlPoint]
    affine: Affine
    affine_off: float
    kind: str
    off: float

    def to_map(self, x: Reals, y: Reals) -> tuple[Reals, Reals]:
        """Return places on the map of columns and rows, both of the same length."""
        if self.kind == "affine":
            east, north = xy(self.affine, y, x, offset="ul")
        else:
            with GCPTransformer(self.points, tps=self.kind == "spline") as transformer:
                east, north = transformer.xy(y, x, offset="ul")
        return np.asarray(east, np.float64), np.asarray(north, np.float64)


def fit_points(points: Sequence[GroundControlPoint]) -> PointFit:
    """Find the way from pixels to the map; see `PointFit`."""
    affine = from_gcps(points)
    worst = _worst(points, affine, None)
    if worst <= MOST_OFF or len(points) < 4:
        return PointFit(points, affine, worst, "affine", worst)
    bent = _worst(points, affine, False)
    if bent <= MOST_OFF or len(points) > _MOST_SPLINES:
        return PointFit(points, affine, worst, "polynomial", bent)
    return PointFit(points, affine, worst, "spline", _worst(points, affine, True))


def _worst(points: Sequence[GroundControlPoint], affine: Affine, spline: bool | None) -> float:
    """Pixels by which a way misses the worst point; none: the affine transform itself."""
    rows, columns = np.array([(p.row, p.col) for p in points], float).T
    truth = np.array([(p.x, p.y) for p in points], float).T
    if spline is None:
        found = np.stack(xy(affine, rows, columns, offset="ul"))
    else:
        with GCPTransformer(points, tps=spline) as transformer:
            found = np.stack(transformer.xy(rows, columns, offset="ul"))
    a, b, _, d, e, _ = affine[:6]
    off = np.linalg.lstsq(np.array([[a, b], [d, e]]), found - truth, rcond=None)[0]
    return float(np.hypot(*off).max())


@dataclass(frozen=True)
class Rectification:
    """The way GDAL warps a raster onto a grid on the map.

    Attributes:
        crs: of the grid.
        options: of GDAL's transformer.
        facts: for `map.json`.
        sentence: for the user.
        dem: a raster of heights; the options then have its height in the middle of the scene.
    """

    crs: CRS
    options: dict[str, str]
    facts: dict[str, Any]
    sentence: str
    dem: Path | None = None

    def open(self, file: DatasetReader, resampling: Resampling) -> MaskedRaster:
        """Return the raster on a grid of GDAL's choice.

        Args:
            file: the raster, open.
            resampling: of values.
        """
        warped = rectified(file, self.crs, self.options, resampling)
        if self.dem is None:
            return warped
        values, nearest = (_over(vrt, file, self.dem) for vrt in (warped.file, warped.nearest))
        return MaskedRaster(values, nearest, warped.bands)


@dataclass(frozen=True)
class RpcFit:
    """The way from pixels to longitude and latitude that RPCs give.

    Attributes:
        rpcs: of the raster.
        height: in the middle of the scene, metres above the ellipsoid.
        dem: a raster of heights; none: `height` is that of all places.
    """

    rpcs: RPC
    height: float
    dem: Path | None = None

    kind = "rpcs"

    def to_map(self, x: Reals, y: Reals) -> tuple[Reals, Reals]:
        """Return longitudes and latitudes of columns and rows, both of the same length."""
        heights = np.full(len(x), self.height)
        with RPCTransformer(self.rpcs) as transformer:
            # A place has the height of the ground there, which moves the place again.
            for _ in range(_MOST_ROUNDS):
                lon, lat = (
                    np.asarray(v, np.float64) for v in transformer.xy(y, x, heights, offset="ul")
                )
                found = heights if self.dem is None else _heights(self.dem, lon, lat, heights)
                if np.abs(found - heights).max(initial=0.0) < _SAME_HEIGHT:
                    break
                heights = found
        return lon, lat


def fit_rpcs(file: DatasetReader, dem: str | None) -> RpcFit | None:
    """Return the way from pixels to the map that a raster's RPCs give.

    Args:
        file: an open raster.
        dem: a raster of heights, or one height in metres above the ellipsoid.

    Returns:
        None without heights, or where the raster has no RPCs, or a place besides.

    Raises:
        UserError: a `dem` that is neither file nor number.
    """
    placed = bool(file.crs is not None and not file.transform.is_identity) or bool(file.gcps[0])
    if dem is None or file.rpcs is None or placed:
        return None
    return RpcFit(file.rpcs, *_height(dem, file.rpcs.long_off, file.rpcs.lat_off))


def _heights(dem: Path, lon: Reals, lat: Reals, otherwise: Reals) -> Reals:
    """Return the heights of places, or others where a raster has none."""
    with rasterio.open(dem) as file:
        x, y = transform_points(WGS84, file.crs or WGS84, lon, lat)
        found = [value for (value,) in file.sample(zip(x, y, strict=True), 1, masked=True)]
    return np.array(
        [
            old if np.ma.is_masked(new) else float(new)
            for new, old in zip(found, otherwise, strict=True)
        ]
    )


def rectification_of(
    file: DatasetReader, name: str, dem: str | None = None
) -> Rectification | None:
    """Return how a raster is warped that has no transform, and that no affine one fits.

    Args:
        file: an open raster.
        name: of the scene, for messages.
        dem: of a raster with RPCs: a raster of heights, or one height in metres above the
            ellipsoid.

    Returns:
        None where the raster has a transform, control points that an affine transform fits to half
        a pixel, or nothing that places it.

    Raises:
        UserError: a `dem` that is neither file nor number, or for a raster without RPCs.
    """
    if dem is not None and file.rpcs is None:
        raise UserError(f"{name} has no RPCs: leave out --dem")
    if file.crs is not None and not file.transform.is_identity:
        return None
    points, crs = file.gcps
    if dem is not None:
        rpcs = file.rpcs
        zone = CRS.from_epsg(utm_epsg(rpcs.long_off, rpcs.lat_off))
        sentence = f"{name} is warped by its RPCs over {dem}, onto {zone.to_string()}"
        height, path = _height(dem, rpcs.long_off, rpcs.lat_off)
        options = {"RPC_HEIGHT": str(height)}
        return Rectification(zone, options, {"by": "rpcs", "dem": dem}, sentence, path)
    if not points or crs is None:
        return None
    fit = fit_points(points)
    if fit.kind == "affine":
        return None
    how = "a thin plate spline" if fit.kind == "spline" else "a polynomial"
    sentence = (
        f"no affine transform fits the {len(points)} control points of {name} (off by up to "
        f"{fit.affine_off:.1f} pixels): it is warped by {how}, off by up to "
        f"{fit.off:.2f} pixels"
    )
    facts = {"by": fit.kind, "affine_off_pixels": fit.affine_off, "off_pixels": fit.off}
    return Rectification(
        crs, {"METHOD": "GCP_TPS"} if fit.kind == "spline" else {}, facts, sentence
    )


def _height(dem: str, lon: float, lat: float) -> tuple[float, Path | None]:
    """Return the height of a place, and the raster that it is from, if it is from one."""
    try:
        return float(dem), None
    except ValueError:
        path = Path(dem)
    if not path.is_file():
        raise UserError(f"--dem {dem} is neither a raster nor a height in metres: correct it")
    try:
        with rasterio.open(path) as file:
            (x,), (y,) = transform_points(WGS84, file.crs or WGS84, [lon], [lat])
            ((height,),) = file.sample([(x, y)], indexes=1, masked=True)
    except RasterioError as error:
        raise UserError(f"--dem {dem} cannot be read as a raster: {error}") from error
    if np.ma.is_masked(height):
        raise UserError(f"--dem {dem} has no height in the middle of the scene, {lat}, {lon}")
    return float(height), path.resolve()


def view_text(vrt: DatasetReader, source: Path, grid: tuple[Affine, int, int] | None = None) -> str:
    """Return a warped view of a raster as the XML that GDAL opens.

    Args:
        vrt: the view.
        source: the raster's file.
        grid: transform, rows and columns of another grid; rasterio ignores control points where
            it is given one.
    """
    root = _view(vrt, source)
    if grid is not None:
        transform, height, width = grid
        root.set("rasterXSize", str(width))
        root.set("rasterYSize", str(height))
        forth, back = (
            ",".join(repr(float(v)) for v in way.to_gdal()) for way in (transform, ~transform)
        )
        for name, text in (("GeoTransform", forth), ("DstGeoTransform", forth)):
            for element in root.iter(name):
                element.text = text
        for element in root.iter("DstInvGeoTransform"):
            element.text = back
    return ElementTree.tostring(root, encoding="unicode")


def _view(vrt: DatasetReader, source: Path) -> ElementTree.Element:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "warped.vrt")
        rasterio.shutil.copy(vrt, path, driver="VRT")
        root = ElementTree.parse(path).getroot()
    (file,) = root.iter("SourceDataset")
    file.text = str(source.resolve())
    file.set("relativeToVRT", "0")
    return root


def _over(vrt: DatasetReader, source: DatasetReader, dem: Path) -> DatasetReader:
    """Return a warped raster with the heights of a file in place of the one height.

    Rasterio has GDAL's options in capitals, paths too, so that RPC_DEM cannot be given; GDAL's own
    text of the raster can.
    """
    root = _view(vrt, Path(source.name))
    (transformer,) = root.iter("RPCTransformer")
    for name, text in (("HeightOffset", "0"), ("DEMPath", str(dem))):
        element = transformer.find(name)
        if element is None:
            element = ElementTree.SubElement(transformer, name)
        element.text = text
    return rasterio.open(ElementTree.tostring(root, encoding="unicode"))
