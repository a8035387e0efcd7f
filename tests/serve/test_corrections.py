"""Corrections of finished maps, and search over several scenes, over HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.features import rasterize
from starlette.testclient import TestClient

import toy_runs
from cgeartheye.commands.label import write_dataset
from cgeartheye.embeddings.search import SceneIndex
from cgeartheye.embeddings.store import open_embeddings
from cgeartheye.serve.settings import Settings

Work = Callable[[], None]


def scene_of(client: TestClient, label: str) -> dict[str, Any]:
    found = client.get("/scenes").json()["scenes"]
    return next(one for one in found if one["label"] == label)


def run(client: TestClient, work_off: Work, inputs: dict[str, Any], app: str = "land") -> str:
    answer = client.post(
        f"/processes/{app}/execution", json={"inputs": inputs}, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 201, answer.text
    work_off()
    job: str = answer.json()["jobID"]
    return job


def label(geometry: Any, name: str, time: str = "2026-01-02") -> dict[str, Any]:
    shape = shapely.geometry.mapping(geometry)
    return {"type": "Feature", "properties": {"class": name, "time": time}, "geometry": shape}


def put(client: TestClient, path: str, features: list[dict[str, Any]], **more: Any) -> Any:
    return client.put(path, json={"type": "FeatureCollection", "features": features}, **more)


def test_corrections_are_labels_of_the_scene(
    client: TestClient, work_off: Work, settings: Settings, scene_folder: Path, tmp_path: Path
) -> None:
    scene = scene_of(client, "fine.tif")
    options = {"vector_format": ["gpkg", "geojson"]}
    job = run(client, work_off, {"scene": scene["id"], "options": options})
    found = client.get(f"/jobs/{job}/results/map.geojson").json()["features"]
    polygon = max((shapely.geometry.shape(f["geometry"]) for f in found), key=lambda g: g.area)
    west, south, east, north = scene["bounds"]
    x, y = east - west, north - south
    area = shapely.box(west + 0.1 * x, south + 0.1 * y, west + 0.3 * x, south + 0.3 * y)
    path = f"/jobs/{job}/corrections"
    features = [label(polygon, "wood"), label(area, "not water", "2026-01-03")]
    assert put(client, path, features).json()["count"] == 2
    kept = client.get(path).json()["features"]
    assert [f["properties"]["class"] for f in kept] == ["wood", "not water"]
    assert shapely.geometry.shape(kept[0]["geometry"]).equals_exact(polygon, 1e-9)

    # They stand with the user's other labels, and neither replaces the other.
    embedding = client.post("/embeddings", json={"scene": scene["id"]}).json()["jobID"]
    work_off()
    labels = f"/embeddings/{embedding}/labels"
    known = client.get(labels).json()["labels"]["features"]
    point = label(shapely.Point(west + 0.9 * x, south + 0.9 * y), "field", "2026-01-04")
    assert put(client, labels, [*known, point]).status_code == 200
    assert put(client, path, features[:1]).status_code == 200  # the second is undone
    (tmp_path / "l.gpkg").write_bytes(client.get(f"{labels}.gpkg").content)
    table = geopandas.read_file(tmp_path / "l.gpkg").sort_values("time")
    assert list(table["class"]) == ["wood", "field"]
    assert list(table["source"].fillna("")) == [f"correction of land, job {job}", ""]
    assert set(table["user"]) == {"local"}

    # And so they are in the training set.
    write_dataset([scene_folder / "fine.tif"], tmp_path / "l.gpkg", tmp_path / "d", chip=28)
    masks = [np.asarray(Image.open(p)) for p in (tmp_path / "d").glob("*/Label/*.png")]
    counts = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=256)
    assert counts[1] == 14 * 14  # field, the point, which may cover some of the polygon
    # A pixel whose centre is on a slanting edge may be in or out: the polygon has a hole of two.
    assert abs(int(counts[0]) - pixels_of(polygon, scene_folder / "fine.tif")) <= 14 * 14 + 2

    outside = label(shapely.Point(west - x, south), "wood")
    answer = put(client, path, [outside])
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("a correction is outside of the map's scenes")
    for bad in ({"type": "Feature"}, {"geometry": None, "properties": {}}):
        assert put(client, path, [bad]).status_code == 400
    assert len(client.get(path).json()["features"]) == 1
    assert client.get(f"/jobs/{embedding}/corrections").status_code == 422


def test_two_tabs_do_not_lose_each_others_corrections(client: TestClient, work_off: Work) -> None:
    scene = scene_of(client, "fine.tif")
    job = run(client, work_off, {"scene": scene["id"]})
    west, south, east, north = scene["bounds"]
    first, second = (
        label(shapely.Point(west + share * (east - west), (south + north) / 2), name)
        for share, name in ((0.3, "wood"), (0.6, "water"))
    )
    path = f"/jobs/{job}/corrections"
    seen = client.get(path).headers["etag"]
    answer = put(client, path, [first], headers={"If-Match": seen})
    assert answer.status_code == 200
    assert answer.headers["etag"] == client.get(path).headers["etag"] != seen
    late = put(client, path, [second], headers={"If-Match": seen})
    assert late.status_code == 409
    assert [f["properties"]["class"] for f in client.get(path).json()["features"]] == ["wood"]

    # Labels that correct nothing are not corrections.
    embedding = client.post("/embeddings", json={"scene": scene["id"]}).json()["jobID"]
    work_off()
    labels = f"/embeddings/{embedding}/labels"
    known = client.get(labels).json()["labels"]["features"]
    assert put(client, labels, [*known, second]).status_code == 200
    weak = f"W/{answer.headers['etag']}"
    assert put(client, path, [first, second], headers={"If-Match": weak}).status_code == 200
    assert put(client, path, []).status_code == 200  # without a version: whatever is there


def test_what_is_not_one_of_two_classes_is_the_other(
    client: TestClient, work_off: Work, settings: Settings
) -> None:
    """The labels do not tell whether a map has two classes, so the other one's name is kept."""
    scene = scene_of(client, "fine.tif")
    job = run(client, work_off, {"scene": scene["id"]})
    west, south, east, north = scene["bounds"]
    place = shapely.Point((west + east) / 2, (south + north) / 2)
    path = f"/jobs/{job}/corrections"
    for kept in ("not wood", "field"):
        assert put(client, path, [label(place, "not wood")]).status_code == 200
        (found,) = client.get(path).json()["features"]
        assert found["properties"]["class"] == kept
        file = settings.jobs / job / "map" / "map.json"
        facts = json.loads(file.read_text())
        file.write_text(json.dumps({**facts, "classes": facts["classes"][:2]}))


