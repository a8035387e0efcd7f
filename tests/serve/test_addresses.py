"""Scenes at addresses that the operator names, and what is refused of them."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cgeartheye.geo.remote import as_path
from cgeartheye.jobs.store import JobStore
from cgeartheye.serve import scenes as scenes_module
from cgeartheye.serve.app import create_app
from cgeartheye.serve.scenes import refuse_private
from cgeartheye.serve.settings import Settings
from cgeartheye.utils.errors import UserError


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ranges of files; `moved` of them lead to another server."""

    files: dict[str, bytes]
    moved: dict[str, str]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path in self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved[self.path])
            self.end_headers()
            return
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        first, last = 0, len(content) - 1
        if given := self.headers.get("Range"):
            first, last = (int(n) for n in given.removeprefix("bytes=").split("-"))
            last = min(last, len(content) - 1)
        self.send_response(206 if given else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[first : last + 1])

    def log_message(self, *_: object) -> None:
        pass


Web = tuple[str, type[Handler]]


@pytest.fixture
def start() -> Iterator[Callable[[], Web]]:
    made: list[http.server.ThreadingHTTPServer] = []

    def begin() -> Web:
        handler = type("Own", (Handler,), {"files": {}, "moved": {}, "asked": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.append(server)
        return f"http://127.0.0.1:{server.server_port}", handler

    yield begin
    for server in made:
        server.shutdown()
        server.server_close()


def labels(client: TestClient) -> list[str]:
    return [one["label"] for one in client.get("/scenes").json()["scenes"]]


def test_a_scene_at_an_address_is_mapped_and_shown(
    start: Callable[[], Web],
    settings: Settings,
    work_off: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, web = start()
    scene = (settings.scene_folders[0] / "fine.tif").read_bytes()
    web.files["/a/fine.tif"] = scene
    address = f"{host}/a/fine.tif?signature=secret"
    web.files["/a/fine.tif?signature=secret"] = scene
    there = replace(settings, scene_folders=(as_path(address),))
    with TestClient(create_app(there), raise_server_exceptions=False) as client:
        (found,) = client.get("/scenes").json()["scenes"]
        assert found["label"] == "fine.tif"
        assert "secret" not in str(found)
        place = client.get(f"/scenes/{found['id']}/tilejson.json").json()
        longitude, latitude, _ = place["center"]
        from rio_tiler.constants import WEB_MERCATOR_TMS

        x, y, z = WEB_MERCATOR_TMS.tile(longitude, latitude, 17)
        tile = client.get(f"/scenes/{found['id']}/tiles/{z}/{x}/{y}")
        assert tile.status_code == 200
        assert (
            client.get(
                f"/scenes/{found['id']}/tiles/{z}/{x}/{y}",
                headers={"If-None-Match": tile.headers["etag"]},
            ).status_code
            == 304
        )
        inputs = {"inputs": {"scene": found["id"]}}
        headers = {"Prefer": "respond-async"}
        job = client.post("/processes/land/execution", json=inputs, headers=headers).json()
        work_off()
        state = client.get(f"/jobs/{job['jobID']}").json()
        assert (state["status"], state["message"]) == ("successful", "")

        # It is gone: so is its scene, and what was asked of it says so without the address.
        store = JobStore(settings.store)
        again = client.post("/processes/land/execution", json=inputs, headers=headers).json()
        web.files.clear()
        monkeypatch.setattr("cgeartheye.geo.remote._known", {})
        work_off()
        said = client.get(f"/jobs/{again['jobID']}").json()
        assert said["status"] == "failed"
        assert "fine.tif" in said["message"]
        assert "secret" not in said["message"]
        assert "127.0.0.1" not in said["message"]
        store.close()
        monkeypatch.setattr(scenes_module, "_LISTED_SECONDS", 0.0)
        assert labels(client) == []
        assert client.get(f"/scenes/{found['id']}/tilejson.json").status_code == 404


def test_one_that_leads_elsewhere_is_not_followed(
    start: Callable[[], Web], settings: Settings
) -> None:
    (host, web), (inside, other) = start(), start()
    other.files["/fine.tif"] = (settings.scene_folders[0] / "fine.tif").read_bytes()
    web.moved["/fine.tif"] = f"{inside}/fine.tif"
    with TestClient(
        create_app(replace(settings, scene_folders=(as_path(f"{host}/fine.tif"),)))
    ) as client:
        assert labels(client) == []
    assert web.asked
    assert other.asked == []


def test_what_opens_other_files_is_no_scene(
    start: Callable[[], Web], settings: Settings, tmp_path: Path
) -> None:
    host, web = start()
    local = settings.scene_folders[0] / "fine.tif"
    web.files["/fine.tif"] = (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>EPSG:32650</SRS>'
        '<GeoTransform>0,1,0,0,0,-1</GeoTransform><VRTRasterBand dataType="Byte" band="1">'
        "<SimpleSource><SourceFilename>"
        f"{local}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode()
    with TestClient(
        create_app(replace(settings, scene_folders=(as_path(f"{host}/fine.tif"),)))
    ) as client:
        assert labels(client) == []


def test_a_name_of_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(place: str) -> Callable[..., list[tuple[object, ...]]]:
        return lambda *_: [(0, 0, 0, "", (place, 0))]

    for place in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "192.168.0.1"):
        monkeypatch.setattr("socket.getaddrinfo", resolved(place))
        with pytest.raises(UserError, match="leads to a private address"):
            refuse_private("https://imagery.example/scene.tif")
    refuse_private("http://10.1.2.3/scene.tif")  # the operator's own words
    refuse_private("s3://bucket/scenes/")
    monkeypatch.setattr("socket.getaddrinfo", resolved("93.184.216.34"))
    refuse_private("https://imagery.example/scene.tif")
