import json
import re
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
import torch
from affine import Affine
from pyproj import Geod, Transformer
from tests import processes
from toy_detector import ToyDetector, draw, reach, scatter
from toy_map import NORTH_UP, Toy, content, run_toy, write_scene

from cgeartheye.boxes import Detections, corners_of
from cgeartheye.inference import windows
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.mapping.outputs import objects as objects_output
from cgeartheye.mapping.sinks import writer
from cgeartheye.utils.errors import UserError


def shapes_of(boxes: torch.Tensor) -> np.ndarray:
    """Polygons in pixels."""
    if boxes.shape[1] == 4:
        return np.asarray(shapely.box(*boxes.numpy().T))
    return np.asarray(shapely.polygons(corners_of(boxes.double()).numpy()))


def in_pixels(frame: geopandas.GeoDataFrame, transform: Affine = NORTH_UP) -> np.ndarray:
    return np.asarray(frame.geometry.affine_transform((~transform).to_shapely()).to_numpy())


def check_once_and_whole(
    frame: geopandas.GeoDataFrame, boxes: torch.Tensor, labels: list[int], least: float
) -> None:
    """Each box has one object of its class on it, and no object is left."""
    found, truth = in_pixels(frame), shapes_of(boxes)
    assert len(found) == len(truth)
    shared = shapely.area(shapely.intersection(found[:, None], truth[None]))
    iou = shared / (shapely.area(found)[:, None] + shapely.area(truth)[None] - shared)
    best = iou.argmax(axis=1)
    assert sorted(best) == list(range(len(truth)))
    assert iou.max(axis=1).min() > least
    assert (frame["value"].to_numpy() == np.array(labels)[best]).all()


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize(("noise", "columns"), [(0.0, 10**6), (0.8, 10**6), (0.8, 130)])
def test_every_object_of_a_scene_once_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, oriented: bool, noise: float, columns: int
) -> None:
    """Over borders of windows, and of bands of columns if they are few."""
    monkeypatch.setattr(windows, "MAX_COLUMNS", columns)
    monkeypatch.setattr(objects_output, "_CHUNK", 10)
    boxes, labels = scatter(200, 260, 120, 14, oriented, 5)
    scene = write_scene(tmp_path / "scene.tif", draw(200, 260, boxes, labels))
    toy = ToyDetector(70, oriented, reach(14, oriented), noise)
    facts = run_toy(scene, tmp_path / "map", toy, overlap=0.0)
    frame = geopandas.read_file(tmp_path / "map/map.gpkg")
    check_once_and_whole(frame, boxes, labels, 0.5 if oriented or noise else 0.999)
    assert facts["kind"] == "objects"
    assert facts["objects"] == len(boxes)
    assert [entry["objects"] for entry in facts["classes"]] == np.bincount(labels).tolist()
    assert not (tmp_path / "map/map.tif").exists()
    assert not (tmp_path / "map/unfinished").exists()
    assert set(frame["class"]) == {"ship", "plane"}
    assert ("heading" in frame.columns) == oriented


@pytest.mark.parametrize("oriented", [False, True])
def test_resampled_to_the_models_pixels(tmp_path: Path, oriented: bool) -> None:
    """Shades blend at the rims when pixels are interpolated; four times four make one here."""
    boxes, labels = scatter(100, 130, 40, 16, oriented, 2)
    pixels = draw(100, 130, boxes, labels).repeat(4, axis=1).repeat(4, axis=2)
    fine = NORTH_UP @ Affine.scale(0.25)
    scene = write_scene(tmp_path / "scene.tif", pixels, fine)
    run_toy(
        scene,
        tmp_path / "map",
        ToyDetector(56, oriented, reach(16, oriented), gsd=0.75),
        overlap=0.0,
    )
    frame = geopandas.read_file(tmp_path / "map/map.gpkg")
    check_once_and_whole(frame, boxes, labels, 0.6 if oriented else 0.999)


class Fixed(ToyDetector):
    """Finds one box in its first window, whatever is there."""

    def __init__(self, box: list[float], score: float = 0.9, **options: Any):
        super().__init__(256, len(box) == 5, **options)
        self.box, self.value = box, score

    def find(self, image: np.ndarray) -> Detections:
        return Detections(torch.tensor([self.box]), torch.tensor([self.value]), torch.tensor([1]))