def pixels_of(polygon: Any, scene: Path) -> int:
    with rasterio.open(scene) as file:
        placed = geopandas.GeoSeries([polygon], crs=4326).to_crs(file.crs)
        return int(rasterize(placed, file.shape, transform=file.transform).sum())


def test_maps_of_two_dates_are_not_corrected(client: TestClient, work_off: Work) -> None:
    scene = scene_of(client, "fine.tif")["id"]
    job = run(client, work_off, {"scene": scene, "after": scene}, "change")
    answer = client.get(f"/jobs/{job}/corrections")
    assert answer.json()["detail"] == "only maps of one date can be corrected"


@pytest.fixture
def two(client: TestClient, work_off: Work, tmp_path: Path) -> list[tuple[str, str]]:
    """Two embedded scenes: their ids, and those of the jobs."""
    other = toy_runs.land_scene(tmp_path / "other.tif", 140, 140)
    client.post("/scenes?name=other.tif", content=other.read_bytes())
    scenes = [scene_of(client, name)["id"] for name in ("fine.tif", "other.tif")]
    jobs = [client.post("/embeddings", json={"scene": one}).json()["jobID"] for one in scenes]
    work_off()
    return list(zip(scenes, jobs, strict=True))


def test_a_search_ranks_the_places_of_all_scenes(
    client: TestClient, settings: Settings, two: list[tuple[str, str]]
) -> None:
    embeddings = [open_embeddings(settings.jobs / job / "map")[0] for _, job in two]
    lon, lat = embeddings[0].centers(np.array([3]), np.array([3]))
    body = {"at": [[lon[0], lat[0]]], "top": 8}
    path = f"/embeddings/{two[0][1]}/search"
    alone = client.post(path, json=body).json()
    assert {f["properties"]["scene"] for f in alone["features"]} == {two[0][0]}
    found = client.post(path, json={**body, "everywhere": True}).json()
    assert found["left_out"] == 0
    expected = SceneIndex(embeddings, [scene for scene, _ in two]).search(body["at"], (), 8)  # type: ignore[arg-type]
    assert [f["properties"]["scene"] for f in found["features"]] == list(expected["scene"])
    assert {f["properties"]["label"] for f in found["features"]} == {"fine.tif", "other.tif"}
    assert [f["properties"]["score"] for f in found["features"]] == list(expected["score"])


def test_scenes_of_other_weights_are_left_out_of_a_search(
    client: TestClient, settings: Settings, two: list[tuple[str, str]]
) -> None:
    (facts,) = (settings.jobs / two[1][1] / "map").glob("*/features.zarr/zarr.json")
    group = json.loads(facts.read_text())
    group["attributes"]["model"]["backbone"] = "b" * 64
    facts.write_text(json.dumps(group))
    (embedding,) = open_embeddings(settings.jobs / two[0][1] / "map")
    lon, lat = embedding.centers(np.array([3]), np.array([3]))
    body = {"at": [[lon[0], lat[0]]], "everywhere": True}
    found = client.post(f"/embeddings/{two[0][1]}/search", json=body).json()
    assert found["left_out"] == 1
    assert {f["properties"]["scene"] for f in found["features"]} == {two[0][0]}
