"""Tables of boxes: names of classes that no file can have."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine

from cgeartheye.boxes import Detections
from cgeartheye.tasks.detection.writer import Row, write_boxes
from cgeartheye.utils.tables import read_rows


def test_a_class_named_with_a_slash_has_a_file_in_the_folder(tmp_path: Path) -> None:
    found = Detections(torch.tensor([[1.0, 2, 3, 4]]), torch.ones(1), torch.tensor([1]))
    row = Row(Path("a.png"), "a.png", found)
    write_boxes(tmp_path / "dota", [row], ["ship", "../car/lorry"])
    files = {path.name: path.read_text() for path in (tmp_path / "dota").iterdir()}
    assert files == {
        "Task2_ship.txt": "",
        "Task2_.._car_lorry.txt": "a 1.000000 1.0 2.0 3.0 4.0\n",
    }


@pytest.mark.parametrize(("crs", "east", "north"), [(32650, 5e5, 4e6), (5513, 1e6, 7e5)])
@pytest.mark.parametrize("down", [-1, 1])
def test_rings_run_counter_clockwise_whichever_way_rows_run(
    tmp_path: Path, crs: int, east: float, north: float, down: int
) -> None:
    """RFC 7946, 3.1.6; 5513 has its axes to the south and west."""
    path = tmp_path / "a.tif"
    place = Affine(0.5, 0, east, 0, 0.5 * down, north)
    with rasterio.open(path, "w", "GTiff", 40, 30, 1, f"EPSG:{crs}", place, "uint8") as file:
        file.write(np.zeros((1, 30, 40), np.uint8))
    for box in ([1.0, 2, 30, 20], [15.0, 12, 20, 6, 0.4]):
        found = Detections(torch.tensor([box]), torch.ones(1), torch.tensor([0]))
        write_boxes(tmp_path / "found.geojson", [Row(path, "a.tif", found)], ["ship"])
        (feature,) = json.loads((tmp_path / "found.geojson").read_text())["features"]
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert len(ring) == 5
        assert shapely.LinearRing(ring).is_ccw


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (("x/a.png", "y/b.png"), ["a", "b"]),
        (("x/a.png", "y/a.png"), ["x/a", "y/a"]),
        (("x/a.png", "x/a.tif"), ["x/a.png", "x/a.tif"]),
    ],
)
def test_images_of_one_stem_have_unique_names_in_dotas_files(
    tmp_path: Path, names: tuple[str, ...], stems: list[str]
) -> None:
    found = Detections(torch.tensor([[1.0, 2, 3, 4]]), torch.ones(1), torch.tensor([0]))
    write_boxes(tmp_path / "dota", [Row(Path(name), name, found) for name in names], ["ship"])
    lines = (tmp_path / "dota/Task2_ship.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == stems


def test_images_of_one_name_have_their_paths_in_dotas_files(tmp_path: Path) -> None:
    found = Detections(torch.tensor([[1.0, 2, 3, 4]]), torch.ones(1), torch.tensor([0]))
    rows = [Row(Path(f"{n}/x.tif"), "x.tif", found, given=f"{n}/x.tif") for n in "ab"]
    write_boxes(tmp_path / "dota", rows, ["ship"])
    lines = (tmp_path / "dota/Task2_ship.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["a/x", "b/x"]


def test_the_column_path_is_the_path_as_given_and_cocos_file_name_the_name(tmp_path: Path) -> None:
    """As the table of scene classification has it, so the two can be joined."""
    found = Detections(torch.tensor([[1.0, 2, 3, 4]]), torch.ones(1), torch.tensor([0]))
    row = Row(Path("new/a.png"), "a.png", found, given="new/a.png")
    write_boxes(tmp_path / "t.csv", [row], ["ship"])
    write_boxes(tmp_path / "t.json", [row], ["ship"])
    assert read_rows(tmp_path / "t.csv")[0]["path"] == "new/a.png"
    assert json.loads((tmp_path / "t.json").read_text())[0]["file_name"] == "a.png"


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    found = Detections(torch.tensor([[-1.0, 2, 3, 4]]), torch.ones(1), torch.tensor([0]))
    write_boxes(tmp_path / "t.csv", [Row(Path("=a.png"), "=a.png", found)], ["@ship"])
    (row,) = read_rows(tmp_path / "t.csv")
    assert (row["path"], row["class"], row["x0"]) == ("=a.png", "@ship", "-1.0")
    assert "\n'=a.png,'@ship,1.0,-1.0," in (tmp_path / "t.csv").read_text()
