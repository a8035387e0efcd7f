"""Look at an uploaded raster in a process of its own, with little memory and time.

Whatever a file claims, or makes GDAL do, ends with that process. It accepts only formats that hold
their pixels themselves: a VRT, for example, would open any other file.
"""

import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from cgeartheye.serve.problems import Problem
from cgeartheye.utils.errors import UserError

# GDAL's driver by what a file begins with; no other may open it.
DRIVERS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
}
MAGIC = tuple(DRIVERS)
MEMORY, SECONDS = 3 * 2**30, 120
_SMALL = 1024  # pixels a side below which there is no need of overviews


def describe_safely(path: Path) -> dict[str, Any]:
    """Return facts of a raster, and add overviews to a GeoTIFF that has none.

    Args:
        path: of a file that nobody has vouched for.

    Raises:
        Problem: 415 or 422: it is no raster of a known format, or cannot be placed.
    """
    command = [sys.executable, "-m", "cgeartheye.serve.inspect", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Problem(422, f"looking at the file took more than {SECONDS} s") from error
    try:
        facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise Problem(422, "the file cannot be read within 3 GB of memory") from error
    if "problem" in facts:
        raise Problem(facts["status"], facts["problem"])
    return facts


def describe(path: Path, name: str, driver: str | None = None) -> dict[str, Any]:
    """Return facts of a raster that can be mapped.

    Args:
        path: of the file.
        name: for messages.
        driver: of GDAL that alone may open it; none: any.

    Raises:
        UserError: it cannot be opened, has no data, or is not georeferenced.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.warp import transform_bounds, transform_geom

    from cgeartheye.geo.georeference import georeference_of, locate
    from cgeartheye.geo.remote import is_remote
    from cgeartheye.utils.allocation import refuse_blocks

    try:
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(path, driver=driver) as file,
        ):
            refuse_blocks(name if is_remote(path) else path, file)
            transform, crs = georeference_of(file)
            if crs is None or transform.is_identity:
                way = "gdal_edit.py -a_srs EPSG:CODE -a_ullr LEFT TOP RIGHT BOTTOM"
                if file.rpcs is not None:
                    way = "gdalwarp -rpc, which reads its RPCs"
                raise UserError(f"{name} has no CRS or no place in it: write both with {way}")
            place = locate(file, name)
            assert place.crs is not None
            window = rasterio.windows.Window(file.width // 2, file.height // 2, 1, 1)
            file.read(1, window=window)
            corners = [(0, 0), (file.width, 0), (file.width, file.height), (0, file.height)]
            ring = [place.transform @ corner for corner in [*corners, corners[0]]]
            polygon = {"type": "Polygon", "coordinates": [ring]}
            outline = transform_geom(place.crs, "EPSG:4326", polygon)
            bounds = rasterio.transform.array_bounds(file.height, file.width, place.transform)
            return {
                "width": file.width,
                "height": file.height,
                "bands": file.count,
                "dtype": file.dtypes[0],
                "crs": place.crs.to_string(),
                "gsd": sum(place.ground) / 2,
                "square_km": file.width * file.height * place.ground[0] * place.ground[1] / 1e6,
                "bounds": list(transform_bounds(place.crs, "EPSG:4326", *bounds)),
                "outline": outline["coordinates"][0],
                "overviews": len(file.overviews(1)),
                "datetime": file.tags().get("TIFFTAG_DATETIME"),
            }
    except (RasterioError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{name} cannot be read as a GeoTIFF, PNG, JPEG or JPEG 2000") from error


def _add_overviews(path: Path, facts: dict[str, Any]) -> None:
    """Add overviews to a GeoTIFF: without them each view from afar reads all of it."""
    import rasterio
    from rasterio.enums import Resampling

    longest = max(facts["width"], facts["height"])
    if facts["overviews"] or longest <= _SMALL:
        return
    factors = [2**n for n in range(1, 16) if longest / 2**n >= _SMALL / 4]
    with (
        rasterio.Env(COMPRESS_OVERVIEW="DEFLATE", GDAL_CACHEMAX=256 * 2**20),
        rasterio.open(path, "r+", driver="GTiff") as file,
    ):
        file.build_overviews(factors, Resampling.average)


def main() -> None:
    """Print the facts of the file that is named, or why there are none, as a line of JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    path = Path(sys.argv[1])
    try:
        with path.open("rb") as file:
            start = file.read(16)
        driver = next(driver for magic, driver in DRIVERS.items() if start.startswith(magic))
        facts = describe(path, "the file", driver)
        if driver == "GTiff":
            _add_overviews(path, facts)
    except UserError as error:
        facts = {"problem": str(error), "status": 422}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
