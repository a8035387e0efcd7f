import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cgeartheye.demo import datasets
from cgeartheye.demo import run as demo
from cgeartheye.synthetic import LAND_COVER, SCENES
from cgeartheye.utils.errors import UserError

WORLD_SIZE = 1024  # pixels a side: a sixth of the demo, and less to learn from
SHOWN, YARD = 168, 168  # pixels a side as networks see them: of the demo 210 and 252
FLOORS = {
    demo.CLASSIFIER: ("top1", 60.0),
    demo.SEGMENTER: ("miou", 45.0),
    demo.DETECTOR: ("f1", 5.0),
}
"""Figures of the tests, percent, well below what this little world gives: 91, 54 and 18. It has too
few objects to learn them."""
WHOLE_FLOORS = {
    demo.CLASSIFIER: {"top1": 84.0},
    demo.SEGMENTER: {"miou": 73.0},
    demo.DETECTOR: {"f1": 65.0},
    demo.FINDER: {"ap50": 54.0},
}


def test_the_demo_leaves_a_world_its_models_a_map_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "WORLD_SIZE", WORLD_SIZE)
    for module in (demo, datasets):
        monkeypatch.setattr(module, "SHOWN", SHOWN)
    monkeypatch.setattr(demo, "YARD", YARD)
    monkeypatch.setattr(demo, "FINDER_EPOCHS", 1)  # no floor: 40 find nothing in it either
    demo.demo(tmp_path)
    for part, (name, floor) in FLOORS.items():
        assert json.loads((tmp_path / part / "test.json").read_text())[name] >= floor, part
    run = tmp_path / demo.CLASSIFIER
    report = (run / "report.html").read_text()
    scenes = {path.name for path in (tmp_path / "chips").iterdir()}
    assert len(scenes) >= len(SCENES) - 2  # a little world has not every one
    assert all(scene in report for scene in scenes)
    assert not re.search(r'(src|href)="(?!data:|#)', report)  # nothing to load
    assert (run / "model.safetensors").exists()
    chips = list((tmp_path / "chips").rglob("*.png"))
    assert {path.parent.name for path in chips} == scenes <= set(SCENES)
    with rasterio.open(next((tmp_path / "world" / "images").glob("*.tif"))) as image:
        assert image.shape == (WORLD_SIZE, WORLD_SIZE)
        assert image.crs.to_epsg() == 32650
        place = image.transform
    with rasterio.open(tmp_path / "map" / "map.tif") as land_cover:
        assert land_cover.shape == (WORLD_SIZE, WORLD_SIZE)
        assert land_cover.transform == place
        north = WORLD_SIZE - WORLD_SIZE * 2 // 3
        classes = land_cover.read(1)
        assert set(np.unique(classes[:north])) <= set(range(len(LAND_COVER)))
        assert (classes[north:] == 255).all()  # learned from, not mapped
    assert (tmp_path / "map" / "map.gpkg").exists()
    with rasterio.open(tmp_path / "change-map" / "map.tif") as change:
        assert change.crs.to_epsg() == 32650  # the first date's, though the second's is another
        assert set(np.unique(change.read(1))) <= {0, 1, 255}
    facts = json.loads((tmp_path / "change-map" / "map.json").read_text())
    found = facts["scene"]["registration"]
    shift = found["metres_right"], -found["metres_down"]
    np.testing.assert_allclose(shift, demo.LATER[2], atol=0.5)  # metres: two thirds of a pixel
    objects = json.loads((tmp_path / "object-map" / "map.json").read_text())
    assert objects["kind"] == "objects"
    assert (tmp_path / "object-map" / "map.gpkg").exists()
    page = (tmp_path / "report.html").read_text()
    assert "mean IoU" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


@pytest.mark.slow  # eleven minutes on one core
def test_the_demo_convinces(tmp_path: Path) -> None:
    """Of the size that users see; the floors are a few points below what it gives."""
    demo.demo(tmp_path)
    for part, floors in WHOLE_FLOORS.items():
        figures = json.loads((tmp_path / part / "test.json").read_text())
        for name, floor in floors.items():
            assert figures[name] >= floor, (part, figures)


def test_the_demo_touches_no_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(UserError, match="empty folder"):
        demo.demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]
