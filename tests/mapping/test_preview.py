import base64
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image
from toy_map import Toy, picture, read, run_toy, write_scene

from cgeartheye.mapping import thumbnail


def embedded(page: str, kind: str) -> Image.Image:
    data = re.search(rf"data:image/{kind};base64,([^\"]+)", page)
    assert data
    return Image.open(io.BytesIO(base64.b64decode(data[1])))


def test_the_page_shows_scene_and_map_and_needs_no_network(tmp_path: Path) -> None:
    pixels = picture(90, 120)
    pixels[:, 20:50, 30:60] = 0
    scene = write_scene(tmp_path / "scene <b>.tif", pixels, nodata=0)
    run_toy(scene, tmp_path / "map")
    page = (tmp_path / "map/preview.html").read_text()
    assert "<b>" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", page)
    below = np.asarray(embedded(page, "jpeg").convert("RGB")).astype(int)
    assert np.abs(below - pixels.transpose(1, 2, 0)).mean() < 15  # JPEG
    above = np.asarray(embedded(page, "png").convert("RGBA"))
    classes = read(tmp_path / "map/map.tif")[0]
    np.testing.assert_array_equal(above[..., 3] == 0, classes == 255)
    assert len(np.unique(above[classes == 1], axis=0)) == 1
    shares = [float(share) for share in re.findall(r"<td>([\d.]+) %</td>", page)]
    truth = [100 * (classes == value).sum() / (classes != 255).sum() for value in range(3)]
    np.testing.assert_allclose(shares, truth, atol=0.051)


def test_classes_that_are_not_in_the_map_are_folded(tmp_path: Path) -> None:
    pixels = np.zeros((3, 30, 40), np.uint8)
    pixels[1] = 200
    run_toy(write_scene(tmp_path / "scene.tif", pixels), tmp_path / "map")
    page = (tmp_path / "map/preview.html").read_text()
    rows = re.findall(r"<tr (.*?)title=.*?<td>(\w+)</td>", page, flags=re.DOTALL)
    assert rows == [('class="absent" ', "red"), ("", "green"), ('class="absent" ', "blue")]
    assert "2 classes that are not in the map</button>" in page


def test_a_large_scene_is_shown_small(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(thumbnail, "PREVIEW_SIDE", 50)
    pixels = np.repeat(np.repeat(picture(40, 60), 4, axis=1), 4, axis=2)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    run_toy(scene, tmp_path / "map", Toy(), overlap=0.2)
    below = embedded((tmp_path / "map/preview.html").read_text(), "jpeg").convert("RGB")
    assert below.size == (48, 32)  # each fifth pixel
    assert np.asarray(below).min() > 0
    small = np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).resize((48, 32), 4)).astype(int)
    assert np.abs(np.asarray(below) - small).mean() < 20
