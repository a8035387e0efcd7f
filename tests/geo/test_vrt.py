"""Many files are looked at for one mosaic without work that GDAL and rasterio do for each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.transform import from_origin

from cgeartheye.geo import vrt
from cgeartheye.geo.reader import open_scene
from cgeartheye.geo.remote import as_path
from cgeartheye.utils.errors import UserError


def test_no_session_is_made_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rasterio makes one for each that a thread opens, where it finds boto3 and a key."""
    boto3 = pytest.importorskip("boto3")
    paths = [tmp_path / f"{number}.tif" for number in range(20)]
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 3, "dtype": "uint8"}
    for number, path in enumerate(paths):
        place = from_origin(500_000 + 8 * number, 4_400_000, 1, 1)
        with rasterio.open(path, "w", crs="EPSG:32650", transform=place, **profile) as file:
            file.write(np.ones((3, 8, 8), np.uint8))
    made = []

    class Counted(boto3.Session):  # type: ignore[name-defined, misc]
        def __init__(self, *words: Any, **more: Any) -> None:
            made.append(words)
            super().__init__(*words, **more)

    monkeypatch.setattr("boto3.Session", Counted)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    assert vrt.build_mosaic_vrt(paths).count("<SourceFilename") >= 3 * len(paths)
    assert not made


def test_what_is_beside_a_file_in_a_bucket_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list has a thousand keys, and a mosaic of a bucket some thousand files."""
    seen = []

    def look(path: Path, **_: Any) -> None:
        seen.append(rasterio.env.getenv().get("GDAL_DISABLE_READDIR_ON_OPEN"))
        raise RasterioIOError("no such file")

    monkeypatch.setattr(rasterio, "open", look)
    # Beside a file of this machine there may be the mask or the statistics of it.
    for where in ("s3://bucket/a.tif", str(tmp_path / "a.tif")):
        with pytest.raises(UserError, match=r"a\.tif cannot be opened as a raster: no such file"):
            vrt.build_mosaic_vrt([as_path(where), as_path(where)])
    assert seen == ["EMPTY_DIR", None]


COLORS = {0: (250, 10, 20, 255), 1: (10, 250, 30, 255), 2: (5, 6, 7, 255)}


def write_numbers(path: Path, colors: dict[int, Any] | None, x: int = 0, **options: Any) -> Path:
    numbers = np.arange(64).reshape(1, 8, 8) % 3
    place = from_origin(500_000 + x, 4_400_000, 1, 1)
    with rasterio.open(
        path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8", crs="EPSG:32650",
        transform=place, **options,
    ) as file:  # fmt: skip
        file.write(numbers.astype(np.uint8))
        if colors is not None:
            file.write_colormap(1, colors)
    return path


@pytest.mark.parametrize("nodata", [(None, None), (2, 2), (2, None)])
def test_a_mosaic_has_the_palette_of_its_files(
    tmp_path: Path, nodata: tuple[int | None, int | None]
) -> None:
    paths = [
        write_numbers(tmp_path / f"{number}.tif", COLORS, 8 * number, nodata=value)
        for number, value in enumerate(nodata)
    ]
    pixels, valid = open_scene(paths).read((0, 8), (0, 16))
    right = np.array([color[:3] for color in COLORS.values()]).T[:, np.arange(64).reshape(8, 8) % 3]
    for number, value in enumerate(nodata):
        own = slice(8 * number, 8 * number + 8)
        there = np.any(right != np.array(COLORS[2][:3])[:, None, None], axis=0) | (value is None)
        np.testing.assert_array_equal(pixels[:, :, own], right * there)
        assert there.all() if valid is None else (valid[:, own] == there).all()


@pytest.mark.parametrize("other", [None, COLORS | {1: (11, 250, 30, 255)}])
def test_a_mosaic_of_other_palettes_is_refused(
    tmp_path: Path, other: dict[int, Any] | None
) -> None:
    a, b = write_numbers(tmp_path / "a.tif", COLORS), write_numbers(tmp_path / "b.tif", other, 8)
    for one, two in ((a, b), (b, a)):
        with pytest.raises(UserError, match=rf"{two.name} has another palette than .*{one.name}"):
            open_scene([one, two])
