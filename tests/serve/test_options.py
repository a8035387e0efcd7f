"""Options of a map and mosaics, asked of the server: the files are those of the command."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.windows import Window
from starlette.testclient import TestClient

import toy_runs
from cgeartheye.cli.main import main
from cgeartheye.serve.app import create_app
from cgeartheye.serve.settings import Settings


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """A scene in two files."""
    whole = toy_runs.land_scene(tmp_path / "whole.tif", 112, 168)
    folder = tmp_path / "halves"
    folder.mkdir()
    with rasterio.open(whole) as file:
        for name, column in (("west", 0), ("east", 84)):
            window = Window(column, 0, 84, 112)
            place = {"width": 84, "transform": file.window_transform(window)}
            with rasterio.open(folder / f"{name}.tif", "w", **(file.profile | place)) as half:
                half.write(file.read(window=window))
    return folder


def asked(client: TestClient, app: str, inputs: dict[str, Any]) -> Any:
    headers = {"Prefer": "respond-async"}
    return client.post(f"/processes/{app}/execution", json={"inputs": inputs}, headers=headers)


def test_a_mosaic_with_options_is_that_of_the_command(
    settings: Settings, halves: Path, work_off: Callable[[], None], tmp_path: Path
) -> None:
    own = replace(settings, scene_folders=(halves,))
    with TestClient(create_app(own), raise_server_exceptions=False) as client:
        scenes = {one["label"]: one for one in client.get("/scenes").json()["scenes"]}
        ids = [scenes[name]["id"] for name in ("west.tif", "east.tif")]
        options = {"min_area": 40.0, "smooth": True, "vector_format": ["geojson"]}
        fit = client.post("/apps/land/fit", json={"scene": ids}).json()
        both = sum(one["square_km"] for one in scenes.values())
        assert fit["square_km"] == pytest.approx(both)
        job = asked(client, "land", {"scene": ids, "options": options}).json()
        assert job["cgeartheye:bounds"][0] == scenes["west.tif"]["bounds"][0]
        assert job["cgeartheye:bounds"][2] == scenes["east.tif"]["bounds"][2]
        work_off()
        state = client.get(f"/jobs/{job['jobID']}").json()
        assert (state["status"], state["message"]) == ("successful", "")
        out = tmp_path / "command"
        command = ["map", str(settings.registry.path("land"))]
        command += [str(halves / name) for name in ("west.tif", "east.tif")]
        command += ["--min-area", "40", "--smooth", "--vector-format", "geojson"]
        with pytest.raises(SystemExit, match="0"):
            main([*command, "--out", str(out)])
        for name in ("map.tif", "map.geojson"):
            result = client.get(f"/jobs/{job['jobID']}/results/{name}")
            assert result.content == (out / name).read_bytes()


def test_options_of_other_models_are_refused(settings: Settings) -> None:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        scene = next(
            one["id"]
            for one in client.get("/scenes").json()["scenes"]
            if one["label"] == "fine.tif"
        )
        for app, options, status, words in (
            ("things", {"smooth": True}, 422, "are for maps of pixels"),
            ("things", {"min_area": 5}, 422, "are for maps of pixels"),
            ("land", {"min_area": 5, "vector_format": []}, 422, "need a vector_format"),
            ("land", {"min_area": 0}, 400, "greater than 0"),
            ("land", {"vector_format": ["dwg"]}, 400, "'gpkg'"),
            ("land", {"score_threshold": 0.5}, 422, "detect objects"),
        ):
            answer = asked(client, app, {"scene": scene, "options": options})
            assert answer.status_code == status, answer.text
            assert words in answer.json()["detail"]
