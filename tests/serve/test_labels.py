"""Few-click labelling over HTTP."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from httpx import Response
from morecantile import tms
from PIL import Image
from rasterio.warp import transform
from starlette.testclient import TestClient

import toy_runs
from cgeartheye.embeddings.store import open_embeddings
from cgeartheye.jobs import runner as runner_module
from cgeartheye.serve.app import create_app
from cgeartheye.serve.auth import add_token
from cgeartheye.serve.settings import Settings

Work = Callable[[], None]


def point(lon: float, lat: float, name: str) -> dict[str, Any]:
    geometry = {"type": "Point", "coordinates": [lon, lat]}
    return {"type": "Feature", "properties": {"class": name}, "geometry": geometry}


def put(client: TestClient, job: str, features: list[dict[str, Any]], **more: Any) -> Response:
    body = {"type": "FeatureCollection", "features": features}
    return client.put(f"/embeddings/{job}/labels", json=body, **more)


def scene_id(client: TestClient, **more: Any) -> str:
    found = client.get("/scenes", **more).json()["scenes"]
    return next(one["id"] for one in found if one["label"] == "fine.tif")


@pytest.fixture
def embedded(client: TestClient, work_off: Work) -> str:
    """A scene's embedding; the job that made it."""
    answer = client.post("/embeddings", json={"scene": scene_id(client)})
    assert answer.status_code == 201, answer.text
    work_off()
    job: str = answer.json()["jobID"]
    assert client.get(f"/jobs/{job}").json()["status"] == "successful"
    return job


def patch_places(settings: Settings, job: str) -> tuple[Any, np.ndarray, np.ndarray]:
    (embedding,) = open_embeddings(settings.jobs / job / "map")
    rows, columns = np.nonzero(embedding.valid)
    return embedding, *embedding.centers(rows, columns)


def test_labels_become_a_map_that_tiles_and_downloads_agree_on(
    client: TestClient, settings: Settings, embedded: str, tmp_path: Path
) -> None:
    again = client.post("/embeddings", json={"scene": scene_id(client)})
    assert (again.status_code, again.json()["jobID"]) == (200, embedded)  # it is there already
    empty = client.get(f"/embeddings/{embedded}/labels").json()
    nothing = {"type": "FeatureCollection", "features": []}
    assert empty == {"labels": nothing, "map": None, "reason": None}
    embedding, lon, lat = patch_places(settings, embedded)
    first = client.get(f"/embeddings/{embedded}/suggestions?count=4").json()["features"]
    assert len(first) == 4

    west, east = int(lon.argmin()), int(lon.argmax())
    places = [(west, "crop"), (east, "bare"), (west + 1, "crop")]
    features = [point(lon[n], lat[n], name) for n, name in places]
    one_class = put(client, embedded, features[:1]).json()
    assert one_class == {"map": None, "reason": None}  # no map yet
    told = put(client, embedded, features).json()["map"]
    assert [one["name"] for one in told["legend"]] == ["crop", "bare"]
    assert sum(one["share"] for one in told["legend"]) == pytest.approx(1)
    kept = client.get(f"/embeddings/{embedded}/labels").json()
    assert [f["properties"]["class"] for f in kept["labels"]["features"]] == [
        "crop",
        "bare",
        "crop",
    ]
    assert kept["map"] == told
    rated = client.get(f"/embeddings/{embedded}/accuracy").json()
    assert (rated["labels"], rated["accuracy"], rated["calibration"]) == (
        3,
        None,
        None,
    )  # one place

    (tmp_path / "map.tif").write_bytes(client.get(f"/embeddings/{embedded}/map.tif").content)
    with rasterio.open(tmp_path / "map.tif") as file:
        drawn = file.read(1)
        colors = file.colormap(1)
        assert file.transform.almost_equals(embedding.scene_transform)
        x, y = transform("EPSG:4326", file.crs, [lon[west], lon[east]], [lat[west], lat[east]])
        assert [next(file.sample([at]))[0] for at in zip(x, y, strict=True)] == [0, 1]
    (tmp_path / "l.gpkg").write_bytes(client.get(f"/embeddings/{embedded}/labels.gpkg").content)
    assert sorted(geopandas.read_file(tmp_path / "l.gpkg")["class"]) == ["bare", "crop", "crop"]

    grid = tms.get("WebMercatorQuad")
    z = 20
    t = grid.tile(float(lon.mean()), float(lat.mean()), z)
    answer = client.get(f"/embeddings/{embedded}/tiles/{z}/{t.x}/{t.y}?version={told['version']}")
    assert answer.status_code == 200
    assert "max-age" in answer.headers["cache-control"]
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    bounds = grid.xy_bounds(t)
    agree = total = 0
    for r in range(8, 256, 16):
        for c in range(8, 256, 16):
            east_m = bounds.left + (c + 0.5) / 256 * (bounds.right - bounds.left)
            north_m = bounds.top - (r + 0.5) / 256 * (bounds.top - bounds.bottom)
            (px,), (py,) = transform("EPSG:3857", embedding.crs, [east_m], [north_m])
            column, row = ~embedding.scene_transform @ (px, py)
            if 0 <= row < drawn.shape[0] and 0 <= column < drawn.shape[1]:
                total += 1
                value = int(drawn[int(row), int(column)])
                expected = colors[value] if value < 2 else (0, 0, 0, 0)
                agree += tuple(int(v) for v in pixels[r, c]) == expected
            else:
                assert pixels[r, c, 3] == 0
    assert total > 20
    assert agree >= 0.98 * total  # borders may lie within pixels
    away = client.get(f"/embeddings/{embedded}/tiles/{z}/0/0")
    assert away.status_code == 204

    found = client.post(
        f"/embeddings/{embedded}/search", json={"at": [[lon[west], lat[west]]], "top": 3}
    ).json()["features"]
    assert [f["properties"]["rank"] for f in found] == list(range(1, len(found) + 1))
    assert put(client, embedded, []).json()["map"] is None  # all undone
    assert client.get(f"/embeddings/{embedded}/labels.gpkg").status_code == 404


