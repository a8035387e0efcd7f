"""Results of a job: files, links to them, and the STAC Item of them."""

from datetime import UTC, datetime
from typing import Any

import shapely

from cgeartheye.jobs.store import Job
from cgeartheye.serve.settings import Settings

_TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
# Name in the answer, media type, roles in STAC.
_FILES = {
    "map.tif": ("map", _TIFF, ["data"]),
    "probabilities.tif": ("probabilities", _TIFF, ["data"]),
    "map.gpkg": ("polygons", "application/geopackage+sqlite3", ["data"]),
    "map.parquet": ("polygons_parquet", "application/vnd.apache.parquet", ["data"]),
    "map.geojson": ("polygons_geojson", "application/geo+json", ["data"]),
    "map.fgb": ("polygons_flatgeobuf", "application/vnd.flatgeobuf", ["data"]),
    "map.qml": ("style", "application/xml", ["metadata"]),
    "map.json": ("facts", "application/json", ["metadata"]),
    "preview.html": ("preview", "text/html", ["overview"]),
}


def media_type(name: str) -> str | None:
    """Return the media type of a file of the results; none: it is no such file."""
    return _FILES[name][1] if name in _FILES else None


def results_of(settings: Settings, job: Job, base: str) -> dict[str, Any]:
    """Return links to the results of a job, by name.

    Args:
        settings: of the server.
        job: that was successful.
        base: address of the server.
    """
    place = f"{base}/jobs/{job.id}/results"
    folder = settings.jobs / job.id / "map"
    found = {
        name: {"href": f"{place}/{file}", "type": kind}
        for file, (name, kind, _) in _FILES.items()
        if (folder / file).is_file()
    }
    return {**found, "stac": {"href": f"{place}/stac.json", "type": "application/geo+json"}}


def stac_item(settings: Settings, job: Job, base: str) -> dict[str, Any]:
    """Return a STAC Item of the results.

    Args:
        settings: of the server.
        job: that was successful.
        base: address of the server.
    """
    west, south, east, north = job.request["bounds"]
    area = job.request.get("area")
    folder, place = settings.jobs / job.id / "map", f"{base}/jobs/{job.id}/results"
    made = datetime.fromtimestamp(job.finished or job.updated, UTC)
    geometry = area or shapely.geometry.mapping(shapely.box(west, south, east, north))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": job.id,
        "geometry": geometry,
        "bbox": list(shapely.geometry.shape(geometry).bounds),
        "properties": {
            "datetime": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "title": f"{job.app} of {', '.join(job.request['labels'][:3])}",
            "cgeartheye:application": job.app,
            "cgeartheye:version": job.request["version"],
            "cgeartheye:square_km": job.request["square_km"],
        },
        "links": [{"rel": "derived_from", "href": f"{base}/scenes/{job.request['scene_ids'][0]}"}],
        "assets": {
            name: {"href": f"{place}/{file}", "type": kind, "roles": roles}
            for file, (name, kind, roles) in _FILES.items()
            if (folder / file).is_file()
        },
    }
