"""The HTTP API: OGC API - Processes, scenes, tiles, tokens; and what is refused."""

import io
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from httpx import Response
from hypothesis import given
from hypothesis import strategies as st
from morecantile import tms
from PIL import Image
from rasterio.warp import transform
from starlette.testclient import TestClient

import toy_runs
from cgeartheye.apps.registry import Registry
from cgeartheye.cli.main import main
from cgeartheye.inference.windows import Axis, strips_of
from cgeartheye.jobs.store import JobStore
from cgeartheye.serve import app as app_module
from cgeartheye.serve import run as run_module
from cgeartheye.serve import scenes as scenes_module
from cgeartheye.serve.app import create_app
from cgeartheye.serve.auth import add_token
from cgeartheye.serve.settings import Settings
from cgeartheye.serve.tiles import is_one_strip

Work = Callable[[], None]


def scene_id(client: TestClient, label: str = "fine.tif") -> str:
    found = client.get("/scenes").json()["scenes"]
    return next(one["id"] for one in found if one["label"] == label)


def execute(
    client: TestClient, inputs: dict[str, Any], process: str = "land", key: str = ""
) -> Response:
    return client.post(
        f"/processes/{process}/execution",
        json={"inputs": inputs},
        headers={"Prefer": "respond-async"} | ({"Idempotency-Key": key} if key else {}),
    )


