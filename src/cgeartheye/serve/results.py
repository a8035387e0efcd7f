"""Results of a job: files, links to them, and the STAC Item of them, which the map wrote."""

from typing import Any

import shapely

from cgeartheye.jobs.store import Job
from cgeartheye.serve.settings import Settings
from cgeartheye.utils.state import json_object

_ITEM = "item.json"  # of the folder of a map


def media_type(settings: Settings, job: Job, name: str) -> str | None:
    """Return the media type of a file of the results; none: there is no such file.

    Args:
        settings: of the server.
        job: that was successful.
        name: of the file.
    """
    for asset in _item(settings, job)["assets"].values():
        if asset["href"] == f"./{name}":
            return str(asset["type"])
    return None


def results_of(settings: Settings, job: Job, base: str) -> dict[str, Any]:
    """Return links to the results of a job, by name.

    Args:
        settings: of the server.
        job: that was successful.
        base: address of the server.
    """
    item = stac_item(settings, job, base)
    found = {
        name: {key: asset[key] for key in ("href", "type")}
        for name, asset in item["assets"].items()
    }
    place = f"{base}/jobs/{job.id}/results"
    return {**found, "stac": {"href": f"{place}/stac.json", "type": "application/geo+json"}}


def stac_item(settings: Settings, job: Job, base: str) -> dict[str, Any]:
    """Return the STAC Item of the results: that of the map, with addresses in place of paths.

    Args:
        settings: of the server.
        job: that was successful.
        base: address of the server.
    """
    item, place = _item(settings, job), f"{base}/jobs/{job.id}/results"
    properties = {
        **item["properties"],
        "title": f"{job.app} of {', '.join(job.request['labels'][:3])}",
        "processing:lineage": f"a map by the application {job.app}",
        "cgeartheye:application": job.app,
        "cgeartheye:version": job.request["version"],
        "cgeartheye:square_km": job.request["square_km"],
    }
    assets = {
        name: asset | {"href": f"{place}/{asset['href'].removeprefix('./')}"}
        for name, asset in item["assets"].items()
    }
    scenes = job.request["scene_ids"]
    links = [{"rel": "derived_from", "href": f"{base}/scenes/{scene}"} for scene in scenes]
    item |= {"id": job.id, "properties": properties, "assets": assets, "links": links}
    if area := job.request.get("area"):
        item |= {"geometry": area, "bbox": list(shapely.geometry.shape(area).bounds)}
    return item


def _item(settings: Settings, job: Job) -> dict[str, Any]:
    return json_object((settings.jobs / job.id / "map" / _ITEM).read_bytes())