def blank(path: Path, transform: Affine = NORTH_UP, crs: Any = 32650, **options: Any) -> Path:
    return write_scene(path, np.full((3, 200, 220), 9, np.uint8), transform, crs, **options)


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        ([40.0, 40, 62, 20, 0.3], 1),
        ([40.0, 54, 60, 20, 0.3], 2),  # a fifth in common: another one, beside it
        ([22.0, 30, 60, 50], 1),
        ([32.0, 30, 72, 50], 2),  # 0.6 in common: may be oblique, side by side
    ],
)
def test_two_boxes_of_one_window_on_an_object_become_one(
    tmp_path: Path, other: list[float], kept: int
) -> None:
    first = [40.0, 40, 60, 20, 0.3] if len(other) == 5 else [20.0, 30, 60, 50]

    class Twice(Fixed):
        def find(self, image: np.ndarray) -> Detections:
            boxes, scores = torch.tensor([other, first]), torch.tensor([0.6, 0.9])
            return Detections(boxes, scores, torch.tensor([1, 1]))

    run_toy(blank(tmp_path / "s.tif"), tmp_path / "map", Twice(first))
    scores = table(tmp_path / "map")["score"]
    assert sorted(scores, reverse=True) == pytest.approx([0.9, 0.6][:kept])


def table(folder: Path, ending: str = "gpkg") -> geopandas.GeoDataFrame:
    return geopandas.read_file(folder / f"map.{ending}")


GEOD = Geod(ellps="WGS84")


@pytest.mark.parametrize("turn", [0, 20, 90, 200, 335])
@pytest.mark.parametrize("crs", [32650, 3857, 4326])
def test_size_and_heading_on_the_ground(tmp_path: Path, crs: int, turn: float) -> None:
    """A ship of 60 x 12 m that heads for 30 degrees, drawn by geodesics, in any pixels."""
    lon, lat, heading = 114.2, 36.1, 30.0
    to = Transformer.from_crs(4326, crs, always_xy=True)
    x, y = to.transform(lon, lat)
    size = 0.5 if crs != 4326 else 0.5 / 111_320
    transform = (
        Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(size, -size)
        @ Affine.translation(-110, -100)
    )  # fmt: skip
    ends = [
        ~transform @ to.transform(*GEOD.fwd(lon, lat, azimuth, far)[:2])
        for azimuth, far in (
            (heading, 30),
            (heading + 180, 30),
            (heading + 90, 6),
            (heading - 90, 6),
        )
    ]
    along, across = (np.subtract(ends[i], ends[i + 1]) for i in (0, 2))
    # Where pixels are not square on the ground no rectangle of them is exactly one there.
    w, h = np.hypot(*along), np.hypot(*across)
    angle = np.arctan2(along[1], along[0]) % np.pi
    toy = Fixed([110.0, 100.0, w, h, angle])
    run_toy(blank(tmp_path / "scene.tif", transform, crs), tmp_path / "map", toy)
    (found,) = table(tmp_path / "map").to_dict("records")
    assert found["length_m"] == pytest.approx(60, rel=1e-3)
    assert found["heading"] == pytest.approx(30, abs=0.1)
    skew = abs(along[0] * across[1] - along[1] * across[0]) / (
        w * h
    )  # the sine between the axes in pixels
    assert found["width_m"] == pytest.approx(12, rel=0.25 if skew < 0.999 else 1e-3)
    assert found["score"] == pytest.approx(0.9)
    assert found["class"] == "plane"


def test_geographic_pixels_that_stand_upright_are_measured_exactly(tmp_path: Path) -> None:
    """In degrees a square of pixels is narrower on the ground than it is high."""
    transform = Affine(5e-6, 0, 114.2, 0, -5e-6, 60.0)
    run_toy(
        blank(tmp_path / "scene.tif", transform, 4326),
        tmp_path / "map",
        Fixed([110.0, 100.0, 40.0, 30.0, 0.0]),
    )
    (found,) = table(tmp_path / "map").to_dict("records")
    lon, lat = transform @ (110, 100)
    wide = GEOD.inv(lon - 1e-4, lat, lon + 1e-4, lat)[2]
    high = GEOD.inv(lon, lat - 75e-6, lon, lat + 75e-6)[2]
    assert high > wide
    assert found["length_m"] == pytest.approx(high, abs=2e-3)
    assert found["width_m"] == pytest.approx(wide, abs=2e-3)
    assert found["heading"] == pytest.approx(0, abs=0.01)


