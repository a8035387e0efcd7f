"""Tables of boxes: names of classes that no file can have."""

from pathlib import Path

import torch

from cgeartheye.geometry import Detections
from cgeartheye.tasks.box_tables import Row, write_boxes


def test_a_class_named_with_a_slash_has_a_file_in_the_folder(tmp_path: Path) -> None:
    found = Detections(torch.tensor([[1.0, 2, 3, 4]]), torch.ones(1), torch.tensor([1]))
    row = Row(Path("a.png"), "a.png", found)
    write_boxes(tmp_path / "dota", [row], ["ship", "../car/lorry"])
    files = {path.name: path.read_text() for path in (tmp_path / "dota").iterdir()}
    assert files == {
        "Task2_ship.txt": "",
        "Task2_.._car_lorry.txt": "a 1.000000 1.0 2.0 3.0 4.0\n",
    }
