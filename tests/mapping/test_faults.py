"""A disk that is full for a moment: no failed write leaves a hole or a damaged file."""

import errno
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil
import shapely
import torch
from pyarrow import parquet
from rasterio.errors import RasterioError
from toy_detector import ToyDetector, draw, scatter
from toy_map import (
    NORTH_UP,
    UTM,
    Toy,
    ToyCells,
    ToyChange,
    content,
    picture,
    read,
    run_toy,
    write_scene,
)

from cgeartheye.geo.vector_writer import FORMATS, write_vectors
from cgeartheye.mapping.geotiff import RasterStyle, RawRaster, write_geotiff
from cgeartheye.mapping.sinks import writer
from cgeartheye.models.backbone.checkpoint_io import save_tensors
from cgeartheye.utils.colors import distinct_colors
from cgeartheye.utils.errors import UserError

ALL = os.environ.get("CGEARTHEYE_FAULTS") == "all"
"""Every write fails in turn; else each seventh, so that the suite stays quick."""


class Faults:
    """Lets the `n`-th of all writes fail, and that one only."""

    def __init__(self, patch: pytest.MonkeyPatch, n: int = 0):
        self.n, self.count = n, 0
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for place, name, error in (
            (os, "pwrite", full),
            (os, "fdatasync", full),
            (os, "fsync", full),
            (os, "ftruncate", full),
            (os, "replace", full),
            (Path, "write_text", full),
            (rasterio.shutil, "copy", RasterioError("write failed")),
            (pyogrio, "write_arrow", pyogrio.errors.DataLayerError("write failed")),
            (parquet.ParquetWriter, "write_table", full),
        ):
            patch.setattr(place, name, self.wrap(getattr(place, name), error))
        faults = self

        class Connection(sqlite3.Connection):
            """Fails where the ledger writes: with its rows, its objects, and at the commit."""

            def executemany(self, *args: Any) -> Any:
                faults.tick(sqlite3.OperationalError("database or disk is full"))
                return super().executemany(*args)

            def __exit__(self, kind: Any, *rest: Any) -> Any:
                try:
                    if kind is None:
                        faults.tick(sqlite3.OperationalError("disk I/O error"))
                except sqlite3.OperationalError as error:
                    super().__exit__(type(error), error, None)
                    raise
                return super().__exit__(kind, *rest)

        connect = sqlite3.connect
        patch.setattr(
            sqlite3, "connect", lambda *args, **more: connect(*args, factory=Connection, **more)
        )

    def tick(self, error: Exception) -> None:
        self.count += 1
        if self.count == self.n:
            raise error

    def wrap(self, do: Callable[..., Any], error: Exception) -> Callable[..., Any]:
        def write(*args: Any, **more: Any) -> Any:
            self.tick(error)
            return do(*args, **more)

        return write


def pixels(folder: Path, out: Path, resume: bool) -> Any:
    scene = folder / "scene.tif"
    scene.exists() or write_scene(scene, picture(150, 50))
    options = {"vector_format": ("geojson",), "probabilities": True}
    return run_toy(scene, out, Toy(gsd=1.2), resume=resume, **options)


def cells(folder: Path, out: Path, resume: bool) -> Any:
    scene = folder / "scene.tif"
    scene.exists() or write_scene(scene, picture(150, 50))
    return run_toy(scene, out, ToyCells(), resume=resume, vector_format=("parquet",))


def change(folder: Path, out: Path, resume: bool) -> Any:
    first, second = folder / "first.tif", folder / "second.tif"
    if not first.exists():
        write_scene(first, picture(100, 40))
        write_scene(second, np.roll(picture(100, 40), 9, axis=1))
    options = {"vector_format": ("fgb",), "date_labels": ("a", "b")}
    return run_toy(first, out, ToyChange(), after=second, resume=resume, **options)


def objects(folder: Path, out: Path, resume: bool) -> Any:
    scene = folder / "scene.tif"
    if not scene.exists():
        boxes, labels = scatter(260, 90, 40, 12, True, 2)
        write_scene(scene, draw(260, 90, boxes, labels))
    toy = ToyDetector(oriented=True, max_object_size=17, noise=0.5)
    return run_toy(scene, out, toy, vector_format=("geojson", "parquet"), resume=resume)


