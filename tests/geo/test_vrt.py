"""Many files are looked at for one mosaic without work that GDAL and rasterio do for each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.transform import from_origin

from cgeartheye.geo import vrt
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