def refused(response: Response, status: int) -> str:
    """Return the sentence of a refusal, which must be problem+json."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert set(body) == {"type", "title", "status", "detail"}
    detail: str = body["detail"]
    assert "/tmp" not in detail
    assert "Traceback" not in detail
    return detail


def test_landing_conformance_and_processes(client: TestClient) -> None:
    """Requirements /req/core/landingpage-success, conformance-success, process-list-success."""
    landing = client.get("/").json()
    relations = {link["rel"]: link["href"] for link in landing["links"]}
    ogc = "http://www.opengis.net/def/rel/ogc/1.0/"
    assert {"service-desc", f"{ogc}conformance", f"{ogc}processes", f"{ogc}job-list"} <= set(
        relations
    )
    for relation in (f"{ogc}conformance", f"{ogc}processes", f"{ogc}job-list", "service-desc"):
        assert client.get(relations[relation]).status_code == 200
    core = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/core"
    assert core in client.get("/conformance").json()["conformsTo"]
    listed = client.get("/processes").json()["processes"]
    assert [one["id"] for one in listed] == ["change", "land", "things"]
    assert len(client.get("/processes?limit=1").json()["processes"]) == 1


def test_keywords_have_every_class(
    client: TestClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, classes = registry.card("land"), tuple(f"class {number}" for number in range(30))
    monkeypatch.setattr(Registry, "card", lambda *_: card.model_copy(update={"classes": classes}))
    assert client.get("/processes/land").json()["keywords"] == ["semantic segmentation", *classes]


def test_a_process_is_described(client: TestClient) -> None:
    """Requirement /req/core/process-success and the class ogc-process-description."""
    land = client.get("/processes/land").json()
    assert {"sync-execute", "async-execute", "dismiss"} == set(land["jobControlOptions"])
    assert set(land["inputs"]) == {"scene", "area", "options"}
    assert land["inputs"]["scene"]["minOccurs"] == 1
    assert land["inputs"]["area"]["minOccurs"] == 0
    assert "$ref" not in json.dumps(land)
    assert "map" in land["outputs"]
    change = client.get("/processes/change").json()
    assert change["inputs"]["after"]["minOccurs"] == 1
    assert "map" not in client.get("/processes/things").json()["outputs"]
    assert "no application 'x'" in refused(client.get("/processes/x"), 404)


@pytest.mark.filterwarnings("error")
def test_openapi_is_complete(client: TestClient) -> None:
    """Also without operations of the same id, which generators of clients refuse."""
    paths = client.get("/openapi.json").json()["paths"]
    for path in (
        "/processes/{process}/execution",
        "/jobs/{job}/results",
        "/scenes",
        "/conformance",
    ):
        assert path in paths


def test_a_job_from_request_to_result(
    client: TestClient, work_off: Work, settings: Settings, tmp_path: Path, scene_folder: Path
) -> None:
    response = execute(
        client, {"scene": scene_id(client), "options": {"vector_format": ["geojson"]}}
    )
    assert response.status_code == 201
    assert response.headers["preference-applied"] == "respond-async"
    job = response.json()
    assert (job["status"], job["processID"], job["type"]) == ("accepted", "land", "process")
    assert response.headers["location"].endswith(f"/jobs/{job['jobID']}")
    assert "accepted" in refused(client.get(f"/jobs/{job['jobID']}/results"), 404)
    work_off()
    done = client.get(f"/jobs/{job['jobID']}").json()
    assert (done["status"], done["progress"]) == ("successful", 100)
    assert [one["jobID"] for one in client.get("/jobs").json()["jobs"]] == [job["jobID"]]
    results = client.get(f"/jobs/{job['jobID']}/results").json()
    assert set(results) >= {"map", "polygons_geojson", "facts", "preview", "stac"}
    # The map is that of the command line.
    run, scene, out = settings.registry.path("land"), scene_folder / "fine.tif", tmp_path / "map"
    with pytest.raises(SystemExit, match="0"):
        main(["map", str(run), str(scene), "--out", str(out), "--vector-format", "geojson"])
    served = client.get(results["map"]["href"])
    assert served.content == (tmp_path / "map" / "map.tif").read_bytes()
    part = client.get(results["map"]["href"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, served.content[:4])
    item = pystac.Item.from_dict(client.get(results["stac"]["href"]).json())
    assert item.assets["map"].media_type.startswith("image/tiff")
    assert item.bbox is not None
    assert item.bbox[0] == pytest.approx(117.0, abs=1e-3)
    # Dismissing one that has ended deletes it.
    assert client.delete(f"/jobs/{job['jobID']}").json()["status"] == "dismissed"
    refused(client.get(f"/jobs/{job['jobID']}"), 404)
    assert list(settings.jobs.iterdir()) == []


def test_events_end_with_the_job(client: TestClient, work_off: Work) -> None:
    job = execute(client, {"scene": scene_id(client)}).json()["jobID"]
    work_off()
    lines = client.get(f"/jobs/{job}/events").text.splitlines()
    assert json.loads(lines[1].removeprefix("data: "))["status"] == "successful"


def test_an_area_and_two_dates(client: TestClient, work_off: Work, settings: Settings) -> None:
    scene = scene_id(client)
    west, south, east, north = client.get(f"/scenes/{scene}").json()["bounds"]
    middle = (west + east) / 2
    ring = [[west, south], [middle, south], [middle, north], [west, north], [west, south]]
    area = {"type": "Polygon", "coordinates": [ring]}
    half = client.post("/apps/land/fit", json={"scene": scene, "area": area}).json()
    whole = client.post("/apps/land/fit", json={"scene": scene}).json()
    assert half["square_km"] == pytest.approx(whole["square_km"] / 2, rel=0.01)
    jobs = [
        execute(client, {"scene": scene, "area": area}),
        execute(client, {"scene": scene, "after": scene}, "change"),
        execute(client, {"scene": scene}, "things"),
    ]
    work_off()
    for job in jobs:
        done = client.get(f"/jobs/{job.json()['jobID']}").json()
        assert done["status"] == "successful", done["message"]
    with rasterio.open(settings.jobs / jobs[0].json()["jobID"] / "map" / "map.tif") as file:
        values = file.read(1)
    assert (values[:, -60:] == 255).all()
    assert (values[20:-20, 5:60] != 255).all()
    rates = client.post("/apps/land/fit", json={"scene": scene}).json()
    assert rates["seconds"] > 0


def test_sync_execution_waits(client: TestClient, work_off: Work) -> None:
    url = "/processes/land/execution"
    body = {"inputs": {"scene": scene_id(client)}}
    assert client.post(url, json=body, headers={"Prefer": "wait=0"}).status_code == 201
    work_off()
    key = {"Idempotency-Key": "k"}
    first = execute(client, {"scene": scene_id(client)})
    again = client.post(url, json=body, headers={**key, "Prefer": "respond-async"}).json()["jobID"]
    assert again != first.json()["jobID"]
    work_off()
    answer = client.post(url, json=body, headers=key)  # the same job, which has ended
    assert answer.status_code == 200
    assert again in answer.json()["map"]["href"]


def test_a_failing_job_says_why(
    client: TestClient, work_off: Work, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (settings.scene_folders[0] / "fine.tif").read_bytes()
    scene = client.post("/scenes?name=mine.tif", content=content).json()["id"]
    job = execute(client, {"scene": scene}).json()["jobID"]
    path = settings.uploads / f"{scene}.tif"
    path.write_bytes(content[:2000])
    work_off()
    failed = client.get(f"/jobs/{job}").json()
    assert failed["status"] == "failed"
    assert f"{scene}.tif" in failed["message"]
    assert str(settings.folder) not in failed["message"]
    refused(client.get(f"/jobs/{job}/results"), 422)


def test_tiles_have_the_colors_of_the_map(
    client: TestClient, work_off: Work, settings: Settings
) -> None:
    scene = scene_id(client)
    job = execute(client, {"scene": scene}).json()["jobID"]
    work_off()
    made = client.get(f"/jobs/{job}/tilejson.json").json()
    card = settings.registry.card("land")
    assert [tuple(one["color"]) for one in made["legend"]] == list(card.colors)
    with rasterio.open(settings.jobs / job / "map" / "map.tif") as file:
        values, place, crs = file.read(1), file.transform, file.crs
    # A pixel far from other classes, looked for in the tile that it lies in.
    for row in range(10, 100, 7):
        for column in range(10, 160, 11):
            around = values[row - 2 : row + 3, column - 2 : column + 3]
            if (around != around[0, 0]).any():
                continue
            x, y = place @ (column + 0.5, row + 0.5)
            (lon,), (lat,) = transform(crs, "EPSG:4326", [x], [y])
            grid = tms.get("WebMercatorQuad")
            tile = grid.tile(lon, lat, made["maxzoom"])
            answer = client.get(f"/jobs/{job}/tiles/{tile.z}/{tile.x}/{tile.y}")
            assert answer.headers["content-type"] == "image/png"
            picture = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
            bounds = grid.xy_bounds(tile)
            (mx,), (my,) = transform("EPSG:4326", "EPSG:3857", [lon], [lat])
            across = int(256 * (mx - bounds.left) / (bounds.right - bounds.left))
            down = int(256 * (bounds.top - my) / (bounds.top - bounds.bottom))
            assert tuple(picture[down, across]) == (*card.colors[values[row, column]], 255)
    picture = client.get(f"/scenes/{scene}/tiles/{tile.z}/{tile.x}/{tile.y}")
    assert picture.status_code == 200
    tag = {"If-None-Match": picture.headers["etag"]}
    assert (
        client.get(f"/scenes/{scene}/tiles/{tile.z}/{tile.x}/{tile.y}", headers=tag).status_code
        == 304
    )
    assert client.get(f"/scenes/{scene}/tiles/{tile.z}/0/0").status_code == 204
    refused(client.get(f"/scenes/{scene}/tiles/3/9/0"), 404)
    assert client.get(f"/scenes/{scene}/tilejson.json").json()["maxzoom"] == made["maxzoom"]


def test_the_first_rows_can_be_seen(client: TestClient, settings: Settings) -> None:
    scene = scene_id(client)
    job = execute(client, {"scene": scene}).json()["jobID"]
    assert client.get(f"/jobs/{job}/partial.png").status_code == 204
    store = JobStore(settings.store)
    claimed = store.claim("w", 60)
    assert claimed is not None
    store.beat(claimed, 60, 3, 4)
    rows = np.full((112, 168), 1, np.uint8)
    rows[84:] = 0  # not yet written
    folder = settings.jobs / job / "map" / "unfinished"
    folder.mkdir(parents=True)
    rows.tofile(folder / "classes.raw")
    answer = client.get(f"/jobs/{job}/partial.png")
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture.shape == (112, 168, 4)
    color = settings.registry.card("land").colors[1]
    shown = picture[..., 3] > 0
    assert (picture[shown][:, :3] == color).all()
    # Nothing is shown that is not final: a window less than three quarters of the rows.
    assert 0 < shown[:, 0].sum() <= 84 - 55
    assert len(json.loads(answer.headers["x-corners"])) == 4
    store.close()


def test_uploads(client: TestClient, settings: Settings) -> None:
    content = (settings.scene_folders[0] / "fine.tif").read_bytes()
    made = client.post("/scenes", params={"name": "../<b>x</b>\n.tif"}, content=content)
    assert made.status_code == 201
    scene = made.json()
    assert scene["label"] == "b>.tif"  # the last name, without what cannot be shown
    assert (scene["width"], scene["height"], scene["crs"]) == (168, 112, "EPSG:32650")
    assert client.get(f"/scenes/{scene['id']}").json() == scene
    assert {path.suffix for path in settings.uploads.iterdir()} == {".tif", ".json"}
    assert client.delete(f"/scenes/{scene['id']}").status_code == 204
    assert list(settings.uploads.iterdir()) == []
    refused(client.get(f"/scenes/{scene['id']}"), 404)
    assert "read only" in refused(client.delete(f"/scenes/{scene_id(client)}"), 403)


def test_uploads_are_looked_at_two_at_a_time(
    client: TestClient, scene_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take gigabytes; other answers do not wait for them."""
    looking, most, enough = set[int](), [0], threading.Event()

    def slowly(path: Path) -> dict[str, Any]:
        looking.add(threading.get_ident())
        most[0] = max(most[0], len(looking))
        enough.wait(30)
        looking.discard(threading.get_ident())
        return facts

    facts = client.get("/scenes").json()["scenes"][0]
    facts = {name: facts[name] for name in facts.keys() - {"id", "label", "uploaded"}}
    monkeypatch.setattr(scenes_module, "describe_safely", slowly)
    content = (scene_folder / "fine.tif").read_bytes()
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(client.post, "/scenes", content=content) for _ in range(12)]
        limit = time.monotonic() + 20
        while len(looking) < 2 and time.monotonic() < limit:
            time.sleep(0.01)
        for _ in range(12):
            assert client.get("/scenes").status_code == 200
        enough.set()
        assert [one.result().status_code for one in answers] == [201] * 12
    assert most == [2]


