"""Statistics of pixels are those of NumPy, whichever way a file is decoded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgeartheye.data.checks.image_stats import compute_image_stats, digest_of
from cgeartheye.data.image_io import read_image


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "gray.png", "alpha.png", "palette.png", "a.tif"]
)
@pytest.mark.parametrize("bands", [(1, 2, 3), (3, 2, 1)])
def test_sums_and_digests_are_exact(tmp_path: Path, name: str, bands: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 41, 4), dtype=np.uint8)
    pixels[..., 3] = (pixels[..., 3] > 99) * 255
    image = Image.fromarray(pixels)
    kind = {"gray.png": "L", "alpha.png": "RGBA", "palette.png": "P"}.get(name, "RGB")
    image.convert(kind).save(tmp_path / name)
    found = compute_image_stats(tmp_path / name, bands, None, thumbnail=True)
    expected = read_image(tmp_path / name, bands)
    values = expected.numpy().astype(np.int64).reshape(3, -1)
    assert (found.width, found.height, found.bits) == (41, 33, 8)
    assert found.sums == values.sum(1).tolist()
    assert found.squares == (values**2).sum(1).tolist()
    assert found.digest == digest_of(expected.permute(1, 2, 0))
    assert found.thumbnail is not None


def test_the_same_pixels_in_another_file_are_the_same(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    for name in ("a.png", "b.bmp", "c.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
    found = {
        compute_image_stats(tmp_path / name, (1, 2, 3), None).digest
        for name in ("a.png", "b.bmp", "c.tif")
    }
    assert len(found) == 1
    assert found == {digest_of(torch.from_numpy(pixels))}
