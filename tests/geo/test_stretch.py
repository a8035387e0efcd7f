from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cgeartheye.geo.reader import open_scene
from cgeartheye.geo.stretch import percentile_limits, sample_squares, to_8_bits
from cgeartheye.utils.errors import UserError


def test_limits_are_values_below_which_one_and_99_in_a_hundred_lie() -> None:
    values = np.random.default_rng(0).permutation(1001).reshape(7, 143) * 3
    assert percentile_limits(values) == (30.0, 2970.0)
    assert percentile_limits(values) == tuple(np.percentile(values, (1, 99), method="nearest"))
    assert percentile_limits(np.zeros(0)) == (0.0, 1.0)


@pytest.mark.parametrize("kind", ["uint16", "int16", "float32"])
def test_limits_become_0_and_255_and_what_is_between_is_in_proportion(kind: str) -> None:
    values = np.array([[[-5, 100, 110, 355, 400]]]).clip(0 if kind == "uint16" else None)
    found = to_8_bits(values.astype(kind), (100.0, 355.0), None)
    assert found.dtype == np.uint8
    assert found.ravel().tolist() == [0, 0, 10, 255, 255]


def test_nodata_becomes_0_without_warnings_of_numpy() -> None:
    values = np.array([[[7.0, np.nan], [np.inf, 9.0]]] * 3, np.float32)
    valid = np.isfinite(values[0])
    with np.errstate(all="raise"):
        found = to_8_bits(values, (5.0, 9.0), valid)
    assert (found == np.array([[128, 0], [0, 255]])).all()
    assert not to_8_bits(np.full((1, 2, 2), 4.0), (4.0, 4.0), None).any()


def write(path: Path, values: np.ndarray, x: int = 0, y: int = 0) -> Path:
    place = from_origin(500_000 + x, 4_400_000 - y, 1, 1)
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[2], height=values.shape[1], count=3,
        dtype="uint16", crs="EPSG:32650", transform=place, nodata=0, compress="deflate",
    ) as file:  # fmt: skip
        file.write(values)
    return path


GROUND = np.random.default_rng(0).integers(200, 2000, (3, 300, 300)).astype(np.uint16)
DOT = np.zeros((3, 4, 4), np.uint16)  # without data: it makes a mosaic large


def test_data_between_the_squares_of_a_scene_are_found(tmp_path: Path) -> None:
    between = list(sample_squares(300, 12_000))
    start, end = between[1][1][1], between[2][1][0]
    values = np.zeros((3, 300, 12_000), np.uint16)
    values[:, :, start + 50 : start + 350] = GROUND
    assert start + 350 < end
    assert open_scene([write(tmp_path / "a.tif", values)]).stretch == percentile_limits(GROUND)


def test_data_between_the_squares_of_a_mosaic_are_found(tmp_path: Path) -> None:
    """Two files far from each other, of which neither is at an edge."""
    paths = [
        write(tmp_path / "a.tif", DOT),
        write(tmp_path / "b.tif", GROUND, 11_300, 20_500),
        write(tmp_path / "c.tif", 2 * GROUND, 24_000, 9_000),
        write(tmp_path / "d.tif", DOT, 40_000, 40_000),
    ]
    low, high = percentile_limits(np.concatenate([GROUND, 2 * GROUND]))
    assert open_scene(paths).stretch == (low, high)


def test_of_a_scene_without_data_a_stretch_is_asked_for(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.tif", DOT), write(tmp_path / "b.tif", DOT, 9_000)]
    with pytest.raises(UserError, match=r"in .*a.tif and 1 more .*--stretch LOW HIGH"):
        open_scene(paths)
    assert open_scene(paths, stretch=(0.0, 9.0)).stretch == (0.0, 9.0)