def test_few_threads_answer(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps rasters and a connection open, so memory would grow with them.

    The server's health can be asked for while all of them are at work.
    """
    answering, most, lock, enough = [0], [0], threading.Lock(), threading.Event()
    overview = scenes_module.Scenes.overview

    def slowly(*args: Any) -> Any:
        with lock:
            answering[0] += 1
            most[0] = max(most[0], answering[0])
        enough.wait(30)
        with lock:
            answering[0] -= 1
        return overview(*args)

    monkeypatch.setattr(scenes_module.Scenes, "overview", slowly)
    monkeypatch.setattr(app_module, "_THREADS", 3)
    with TestClient(client.app) as again, ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(again.get, "/scenes") for _ in range(12)]
        limit = time.monotonic() + 20
        while answering[0] < 3 and time.monotonic() < limit:
            time.sleep(0.01)
        assert again.get("/health").json()["status"] == "ok"
        assert answering == [3]
        enough.set()
        assert [one.result().status_code for one in answers] == [200] * 12
    assert most == [3]


def test_a_large_upload_gets_overviews(
    client: TestClient, settings: Settings, tmp_path: Path
) -> None:
    path = toy_runs.land_scene(tmp_path / "large.tif", 200, 1100)
    scene = client.post("/scenes", content=path.read_bytes()).json()
    with rasterio.open(settings.uploads / f"{scene['id']}.tif") as file:
        assert file.overviews(1) == [2, 4]
        np.testing.assert_array_equal(file.read(), rasterio.open(path).read())


VRT = b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "empty"),
        (b"hello", 415, "send a GeoTIFF"),
        (VRT, 415, "send a GeoTIFF"),
        (b"II*\0" + bytes(100), 422, "cannot be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), 422, "cannot be read"),
    ],
)
def test_uploads_that_are_no_scene(
    client: TestClient, settings: Settings, content: bytes, status: int, words: str
) -> None:
    assert words in refused(client.post("/scenes", content=content), status)
    assert list(settings.uploads.iterdir()) == []


def test_a_truncated_and_a_placeless_upload(client: TestClient, settings: Settings) -> None:
    content = (settings.scene_folders[0] / "fine.tif").read_bytes()
    refused(client.post("/scenes", content=content[:600]), 422)
    stream = io.BytesIO()
    Image.new("RGB", (40, 40)).save(stream, "PNG")
    assert "no CRS" in refused(client.post("/scenes", content=stream.getvalue()), 422)


def test_scenes_that_cannot_be_mapped_are_named(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    shutil.copy(settings.scene_folders[0] / "fine.tif", folder)
    with rasterio.open(folder / "lost.tif", "w", "GTiff", 8, 8, 3, dtype="uint8") as file:
        file.write(np.zeros((3, 8, 8), np.uint8))
    (folder / "broken.tif").write_text("nothing")
    with TestClient(create_app(replace(settings, scene_folders=(folder,)))) as client:
        capfd.readouterr()
        answers = [client.get("/scenes").json() for _ in range(2)]
        log = capfd.readouterr().err
        assert answers[0] == answers[1]
        assert [one["label"] for one in answers[0]["scenes"]] == ["fine.tif"]
        reasons = {one["label"]: one["reason"] for one in answers[0]["left_out"]}
        assert set(reasons) == {"broken.tif", "lost.tif"}
        assert "lost.tif has no CRS or no place in it: write both" in reasons["lost.tif"]
        assert "--crs" not in reasons["lost.tif"]  # which the server has not
        assert str(tmp_path) not in "".join(reasons.values())
        assert "NotGeoreferenced" not in log
        events = [json.loads(line) for line in log.splitlines()]
        logged = [one["scene"] for one in events if one["event"] == "scene left out"]
        assert sorted(logged) == ["broken.tif", "lost.tif"]  # once each


def test_limits(settings: Settings) -> None:
    content = (settings.scene_folders[0] / "fine.tif").read_bytes()
    tight = replace(settings, max_upload=1000, max_area=1e-6, max_queued=1)
    with TestClient(create_app(tight)) as client:
        assert "larger than" in refused(client.post("/scenes", content=content), 413)
        chunks = (content[i : i + 500] for i in range(0, len(content), 500))
        assert "larger than" in refused(client.post("/scenes", content=chunks), 413)
        assert list(settings.uploads.iterdir()) == []
        scene = scene_id(client)
        assert "draw a smaller area" in refused(execute(client, {"scene": scene}), 413)
    with TestClient(create_app(replace(settings, max_queued=1))) as client:
        assert execute(client, {"scene": scene}).status_code == 201
        response = execute(client, {"scene": scene})
        assert "are allowed" in refused(response, 429)
        assert response.headers["retry-after"] == "30"
    with TestClient(create_app(settings)) as client:
        first = execute(client, {"scene": scene}, key="one").json()
    with TestClient(create_app(replace(settings, max_queued=1))) as client:
        # A key that is known is the same job, whatever else waits.
        assert execute(client, {"scene": scene}, key="one").json()["jobID"] == first["jobID"]
    with TestClient(create_app(replace(settings, max_disk=0))) as client:
        assert "no room" in refused(client.post("/scenes", content=content), 507)
    # Jobs that wait are counted with what they will need, uploads with what they are.
    waiting = 2 * 3 * 112 * 168
    with TestClient(create_app(replace(settings, max_disk=waiting + len(content) + 999))) as client:
        assert client.post("/scenes", content=content).status_code == 201
        assert "no room" in refused(client.post("/scenes", content=content), 507)
        assert "no room" in refused(execute(client, {"scene": scene}), 507)
    with TestClient(create_app(replace(settings, requests_per_second=0.2))) as client:
        answers = [client.get("/scenes").status_code for _ in range(3)]
        assert answers == [200, 200, 429]


def test_what_does_not_fit_is_refused(client: TestClient) -> None:
    fine, coarse = scene_id(client), scene_id(client, "coarse.tif")
    labels = [one["label"] for one in client.get("/scenes").json()["scenes"]]
    assert labels == ["coarse.tif", "fine.tif"]  # what cannot be read is not offered
    assert "too small here" in refused(execute(client, {"scene": coarse}), 422)
    said = client.post("/apps/land/fit", json={"scene": coarse}).json()
    assert not said["ok"]
    assert "5.00 m/px" in said["problems"][0]
    assert "sees two dates" in refused(execute(client, {"scene": fine}, "change"), 422)
    outside = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    assert "outside of the scene" in refused(execute(client, {"scene": fine, "area": outside}), 422)
    threshold = {"scene": fine, "options": {"score_threshold": 0.5}}
    assert "detect objects" in refused(execute(client, threshold), 422)


@pytest.mark.parametrize(
    "area",
    [
        {"type": "Point", "coordinates": [0, 0]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[[500, 0], [501, 0], [501, 1], [500, 0]]]},
        {"type": "Polygon", "coordinates": "x"},
        {"type": "x"},
        {},
    ],
)
def test_areas_that_are_none(client: TestClient, area: dict[str, Any]) -> None:
    assert "inputs.area" in refused(execute(client, {"scene": scene_id(client), "area": area}), 400)


@pytest.mark.parametrize(
    "scene",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "http://127.0.0.1/x.tif",
        "s3://a/b.tif",
        "0" * 24,
        "",
        "%2e",
    ],
)
def test_nothing_but_an_id_names_a_scene(client: TestClient, scene: str) -> None:
    refused(execute(client, {"scene": scene}), 404)
    assert client.get(f"/scenes/{scene}/tiles/0/0/0").status_code == 404
    assert client.get(f"/jobs/{scene}/results/map.tif").status_code == 404


def test_only_results_are_served(client: TestClient, work_off: Work, settings: Settings) -> None:
    job = execute(client, {"scene": scene_id(client)}).json()["jobID"]
    work_off()
    (settings.jobs / job / "map" / "secret.txt").write_text("x")
    for name in ("secret.txt", "..%2fjobs.sqlite", "%2e%2e/jobs.sqlite", "ledger.sqlite"):
        assert client.get(f"/jobs/{job}/results/{name}").status_code == 404
    assert client.get("/static/..%2fapp.py").status_code == 404


def test_wrong_bodies(client: TestClient) -> None:
    url = "/processes/land/execution"
    assert "scene" in refused(client.post(url, json={"inputs": {}}), 400)
    assert "inputs" in refused(client.post(url, json={}), 400)
    assert "nothing" in refused(
        client.post(url, json={"inputs": {"scene": "x", "nothing": 1}}), 400
    )
    for inputs, words in (
        ({"scen": "x"}, "inputs.scen: no such field (did you mean 'scene'?)"),
        (
            {"scene": "x", "options": {"min_are": 1}},
            "inputs.options.min_are: no such field (did you mean 'min_area'?)",
        ),
    ):
        assert refused(client.post(url, json={"inputs": inputs}), 400) == words
        assert refused(client.post("/apps/land/fit", json=inputs), 400) == words.removeprefix(
            "inputs."
        )
    assert "Content-Type: application/json" in refused(client.post(url, content=b"{}"), 400)
    header = {"Content-Type": "application/json"}
    words = refused(client.post(url, content=b'{"inputs"', headers=header), 400)
    assert words == "the body is no JSON: Expecting ':' delimiter at character 9"
    named = execute(client, {"scene": "fine.tif"})
    assert "GET /scenes has the ids" in refused(named, 404)
    options = {"inputs": {"scene": scene_id(client), "options": {"overlap": 2}}}
    assert "overlap" in refused(client.post(url, json=options), 400)
    refused(client.get("/nowhere"), 404)
    refused(client.put("/scenes"), 405)


def test_tokens(settings: Settings, tmp_path: Path, work_off: Work) -> None:
    path = tmp_path / "tokens"
    tokens = {
        name: add_token(path, name, scope)
        for name, scope in (("reader", "read"), ("ann", "run"), ("bob", "run"), ("root", "admin"))
    }
    for token in tokens.values():
        assert token not in path.read_text()
    with TestClient(create_app(replace(settings, token_file=path))) as client:

        def head(name: str) -> dict[str, str]:
            return {"Authorization": f"Bearer {tokens[name]}"}

        refused(client.get("/scenes"), 401)
        assert "not known" in refused(
            client.get("/scenes", headers={"Authorization": "Bearer x"}), 401
        )
        assert client.get("/health").status_code == 200
        scene = client.get("/scenes", headers=head("reader")).json()["scenes"][1]["id"]
        body = {"inputs": {"scene": scene}}
        run = "/processes/land/execution"
        wait = {"Prefer": "respond-async"}
        assert "scope 'run'" in refused(
            client.post(run, json=body, headers=head("reader") | wait), 403
        )
        job = client.post(run, json=body, headers=head("ann") | wait).json()["jobID"]
        # Another's job and another's scene are not there.
        refused(client.get(f"/jobs/{job}", headers=head("bob")), 404)
        refused(client.delete(f"/jobs/{job}", headers=head("bob")), 404)
        assert client.get("/jobs", headers=head("bob")).json()["jobs"] == []
        assert client.get(f"/jobs/{job}", headers=head("root")).status_code == 200
        content = (settings.scene_folders[0] / "fine.tif").read_bytes()
        own = client.post("/scenes", content=content, headers=head("ann")).json()["id"]
        refused(client.get(f"/scenes/{own}", headers=head("bob")), 404)
        refused(client.get("/metrics", headers=head("ann")), 403)
        assert "cgeartheye_jobs" in client.get("/metrics", headers=head("root")).text
        # The page keeps the token in a cookie that scripts cannot read.
        cookie = client.post("/session", json={"token": tokens["ann"]}).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert client.get(f"/jobs/{job}").status_code == 200
        foreign = client.delete(f"/jobs/{job}", headers={"Origin": "https://elsewhere.example"})
        assert "other sites" in refused(foreign, 403)
        # A line that goes takes its token with it.
        path.write_text("".join(x for x in path.read_text().splitlines(True) if "ann" not in x))
        refused(client.get(f"/jobs/{job}"), 401)


def test_an_open_server_needs_tokens(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--host", "0.0.0.0", "--folder", str(tmp_path / "x")])
    assert "make tokens" in capsys.readouterr().err


def test_pages_keep_to_themselves(client: TestClient) -> None:
    headers = client.get("/health").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_interrupted_uploads_leave_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.uploads.mkdir(parents=True)
    (settings.uploads / "0.partial").write_text("of a server that was killed")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with TestClient(create_app(settings)) as client:
        assert list(settings.uploads.iterdir()) == []
        monkeypatch.setattr(scenes_module.os, "fsync", full)
        content = (settings.scene_folders[0] / "fine.tif").read_bytes()
        assert "No space left" in refused(client.post("/scenes", content=content), 507)
        assert list(settings.uploads.iterdir()) == []


def test_results_go_after_their_days(settings: Settings, work_off: Work) -> None:
    with TestClient(create_app(settings)) as client:
        job = execute(client, {"scene": scene_id(client)}).json()["jobID"]
        work_off()
    with TestClient(create_app(replace(settings, keep_days=0))) as client:
        client.app.state.cgeartheye.tidy()  # type: ignore[attr-defined]
        refused(client.get(f"/jobs/{job}"), 404)
    assert list(settings.jobs.iterdir()) == []


def test_the_server_imports_no_pytorch() -> None:
    import subprocess

    code = "import cgeartheye.serve.run, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_scene_that_is_replaced_is_not_taken_from_a_cache(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    path = toy_runs.land_scene(folder / "scene.tif")
    with TestClient(create_app(replace(settings, scene_folders=(folder,)))) as client:
        (scene,) = client.get("/scenes").json()["scenes"]
        made = client.get(f"/scenes/{scene['id']}/tilejson.json").json()
        tile = tms.get("WebMercatorQuad").tile(*made["center"][:2], made["maxzoom"])
        place = f"/scenes/{scene['id']}/tiles/{tile.z}/{tile.x}/{tile.y}"
        before = client.get(place)
        assert before.headers["cache-control"] == "no-cache"
        toy_runs.write_scene(path, np.full((112, 168, 3), 77, np.uint8))
        after = client.get(place, headers={"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200
        picture = np.asarray(Image.open(io.BytesIO(after.content)).convert("RGBA"))
        assert (picture[picture[..., 3] == 255][:, :3] == 77).all()
        path.unlink()
        refused(client.get(place), 404)


def test_a_scene_is_found_without_looking_through_all(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_id(client)
    monkeypatch.setattr(Path, "rglob", None)  # a tile costs no walk
    assert client.get(f"/scenes/{scene}/tiles/0/0/0").status_code in (200, 204)


@given(
    columns=st.integers(1, 200_000),
    window=st.integers(14, 1024),
    classes=st.integers(1, 255),
    ratio=st.floats(0.3, 3),
)
def test_first_rows_are_shown_of_maps_in_one_strip_only(
    columns: int, window: int, classes: int, ratio: float
) -> None:
    axis = Axis(max(1, round(columns * ratio)), columns)
    if is_one_strip(columns, window, classes):
        assert strips_of(axis, window, classes) == 1


def test_no_password_is_among_the_arguments_of_a_worker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
            started.append((command, env))

        def __class_getitem__(cls, _: object) -> type:
            return cls

        def poll(self) -> int:
            return 0

        terminate = kill = poll

        def wait(self, timeout: float) -> int:
            return 0

    monkeypatch.setattr(run_module.subprocess, "Popen", Process)
    url = "postgresql://me:secret@host/jobs"
    with run_module._workers(replace(settings, database=url), 1):
        pass
    ((command, env),) = started
    assert "secret" not in " ".join(command)
    assert env["CGEARTHEYE_DATABASE"] == url
