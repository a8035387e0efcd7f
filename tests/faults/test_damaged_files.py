"""Every kind of file that commands read, damaged: a right result, or one sentence."""

import io
import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[1] / name) for name in ("faults", "embeddings")]

import geopandas
import numpy as np
import pandas
import pytest
import rasterio
import shapely
from affine import Affine
from mutations import mutate
from PIL import Image
from tests.conftest import CLASSES, draw_chip
from tests.data.formats.annotated import FORMATS, PLACES, write_data
from tests.quicker import leave_charts_out, shallow_backbone
from toy_embeddings import NORTH_UP, UTM, make

from cgeartheye.cli import main
from cgeartheye.embeddings.labels import frame_of
from cgeartheye.geo.vector_writer import write_vectors
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.mapping.sinks import writer
from cgeartheye.utils.errors import UserError

CASES = 80 if os.environ.get("CGEARTHEYE_FAULTS") == "all" else 2
"""Damaged copies of each kind."""
SECONDS = 60
"""After which a command counts as hanging."""


@dataclass(frozen=True)
class Kind:
    """A file that a command reads."""

    file: str
    command: str
    """Words of the command line; `W` is the folder of all files."""
    result: str = ""
    """A file of which the bytes have to be those of undamaged input, if the command ends well."""


KINDS = [
    Kind("mine.yaml", "config show W/mine.yaml"),
    Kind("mine.yaml", "check W/mine.yaml"),
    Kind("chips/brick/brick_0.png", "check W/mine.yaml"),
    Kind("chips/brick/brick_0.png", "predict W/run W/chips/brick/brick_0.png --out W/p.csv"),
    Kind("photo.jpg", "predict W/run W/photo.jpg --out W/p.json"),
    Kind("run/config.yaml", "predict W/run W/photo.jpg --out W/p.csv"),
    Kind("run/model.json", "predict W/run W/photo.jpg --out W/p.csv"),
    Kind("run/model.safetensors", "predict W/run W/photo.jpg --out W/p.csv"),
    Kind("run/model.safetensors", "weights inspect W/run/model.safetensors"),
    Kind(
        "run/export/torch-fp32/model.json",
        "predict W/run/export/torch-fp32 W/photo.jpg --out W/p.csv",
    ),
    Kind("run/metrics.jsonl", "train W/mine.yaml --resume"),
    Kind("run/data.json", "train W/mine.yaml --resume"),
    Kind("run/checkpoints/step-000000001/position.json", "train W/mine.yaml --resume"),
    Kind("scene.tif", "map W/run W/scene.tif --out W/other"),
    Kind("area.geojson", "map W/run W/scene.tif --out W/other --aoi W/area.geojson"),
    Kind("items.json", "map W/run W/items.json --out W/other"),
    Kind(
        "map/unfinished/ledger.sqlite", "map W/run W/scene.tif --out W/map --resume", "map/map.tif"
    ),
    Kind("images.csv", "pretrain pack W/images.csv --out W/other --workers 0"),
    Kind(
        "embedding/features.zarr/zarr.json",
        "search W/embedding --at 117.001,39.7491 --out W/p.geojson",
    ),
    Kind("labels.gpkg", "label fit W/embedding W/labels.gpkg --out W/p.tif"),
    Kind("labels.geojson", "label fit W/embedding W/labels.geojson --out W/p.tif"),
    Kind("apps/bricks/application.json", "apps show bricks --registry W/apps"),
    Kind("apps/bricks/model.json", "predict bricks W/photo.jpg --out W/p.csv"),
    *(Kind(f"{kind}/{PLACES[kind]}", f"check W/{kind}.yaml") for kind in FORMATS),
    Kind("table.yaml", "benchmark W/table.yaml --out W/table"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of undamaged files of every kind, at the place where each case is tried."""
    folder = tmp_path_factory.mktemp("damaged") / "w"
    folder.mkdir()
    with shallow_backbone(), pytest.MonkeyPatch.context() as patch:
        leave_charts_out(patch)
        patch.setenv("CGEARTHEYE_APPS", str(folder / "apps"))
        patch.setattr(writer, "_SECONDS_BETWEEN_NOTES", -1)
        _draw(folder)
        _use(folder, patch)
        shutil.copytree(folder, folder.with_name("undamaged"))
        yield folder


def _draw(folder: Path) -> None:
    """Write images, scenes, labels and configs."""
    for label, name in enumerate(CLASSES):
        (folder / "chips" / name).mkdir(parents=True)
        for seed in range(4):
            chip = Image.fromarray(draw_chip(label, seed))
            chip.save(folder / "chips" / name / f"{name}_{seed}.png")
    Image.fromarray(draw_chip(0, 9)).save(folder / "photo.jpg")
    model = "backbone: {name: tiny, weights: random}"
    (folder / "mine.yaml").write_text(
        f"""{model}
data: {{root: {folder}/chips, image_size: 28, batch_size: 8, workers: 0, train_fraction: 0.55}}
training: {{epochs: 1, lr: 1e-2, decoder_lr_mult: 1.0, log_every: 1, device: cpu}}
cache: {{views: 1}}
work_dir: {folder}/run
"""
    )
    for kind in FORMATS:
        write_data(folder / kind, kind)
        (folder / f"{kind}.yaml").write_text(
            f"""{model}
task: object_detection
data: {{root: {folder}/{kind}, classes: [ship, plane, tank], boxes: oriented, image_size: 56,
  batch_size: 2, workers: 0}}
decoder: {{kind: light}}
training: {{epochs: 1, device: cpu}}
work_dir: {folder}/run-{kind}
"""
        )
    (folder / "table.yaml").write_text(
        """backbones: {tiny: {name: tiny, weights: random}}
datasets: {AID: {task: scene_classification, data: {root: nowhere}}}
protocols: {knn: {kind: knn}}
seeds: [0]
"""
    )
    place = {"crs": "EPSG:32650", "transform": Affine(1, 0, 500_000, 0, -1, 4_400_000)}
    shape = {"width": 100, "height": 60, "count": 3, "dtype": "uint8"}
    with rasterio.open(folder / "scene.tif", "w", driver="GTiff", **place, **shape) as file:
        file.write(np.random.default_rng(0).integers(0, 256, (3, 60, 100), dtype=np.uint8))
    area = geopandas.GeoSeries([shapely.box(500_010, 4_399_950, 500_060, 4_399_990)], crs=32650)
    area.to_crs(4326).to_file(folder / "area.geojson")
    west, south, east, north = area.to_crs(4326).total_bounds
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "scene",
        "geometry": json.loads(area.to_crs(4326).to_json())["features"][0]["geometry"],
        "bbox": [west, south, east, north],
        "properties": {"datetime": "2024-05-01T00:00:00Z", "eo:cloud_cover": 3},
        "assets": {"visual": {"href": "scene.tif", "type": "image/tiff", "roles": ["data"]}},
        "links": [],
    }
    collection = {"type": "FeatureCollection", "features": [item]}
    (folder / "items.json").write_text(json.dumps(collection))
    names = [f"chips/{name}/{name}_{seed}.png" for name in CLASSES for seed in range(2)]
    table = pandas.DataFrame({"path": names, "place": np.arange(8) // 2, "season": ["a", "b"] * 4})
    table.to_csv(folder / "images.csv", index=False)


def _use(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Train, publish, and stop a map in its middle."""
    for words in (
        "train W/mine.yaml",
        "export W/run --format torch",
        "apps publish W/run --name Bricks",
    ):
        assert call(words, folder) == (0, ""), words
    note, count = Ledger.note, 0

    def note_and_stop(self: Ledger, rows: Any, found: Any) -> None:
        nonlocal count
        note(self, rows, found)
        count += bool(rows)
        if count == 2:
            raise UserError("stopped")

    with pytest.MonkeyPatch.context() as inner:
        inner.setattr(Ledger, "note", note_and_stop)
        assert call("map W/run W/scene.tif --out W/map", folder)[0] == 2
    features = np.random.default_rng(0).normal(size=(20, 30, 8))
    features[:, 15:, 0] += 9
    make(folder / "embedding", features)
    places = [shapely.Point(c + 0.5, 8.5) for c in (3, 8, 20, 25)]
    spots = shapely.transform(np.array(places), lambda xy: np.stack(NORTH_UP @ xy.T, -1))
    frame = frame_of(list(spots), ["left", "left", "right", "right"], "a")
    frame = frame.set_crs(UTM.to_wkt(), allow_override=True)
    for suffix in ("gpkg", "geojson"):
        write_vectors([frame], folder / f"labels.{suffix}")


def call(words: str, folder: Path) -> tuple[int, str]:
    """Run a command of this process; return its exit code and what it writes to stderr."""
    arguments = [word.replace("W/", f"{folder}/") for word in words.split()]
    errors = io.StringIO()
    with redirect_stderr(errors), redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            main(arguments)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return code, errors.getvalue()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.file}: {kind.command.split()[0]}")
def test_a_right_result_or_one_sentence(world: Path, kind: Kind) -> None:
    undamaged = world.with_name("undamaged")
    _restore(world)
    assert call(kind.command, world) == (0, "")
    expected = (world / kind.result).read_bytes() if kind.result else b""
    valid = (undamaged / kind.file).read_bytes()
    seed = KINDS.index(kind)
    for case in range(CASES):
        _restore(world)
        damaged = mutate(valid, Path(kind.file).suffix, np.random.default_rng([seed, case]))
        (world / kind.file).write_bytes(damaged)
        with _at_most(SECONDS):
            code, errors = call(kind.command, world)
        sentence = errors.removeprefix("error: ").strip()
        found = code == 1 and kind.command.startswith("check")  # listed in its table
        assert code in (0, 2) or found, (case, code, errors)
        assert (code == 2) == bool(sentence), (case, errors)
        assert "\n" not in sentence, (case, errors)
        if code == 0 and kind.result:
            assert (world / kind.result).read_bytes() == expected, case


def _restore(world: Path) -> None:
    shutil.rmtree(world)
    shutil.copytree(world.with_name("undamaged"), world)


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Fail what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
