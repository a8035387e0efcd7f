"""Scenes and maps at addresses, on an S3 server and an HTTP server of the tests' own."""

import functools
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window
from tests.quicker import shallow_backbone

sys.path.append(str(Path(__file__).parents[1]))  # the toys

import toy_runs
from cgeartheye.cli.main import main
from cgeartheye.geo.reader import open_scene
from cgeartheye.geo.remote import address_of, as_path, is_remote, prepare_gdal
from cgeartheye.utils.errors import UserError

SIDE = 40  # of the small files


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with shallow_backbone():  # also for those that load it
        yield toy_runs.train_land(tmp_path_factory.mktemp("land"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_runs.land_scene(tmp_path_factory.mktemp("scene") / "scene.tif", 120, 160)


def cut(scene: Path, folder: Path) -> list[Path]:
    """Cut a scene into small files."""
    folder.mkdir()
    with rasterio.open(scene) as file:
        for row in range(0, file.height, SIDE):
            for column in range(0, file.width, SIDE):
                window = Window(column, row, SIDE, SIDE)
                profile = file.profile | {
                    "width": SIDE,
                    "height": SIDE,
                    "transform": file.window_transform(window),
                }
                with rasterio.open(folder / f"{row}-{column}.tif", "w", **profile) as piece:
                    piece.write(file.read(window=window))
    return sorted(folder.iterdir())


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_many_small_files_of_a_bucket_are_mapped_into_it(
    bucket: Any, run: Path, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in cut(scene, tmp_path / "pieces"):
        bucket.put(f"scenes/2025/{path.name}", path)
    bucket.put("scenes/notes.txt", b"no raster")
    name = bucket.config["bucket"]
    written: list[str] = []
    put = type(bucket).put
    monkeypatch.setattr(
        type(bucket), "put", lambda s, key, *a: written.append(key) or put(s, key, *a)
    )
    source, out = f"s3://{name}/scenes/", f"s3://{name}/maps/land"
    assert command("map", run, source, "--out", out, "--vector-format", "geojson") == 0
    assert command("map", run, tmp_path / "pieces", "--out", tmp_path / "map") == 0
    assert written[-1] == "maps/land/map.json"  # who sees it finds all others
    assert {f"maps/land/map.{ending}" for ending in ("tif", "geojson", "json")} <= set(written)
    assert bytes(bucket.get("maps/land/map.tif").bytes()) == (tmp_path / "map/map.tif").read_bytes()
    facts = json.loads(bytes(bucket.get("maps/land/map.json").bytes()))
    assert facts["settings"]["scenes"][0][0] == f"s3://{name}/scenes/2025/0-0.tif"
    assert not any((tmp_path / "cache").rglob("map.tif"))
    with rasterio.open(as_path(f"{out}/map.tif")) as file, rasterio.open(scene) as whole:
        assert file.shape == whole.shape

    # The same again is refused before any work.
    assert command("map", run, source, "--out", out) == 2


def test_what_was_not_written_is_written_by_resume(
    bucket: Any, run: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"s3://{bucket.config['bucket']}/maps"
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            from obstore.exceptions import GenericError

            raise GenericError("the network is away")

        broken.setattr(type(bucket), "put", fail)
        assert command("map", run, scene, "--out", out) == 2
    monkeypatch.setattr("cgeartheye.mapping.pipeline.Mapper.run", lambda *_: pytest.fail("again"))
    assert command("map", run, scene, "--out", out, "--resume") == 0
    assert {entry["path"] for page in bucket.list("maps") for entry in page} >= {
        "maps/map.tif",
        "maps/map.json",
    }


def test_tiles_of_a_map_are_written_too(bucket: Any, run: Path, scene: Path) -> None:
    import pystac

    out = f"s3://{bucket.config['bucket']}/maps/land"
    assert command("map", run, scene, "--out", out, "--tiles", 60) == 0
    names = {entry["path"] for page in bucket.list("maps/land") for entry in page}
    content = json.loads(bytes(bucket.get("maps/land/collection.json").bytes()))
    collection = pystac.Collection.from_dict(content)
    assert collection.id == "land"
    items = [link.href for link in collection.get_item_links()]
    assert len(items) == 9
    for href in items:
        assert f"maps/land/{href.removeprefix('./')}" in names
    assert not any("unfinished" in name for name in names)
    prepare_gdal()
    with rasterio.open(as_path(f"{out}/map.vrt")) as file, rasterio.open(scene) as whole:
        assert file.shape == whole.shape
        assert (file.read(1) != 255).all()


def test_mistakes_are_one_sentence(
    bucket: Any,
    run: Path,
    scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = bucket.config["bucket"]
    for address, words in (
        (f"s3://{name}/none", "holds no rasters"),
        ("s3://gone/scenes", "there is no bucket gone"),
        (f"s3://{name}/none.tif", f"s3://{name}/none.tif cannot be opened"),
    ):
        with pytest.raises(UserError, match=words):
            open_scene([as_path(address)])
    for more in ([], ["--part", "0/2"]):
        capsys.readouterr()
        assert command("map", run, scene, "--out", "https://127.0.0.1:1/x", *more) == 2
        assert "cannot be written: name a folder, or s3://" in capsys.readouterr().err
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    capsys.readouterr()
    for more in ([], ["--part", "0/2"], ["--cluster", "local"]):
        assert command("map", run, scene, "--out", f"s3://{name}/map", *more) == 2
        found = capsys.readouterr().err
        assert found.count("needs credentials: set AWS_ACCESS_KEY_ID") == 1
        assert "Traceback" not in found
    with pytest.raises(UserError, match="needs credentials: set AWS_ACCESS_KEY_ID"):
        open_scene([as_path(f"s3://{name}/scene.tif")])


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ranges of a file, and leads elsewhere."""

    content = b""

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(self.content)

    def answer(self, content: bytes) -> None:
        if "elsewhere" in self.path:
            self.send_response(302)
            self.send_header("Location", "/scene.tif")
            self.end_headers()
            return
        first, last = 0, len(self.content) - 1
        if given := self.headers.get("Range"):
            first, last = (int(n) for n in given.removeprefix("bytes=").split("-"))
            last = min(last, len(self.content) - 1)
        self.send_response(206 if given else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"one"')
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(scene: Path) -> Iterator[str]:
    handler = type("Own", (Handler,), {"content": scene.read_bytes()})
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler))
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_a_scene_at_an_address_is_the_scene(web: str, scene: Path) -> None:
    there, here = open_scene([as_path(f"{web}/scene.tif")]), open_scene([scene])
    rows, columns = (10, 50), (20, 100)
    np.testing.assert_array_equal(there.read(rows, columns)[0], here.read(rows, columns)[0])
    assert there.name == f"{web}/scene.tif"
    assert there.identity == {"scenes": [(f"{web}/scene.tif", scene.stat().st_size, '"one"')]}
    with pytest.raises(UserError, match="leads to another address"):
        open_scene([as_path(f"{web}/elsewhere.tif")]).identity  # noqa: B018


def test_paths_and_addresses() -> None:
    for address in ("s3://bucket/a/b.tif", "https://host/a//b.tif?x=1&y=%20", "http://h:8/c.tif"):
        assert is_remote(as_path(address))
        assert address_of(as_path(address)) == address
        assert Path(str(as_path(address))) == as_path(address).resolve()
    assert not is_remote(as_path("data/scene.tif"))
    assert address_of(Path("data/scene.tif")) == "data/scene.tif"