def contents(out: Path) -> dict[str, bytes]:
    assert not (out / "unfinished").exists()
    return {path.name: content(path) for path in out.iterdir()}


@pytest.mark.parametrize("run", [pixels, cells, change, objects])
def test_after_any_write_that_failed_the_map_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    monkeypatch.setattr(writer, "_SECONDS_BETWEEN_NOTES", -1)
    with monkeypatch.context() as patch:
        faults = Faults(patch)
        run(tmp_path, tmp_path / "whole", False)
    whole = contents(tmp_path / "whole")
    assert faults.count > 30
    for n in range(1, faults.count + 1, 1 if ALL else 19):
        out = tmp_path / f"{n}"
        with monkeypatch.context() as patch:
            Faults(patch, n)
            with pytest.raises(UserError, match="cannot write"):
                run(tmp_path, out, False)
        assert not (out / "map.json").exists(), n
        run(tmp_path, out, True)
        assert contents(out) == whole, n
        shutil.rmtree(out)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond a size while the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_all_or_nothing(path: Path, write: Callable[[], None], same: Callable[[], bool]) -> None:
    """Write with room for less than the file needs, for as much, and for anything between."""
    write()
    whole = path.stat().st_size
    failed = 0
    sizes = [*np.linspace(0, whole, 40 if ALL else 6).astype(int).tolist(), 2 * whole + 2**20]
    for size in sizes:
        path.unlink()
        try:
            with room_for(size):
                write()
        except UserError as error:
            failed += 1
            message = str(error)
            assert message.startswith(f"cannot write {path}"), message
            assert not path.exists(), size
            assert not list(path.parent.glob("*partial*")), size
            write()
        assert same(), size
    assert 0 < failed < len(sizes)


@pytest.mark.parametrize("bands", [1, 3])
def test_a_raster_has_all_its_blocks_or_no_name(tmp_path: Path, bands: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (bands, 1100, 700), np.uint8)
    (tmp_path / "work").mkdir()
    plane = RawRaster(tmp_path / "work/classes.raw", *values.shape)
    plane.write((0, values.shape[1]), 0, values)
    path = tmp_path / "map.tif"
    style = RasterStyle(NORTH_UP, UTM, ("a", "b", "c"), distinct_colors(3), {})

    def write() -> None:
        write_geotiff(plane, path, style)

    write()
    with rasterio.open(path, overview_level=0) as file:
        overview = file.read()

    def same() -> bool:
        with rasterio.open(path, overview_level=0) as file:
            return np.array_equal(file.read(), overview) and np.array_equal(read(path), values)

    check_all_or_nothing(path, write, same)
    plane.close()


@pytest.mark.parametrize("ending", FORMATS)
def test_vectors_have_all_their_rows_or_no_name(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000, (1500, 2)) + np.array([500_000, 4_400_000])
    squares = shapely.box(*corners.T, *(corners + 5).T)
    columns = {"class": np.array(["a", "b"])[rng.integers(0, 2, 1500)], "score": rng.random(1500)}
    frame = geopandas.GeoDataFrame(columns, geometry=squares, crs=32650)
    path = tmp_path / f"map.{ending}"

    def write() -> None:
        write_vectors([frame[:700], frame[700:]], path)

    def same() -> bool:
        found = geopandas.read_parquet(path) if ending == "parquet" else geopandas.read_file(path)
        return sorted(found["score"]) == pytest.approx(sorted(columns["score"]))

    check_all_or_nothing(path, write, same)


def test_weights_have_all_their_tensors_or_no_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {f"{n}": torch.full((5000,), float(n)) for n in range(5)}

    def write() -> None:
        save_tensors(path, tensors, {"gsd": "0.5"})

    write()
    whole = path.read_bytes()
    check_all_or_nothing(path, write, lambda: path.read_bytes() == whole)


def test_a_lost_file_of_an_unfinished_map_is_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("cgeartheye.mapping.outputs.rasters.write_geotiff", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pixels(tmp_path, tmp_path / "map", False)
    (tmp_path / "map/unfinished/classes.raw").unlink()
    with pytest.raises(UserError, match=r"are gone: delete .*map, and map again"):
        pixels(tmp_path, tmp_path / "map", True)
