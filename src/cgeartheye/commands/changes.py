"""Maps of change from embeddings of several dates."""

from pathlib import Path

import rasterio

from cgeartheye.embeddings.changes import by_date, changed, refuse_same_dates
from cgeartheye.embeddings.store import open_embeddings
from cgeartheye.geo.raster_writer import replacing_raster
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError

NODATA = -1.0


def write_changes(folder: Path, out: Path, since: str | None = None) -> tuple[str, str]:
    """Write by how much each patch of a place changed until the last date.

    Args:
        folder: of embeddings of the place.
        out: a GeoTIFF of cosine distances, 0..2, `NODATA` where a date has no data.
        since: the date to compare with; none: the first.

    Returns:
        The two dates.

    Raises:
        UserError: fewer than two dates, two scenes of one, an unknown one, or a file that cannot
            be written.
    """
    embeddings = by_date(open_embeddings(folder))
    refuse_same_dates(embeddings)
    dates = [str(each.date) for each in embeddings]
    if since is not None and since not in dates[:-1]:
        raise UserError(f"--since {since} is none of the earlier dates: {', '.join(dates[:-1])}")
    first = embeddings[dates.index(since) if since else 0]
    distances, known = changed(first, embeddings[-1])
    distances[~known] = NODATA
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": first.shape[0],
        "width": first.shape[1],
        "dtype": "float32",
        "nodata": NODATA,
        "crs": first.crs,
        "transform": first.transform,
        "compress": "deflate",
    }
    with replacing_raster(out) as unfinished, rasterio.open(unfinished, "w", **profile) as file:
        file.write(distances, 1)
        file.set_band_description(1, f"cosine distance, {first.date} to {dates[-1]}")
    log_info(f"change from {first.date} to {dates[-1]}: {out}")
    return str(first.date), dates[-1]