def test_labels_survive_the_server_and_each_user_has_own_ones(
    settings: Settings, embedded: str, tmp_path: Path
) -> None:
    _, lon, lat = patch_places(settings, embedded)
    features = [point(lon[0], lat[0], "a"), point(lon[-1], lat[-1], "b")]
    with TestClient(create_app(settings)) as first:
        told = put(first, embedded, features).json()["map"]
    tokens = tmp_path / "tokens"
    boss = {"Authorization": f"Bearer {add_token(tokens, 'boss', 'admin')}"}
    anna = {"Authorization": f"Bearer {add_token(tokens, 'anna', 'run')}"}
    with TestClient(create_app(settings)) as second:
        assert second.get(f"/embeddings/{embedded}/labels").json()["map"] == told
    with TestClient(create_app(replace(settings, token_file=tokens))) as third:
        path = f"/embeddings/{embedded}/labels"
        assert third.get(path, headers=boss).json()["map"] is None  # others' are kept apart
        assert third.get(path, headers=anna).status_code == 404  # another's job
        assert third.get(path).status_code == 401
        answer = third.post(f"/embeddings/{embedded}/application", json={"name": "x"}, headers=anna)
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("features", "status"),
    [
        ([{"type": "Feature"}], 400),
        ([{"geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}], 400),
        ([point(1, 2, " ")], 400),
        ([point(1, 2, "x" * 200)], 400),
        ([{"geometry": {"type": "Point", "coordinates": []}, "properties": {"class": "a"}}], 400),
        ([point(0, 0, "a")] * 5001, 413),
    ],
)
def test_bad_labels_are_refused(
    client: TestClient, embedded: str, features: list[dict[str, Any]], status: int
) -> None:
    answer = put(client, embedded, features)
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert "/tmp" not in detail


def test_labels_of_other_places_can_be_mended(
    client: TestClient, settings: Settings, embedded: str
) -> None:
    """They are kept, and what is wrong is told by all routes that need a map."""
    path = f"/embeddings/{embedded}"
    answer = put(client, embedded, [point(1, 2, "a"), point(3, 4, "b")])
    assert answer.status_code == 200
    told = answer.json()
    assert told["map"] is None
    assert told["reason"].startswith("none of the 2 labels is where ")
    kept = client.get(f"{path}/labels").json()
    assert len(kept.pop("labels")["features"]) == 2
    assert kept == told
    assert client.get(f"{path}/accuracy").json()["detail"] == told["reason"]
    assert len(client.get(f"{path}/suggestions").json()["features"]) == 10
    many = [point(1, 2, f"class {number}") for number in range(256)]
    assert "256 classes, and a map 255 at most" in put(client, embedded, many).json()["reason"]

    (file,) = settings.labels.glob("*/*.gpkg")
    file.write_bytes(b"damaged")
    for route in ("labels", "accuracy", "suggestions"):
        answer = client.get(f"{path}/{route}")
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("labels.gpkg cannot be read as labels")
        assert str(settings.folder) not in answer.text
    assert put(client, embedded, []).status_code == 200


def test_suggestions_are_where_no_label_is(
    client: TestClient, settings: Settings, embedded: str
) -> None:
    """Already with one class; a polygon takes all that it covers."""
    embedding, lon, lat = patch_places(settings, embedded)
    labels: list[dict[str, Any]] = []
    for _ in range(3):
        found = client.get(f"/embeddings/{embedded}/suggestions?count=1").json()["features"]
        labels.append({**found[0], "properties": {"class": "a"}})
        put(client, embedded, labels)
    assert len({tuple(one["geometry"]["coordinates"]) for one in labels}) == 3
    west, south, east, north = lon.min() - 1, lat.min() - 1, lon.max() + 1, lat.max() + 1
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    everywhere = {"type": "Polygon", "coordinates": [ring]}
    labels.append({**labels[0], "geometry": everywhere})
    put(client, embedded, labels)
    answer = client.get(f"/embeddings/{embedded}/suggestions")
    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        f"labels are on all of {embedding.name} that has data: no place is left"
    )


def test_labels_that_others_changed_are_not_replaced(
    client: TestClient, settings: Settings, embedded: str
) -> None:
    path = f"/embeddings/{embedded}/labels"
    _, lon, lat = patch_places(settings, embedded)
    first, second = point(lon[0], lat[0], "a"), point(lon[-1], lat[-1], "b")
    seen = client.get(path).headers["etag"]
    answer = put(client, embedded, [first], headers={"If-Match": seen})
    assert answer.status_code == 200
    newer = answer.headers["etag"]
    assert newer == client.get(path).headers["etag"] != seen
    answer = put(client, embedded, [second], headers={"If-Match": seen})  # of another tab
    assert answer.status_code == 409
    assert answer.json()["detail"] == "the labels were changed by others: read them again"
    (kept,) = client.get(path).json()["labels"]["features"]
    assert kept["properties"]["class"] == "a"
    weak = f'W/{newer[:-1]}-gzip"'  # as proxies that compress make it
    assert put(client, embedded, [first, second], headers={"If-Match": weak}).status_code == 200
    assert put(client, embedded, [second]).status_code == 200
    assert put(client, embedded, [], headers={"If-Match": "*"}).headers["etag"] == '"0"'


def test_a_scene_whose_file_was_replaced_is_embedded_again(
    settings: Settings, work_off: Work, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    file = toy_runs.land_scene(tmp_path / "own" / "fine.tif")
    with TestClient(create_app(replace(settings, scene_folders=(tmp_path / "own",)))) as client:
        scene = {"scene": scene_id(client)}
        first = client.post("/embeddings", json=scene).json()["jobID"]
        assert client.post("/embeddings", json=scene).json()["jobID"] == first
        toy_runs.land_scene(file, 140, 140)
        again = client.post("/embeddings", json={"scene": scene_id(client)})
        assert again.status_code == 201
        assert scene_id(client) == scene["scene"]
        second = again.json()["jobID"]
        work_off()
        assert client.post("/embeddings", json=scene).json()["jobID"] == second
        embedding = patch_places(settings, second)[0]
        assert embedding.scene_shape == (140, 140)


def test_other_jobs_have_no_embedding(client: TestClient, embedded: str) -> None:
    assert client.get("/embeddings/" + "0" * 32 + "/labels").status_code == 404
    assert client.post("/embeddings", json={"scene": "0" * 24}).status_code == 404
    for path in ("tilejson.json", "tiles/3/1/1"):
        assert client.get(f"/jobs/{embedded}/{path}").status_code == 404
    assert client.get(f"/jobs/{embedded}/partial.png").status_code == 204
    body = {"at": [[0, 0]]}
    answer = client.post(f"/embeddings/{embedded}/search", json=body)
    assert answer.status_code == 422
    answer = client.post(f"/embeddings/{embedded}/application", json={"name": "Own"})
    assert answer.json()["detail"] == "label at least one place each of two classes"


def test_labels_become_an_application(
    client: TestClient,
    settings: Settings,
    embedded: str,
    work_off: Work,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The training itself is tested elsewhere: here it gets what it needs."""
    seen: dict[str, Any] = {}

    def train(config: Any) -> None:
        seen["config"] = config
        seen["images"] = {p.parts[-3] for p in Path(config.data.root).rglob("Img/*.png")}

    monkeypatch.setattr(runner_module, "train", train)
    monkeypatch.setattr(runner_module, "publish", lambda *a, **k: seen.update(name=a[1], **k))
    _, lon, lat = patch_places(settings, embedded)
    some = range(0, len(lon), max(1, len(lon) // 9))
    features = [point(lon[n], lat[n], "ab"[i % 2]) for i, n in enumerate(some)]
    put(client, embedded, features)
    answer = client.post(f"/embeddings/{embedded}/application", json={"name": "Own map"})
    assert answer.status_code == 201
    work_off()
    job = client.get(f"/jobs/{answer.json()['jobID']}").json()
    assert (job["status"], job["message"]) == ("successful", "")
    assert seen["name"] == "Own map"
    assert seen["registry"] == settings.registry.folder
    assert seen["config"].data.classes == ("a", "b")
    assert seen["images"] == {"train", "val", "test"}
    assert json.dumps(job)