def test_a_scene_on_no_map_has_metres_but_no_heading(tmp_path: Path) -> None:
    scene = blank(tmp_path / "scene.tif", Affine.identity(), None)
    run_toy(scene, tmp_path / "map", Fixed([100.0, 90.0, 40, 10, 0.7]), input_gsd=0.5)
    (found,) = table(tmp_path / "map").to_dict("records")
    assert (found["length_m"], found["width_m"]) == (20, 5)
    assert "heading" not in found


@pytest.mark.parametrize("ending", ["gpkg", "parquet", "geojson", "fgb"])
def test_all_formats_hold_the_same(tmp_path: Path, ending: str) -> None:
    boxes, labels = scatter(150, 150, 30, 14, True, 8)
    scene = write_scene(tmp_path / "scene.tif", draw(150, 150, boxes, labels))
    run_toy(
        scene,
        tmp_path / "map",
        ToyDetector(70, True, reach(14, True)),
        vector_format=("gpkg", ending),
    )
    frames = [
        (geopandas.read_parquet if kind == "parquet" else geopandas.read_file)(
            tmp_path / f"map/map.{kind}"
        )
        for kind in ("gpkg", ending)
    ]
    assert frames[1].crs.to_epsg() == (4326 if ending == "geojson" else 32650)
    one, other = (frame.sort_values(["score", "length_m"]) for frame in frames)
    for name in ("class", "value", "score", "length_m", "width_m", "heading"):
        assert one[name].tolist() == pytest.approx(other[name].tolist())
    apart = one.geometry.reset_index(drop=True).distance(
        other.geometry.to_crs(one.crs).reset_index(drop=True)
    )
    assert apart.max() < 0.01
    assert shapely.is_ccw(shapely.get_exterior_ring(frames[1].geometry.to_numpy())).all()


def test_no_objects_is_a_map_too(tmp_path: Path) -> None:
    facts = run_toy(
        blank(tmp_path / "scene.tif"),
        tmp_path / "map",
        Fixed([1.0, 2, 30, 40], score=0.1),
        vector_format=("gpkg", "parquet", "geojson", "fgb"),
    )
    assert facts["objects"] == 0
    for ending in ("gpkg", "geojson", "fgb"):
        frame = table(tmp_path / "map", ending)
        assert len(frame) == 0
    assert len(geopandas.read_parquet(tmp_path / "map/map.parquet")) == 0


@pytest.mark.parametrize("gsd", [None, 1.5])
def test_the_centre_decides_about_area_of_interest_and_nodata(
    tmp_path: Path, gsd: float | None
) -> None:
    boxes, labels = scatter(200, 240, 90, 12, False, 4)
    boxes = (boxes / 2).round() * 2
    pixels = draw(200, 240, boxes, labels)
    pixels[:, :, 150:160] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    aoi = shapely.Polygon([(20, 15), (200, 40), (230, 180), (60, 170)])
    on_map = shapely.transform(aoi, lambda xy: np.stack(NORTH_UP @ tuple(xy.T), 1))
    geopandas.GeoDataFrame(geometry=[on_map], crs=32650).to_crs(4326).to_file(
        tmp_path / "aoi.geojson"
    )

    toy = ToyDetector(98, False, 12, gsd=gsd)
    run_toy(scene, tmp_path / "map", toy, aoi=tmp_path / "aoi.geojson")
    centers = shapely.centroid(in_pixels(table(tmp_path / "map")))
    assert shapely.covers(aoi.buffer(1), centers).all()
    x = shapely.get_x(centers)
    assert not ((x >= 150) & (x < 160)).any()
    if gsd is None:  # no shade is blended with its neighbour: none is missing
        truth = shapely.centroid(shapes_of(boxes))
        safe = shapely.covers(aoi.buffer(-1), truth)
        clear = (boxes[:, 2] <= 150) | (boxes[:, 0] >= 160)
        expected = truth[safe & clear.numpy()]
        assert len(expected) > 10
        for point in expected:
            assert shapely.distance(point, centers).min() < 1e-6


def test_windows_without_data_are_not_predicted(tmp_path: Path) -> None:
    boxes, labels = scatter(300, 300, 40, 14, False, 4)
    pixels = draw(300, 300, boxes, labels)
    pixels[:, 40:] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    toy = ToyDetector(70, False, 14)
    run_toy(scene, tmp_path / "map", toy, batch_size=1, overlap=0.3)
    assert toy.calls == len(windows.window_offsets(300, 70, 0.3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["box", "score"])
def test_a_prediction_that_is_not_finite_is_an_error(
    tmp_path: Path, bad: float, where: str
) -> None:
    toy = Fixed([1.0, 2, 30, 40])
    scene = blank(tmp_path / "scene.tif")
    if where == "box":
        toy.box[2] = bad
    else:
        toy.value = bad
    with pytest.raises(UserError, match=r"not finite in the window at row 0, column 0 .*scene.tif"):
        run_toy(scene, tmp_path / "map", toy)
    assert not (tmp_path / "map/map.json").exists()


def test_options_of_the_other_kind_of_model(tmp_path: Path) -> None:
    scene = blank(tmp_path / "scene.tif")
    with pytest.raises(
        UserError, match="--max-object-size and --score-threshold are for a model that detects"
    ):
        run_toy(scene, tmp_path / "map", Toy(), score_threshold=0.5)
    with pytest.raises(UserError, match="--probabilities is for maps of pixels"):
        run_toy(scene, tmp_path / "map", ToyDetector(), probabilities=True)
    with pytest.raises(UserError, match=r"--score-threshold 1\.5 is out of range"):
        run_toy(scene, tmp_path / "map", ToyDetector(), score_threshold=1.5)
    with pytest.raises(
        UserError, match="--max-object-size -1 is out of range: give the size of the largest object"
    ):
        run_toy(scene, tmp_path / "map", ToyDetector(), max_object_size=-1)
    assert not (tmp_path / "map").exists()


@pytest.mark.parametrize(
    ("asked", "own", "value", "kept"),
    [(None, None, 0.29, 0), (None, None, 0.31, 1), (None, 0.6, 0.5, 0), (0.4, 0.6, 0.5, 1),
     (0.0, None, 0.0, 1)],
)  # fmt: skip
def test_the_least_score(
    tmp_path: Path, asked: float | None, own: float | None, value: float, kept: int
) -> None:
    toy = Fixed([1.0, 2, 30, 40], value)
    toy.score_threshold = own
    facts = run_toy(blank(tmp_path / "scene.tif"), tmp_path / "map", toy, score_threshold=asked)
    assert facts["objects"] == kept


@pytest.mark.parametrize(
    ("largest", "options", "pixels", "warned"),
    [
        (None, {}, 0, False),
        (20, {}, 20 + 256 / 16, False),
        (500, {}, 128, True),
        (500, {"max_object_size": 30.0}, 40 + 256 / 16, False),  # 40 pixels of 0.75 m
        (20, {"max_object_size": 1000.0}, 192, True),
        (20, {"gsd": 0.375}, 40 + 256 / 16, False),
        (20, {"overlap": 0.4}, 0.4 * 256, False),
    ],
)
def test_windows_overlap_by_the_largest_object(
    tmp_path: Path,
    largest: float | None,
    options: dict[str, float],
    pixels: float,
    warned: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    toy = Fixed([1.0, 2, 30, 40], max_object_size=largest, gsd=0.75)
    scene = blank(tmp_path / "scene.tif")
    facts = run_toy(scene, tmp_path / "map", toy, **{"overlap": 0.0, **options})
    pixel = min(facts["model_grid"]["metres_a_pixel"])
    assert facts["overlap_m"] / pixel == pytest.approx(pixels, rel=2e-3)
    assert ("may be found in pieces" in "".join(capsys.readouterr())) == warned


def test_the_preview_shows_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_output, "SHOWN", 8)
    monkeypatch.setattr(objects_output, "_CHUNK", 5)
    boxes, labels = scatter(150, 150, 40, 14, True, 8)
    scene = write_scene(tmp_path / "scene <b>.tif", draw(150, 150, boxes, labels))
    toy = ToyDetector(70, True, reach(14, True))
    toy.score_threshold = 0.4
    facts = run_toy(scene, tmp_path / "map", toy, score_threshold=0.1)
    page = (tmp_path / "map/preview.html").read_text()
    assert "scene <b>" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", page)
    shown = json.loads(page.split("const facts = ")[1].split(";\n")[0])
    frame = table(tmp_path / "map").sort_values("score", ascending=False)[:8]
    assert shown["total"] == facts["objects"] == len(boxes)
    assert shown["score"] == 0.4
    listed = shown["objects"]
    np.testing.assert_allclose(listed["scores"], frame["score"], atol=1e-3)
    np.testing.assert_allclose(sorted(listed["lengths"]), sorted(frame["length_m"]), atol=0.01)
    np.testing.assert_allclose(sorted(listed["headings"]), sorted(frame["heading"]), atol=0.1)
    corners = np.array(listed["corners"]).reshape(-1, 4, 2)
    centers = shapely.get_coordinates(shapely.centroid(in_pixels(frame)))
    np.testing.assert_allclose(corners.mean(1), centers, atol=0.1)


def run_noisy(scene: Path, out: Path, **options: Any) -> Any:
    toy = ToyDetector(70, True, reach(14, True), 0.5)
    return run_toy(scene, out, toy, vector_format=("geojson", "parquet"), overlap=0.0, **options)


SAME = ("map.geojson", "map.parquet", "map.json", "preview.html")


def test_stopped_after_every_row_the_objects_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_SECONDS_BETWEEN_NOTES", -1)
    monkeypatch.setattr(windows, "MAX_COLUMNS", 130)
    boxes, labels = scatter(200, 200, 90, 14, True, 6)
    scene = write_scene(tmp_path / "scene.tif", draw(200, 200, boxes, labels))
    assert run_noisy(scene, tmp_path / "whole")["objects"] == len(boxes)

    class Stop(Exception):
        pass

    note, count = Ledger.note, 0

    def note_and_stop(self: Ledger, rows: list[tuple[int, int, int]], found: Any) -> None:
        nonlocal count
        note(self, rows, found)
        if rows:
            count += 1
            raise Stop

    monkeypatch.setattr(Ledger, "note", note_and_stop)
    while True:
        try:
            run_noisy(scene, tmp_path / "map", resume=True)
            break
        except Stop:
            assert count < 40
    assert count >= 6
    for name in SAME:
        assert content(tmp_path / "map" / name) == content(tmp_path / "whole" / name)


@pytest.mark.parametrize("step", ["write_vectors", "write_object_preview", "write_text"])
def test_stopped_while_finishing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    boxes, labels = scatter(120, 120, 30, 14, True, 6)
    scene = write_scene(tmp_path / "scene.tif", draw(120, 120, boxes, labels))
    run_noisy(scene, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(objects_output, step, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_noisy(scene, tmp_path / "map")
    run_noisy(scene, tmp_path / "map", resume=True)
    for name in SAME:
        assert content(tmp_path / "map" / name) == content(tmp_path / "whole" / name)


def test_killed_twice_the_map_has_the_same_bytes(tmp_path: Path) -> None:
    boxes, labels = scatter(200, 120, 60, 12, True, 6)
    scene = write_scene(tmp_path / "scene.tif", draw(200, 120, boxes, labels))
    script = [Path(__file__).with_name("toy_detector.py"), scene]
    processes.run([*script, tmp_path / "whole"])
    out = tmp_path / "killed"
    pictured = out / "unfinished/scene.raw"
    killed = 0
    for share in (0.3, 0.7):
        process = processes.start([*script, out])
        while process.is_alive():
            if pictured.exists() and (np.fromfile(pictured, np.uint8) > 0).mean() > share:
                process.kill()
                killed += 1
                break
            time.sleep(0.005)
        process.join()
        assert not (out / "map.json").exists()
    assert killed == 2
    processes.run([*script, out])
    for name in SAME:
        assert content(out / name) == content(tmp_path / "whole" / name), name


@pytest.mark.parametrize("gsd", [None, 1.0])
def test_horizontal_boxes_end_where_the_scene_ends(tmp_path: Path, gsd: float | None) -> None:
    """The window is larger than the scene; a box may begin before it and reach into its rim."""
    scene = blank(tmp_path / "scene.tif")
    scale = 0.75 / gsd if gsd else 1.0
    toy = Fixed([x * scale for x in (-20.0, 150, 250, 240)], gsd=gsd)
    run_toy(scene, tmp_path / "map", toy)
    (found,) = in_pixels(table(tmp_path / "map"))
    assert found.bounds == pytest.approx((0, 150, 220, 200))


def test_a_box_in_the_rim_of_the_window_is_no_object(tmp_path: Path) -> None:
    facts = run_toy(blank(tmp_path / "s.tif"), tmp_path / "map", Fixed([230.0, 20, 250, 60]))
    assert facts["objects"] == 0
