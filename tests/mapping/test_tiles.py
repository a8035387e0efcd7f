"""Maps in tiles: the same pixels as in one file, cut at multiples of a size."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.merge import merge
from toy_detector import ToyDetector, draw, scatter
from toy_map import NORTH_UP, Toy, ToyCells, content, picture, read, run_toy, write_scene

from cgeartheye.api.maps import MapResult
from cgeartheye.mapping.outputs import tiles as tiles_module
from cgeartheye.utils.errors import UserError

# Pixels of 0.75 m whose edges are no multiples of 40 m.
OBLIQUE = Affine(0.75, 0, 499_991.3, 0, -0.75, 4_400_017.9)


def tile_files(folder: Path, ending: str = ".tif") -> list[Path]:
    return sorted(
        path
        for path in (folder / "tiles").iterdir()
        if path.name.endswith(ending) and path.name.count(".") == ending.count(".")
    )


@pytest.mark.parametrize("make", [None, ToyCells], ids=["pixels", "cells"])
@pytest.mark.parametrize("transform", [NORTH_UP, OBLIQUE], ids=["even", "oblique"])
def test_the_mosaic_of_tiles_is_the_map(tmp_path: Path, transform: Affine, make: type) -> None:
    pixels = picture(300, 390)
    pixels[:, :130, :130] = 0  # all of a tile and more
    scene = write_scene(tmp_path / "scene.tif", pixels, transform, nodata=0)
    size = 40 if make is None else 336
    options = {"probabilities": True, "vector_format": ("geojson",), "toy": make and make()}
    run_toy(scene, tmp_path / "whole", **options)
    facts = run_toy(scene, tmp_path / "map", tiles=size, **options)
    whole, out = tmp_path / "whole", tmp_path / "map"
    for name in ("map", "probabilities"):
        np.testing.assert_array_equal(read(out / f"{name}.vrt"), read(whole / f"{name}.tif"))
    # By rasterio's own mosaic, whatever our VRT does.
    mosaic, place = merge(tile_files(out))
    with rasterio.open(whole / "map.tif") as file:
        full = file.read()
        assert file.crs == rasterio.open(out / "map.vrt").crs
        assert file.colormap(1) == rasterio.open(out / "map.vrt").colormap(1)
        first = [round(v) for v in ~file.transform @ (place.c, place.f)]
    rows, columns = (slice(a, a + n) for a, n in zip(first[::-1], mosaic.shape[1:], strict=True))
    np.testing.assert_array_equal(mosaic, full[:, rows, columns])
    full[:, rows, columns] = 255
    assert (full == 255).all()
    paths = tile_files(out)
    assert facts["tiles"] == len(paths) == len(tile_files(out, ".json"))
    for path in paths:
        with rasterio.open(path) as file:
            assert (file.read(1) != 255).any()
            east, north = (int(part) for part in path.stem.split("_"))
            step = abs(file.transform.a)
            assert abs(max(file.bounds.left, transform.c) - file.bounds.left) < 1e-6
            assert file.bounds.left >= east * size - step / 2
            assert file.bounds.right <= (east + 1) * size + step / 2
            assert file.bounds.bottom >= north * size - step / 2
            assert file.bounds.top <= (north + 1) * size + step / 2
            assert file.profile["compress"] == "deflate"
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert (out / "map.geojson").read_bytes() == (whole / "map.geojson").read_bytes()
    assert not (out / "map.tif").exists()


def test_a_tile_without_data_is_left_out(tmp_path: Path) -> None:
    pixels = picture(160, 160)
    pixels[:, :, 80:] = 0
    place = Affine(1, 0, 500_000, 0, -1, 4_400_000)
    scene = write_scene(tmp_path / "scene.tif", pixels, place, nodata=0)
    run_toy(scene, tmp_path / "map", tiles=80)
    names = [path.stem for path in tile_files(tmp_path / "map")]
    assert names == ["6250_54998", "6250_54999"]
    with MapResult(tmp_path / "map").dataset() as file:
        assert file.shape == (160, 160)
        assert (file.read(1)[:, 80:] == 255).all()


@contextmanager
def no_room_after(tiles: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The disk is full after some tiles."""
    written, write = [], tiles_module.write_geotiff

    def full(*given: object) -> None:
        if len(written) == tiles:
            raise UserError("no room")
        written.append(given[1])
        write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(tiles_module, "write_geotiff", full)
        with pytest.raises(UserError, match="no room"):
            yield


def test_resume_keeps_the_tiles_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(200, 200))
    run_toy(scene, tmp_path / "whole", tiles=50)
    out = tmp_path / "map"
    with no_room_after(4, monkeypatch):
        run_toy(scene, out, tiles=50)
    assert not (out / "map.json").exists()
    before = {path: path.stat().st_mtime_ns for path in tile_files(out)}
    assert len(before) == 4
    run_toy(scene, out, tiles=50, resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    files = [path for path in (tmp_path / "whole").rglob("*") if path.suffix != ".json"]
    for path in files:
        if path.is_file():
            assert content(out / path.relative_to(tmp_path / "whole")) == content(path)
    assert not (out / "unfinished").exists()
    facts = json.loads((out / "map.json").read_text())
    assert facts["tiles"] == len(tile_files(out))
    with pytest.raises(UserError, match="begun with tiles"):
        run_toy(scene, out, tiles=60, resume=True)


def test_tiles_of_another_map_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the message of a folder with an unfinished map advises, that is deleted."""
    scene = write_scene(tmp_path / "scene.tif", picture(200, 200))
    out, mine = tmp_path / "map", tmp_path / "map" / "tiles" / "mine.tif"
    mine.parent.mkdir(parents=True)
    mine.touch()  # whoever names a folder with files of his own keeps them
    run_toy(scene, tmp_path / "whole", tiles=50)
    with no_room_after(3, monkeypatch):
        run_toy(scene, out, Toy(gsd=2.0), tiles=50)
    shutil.rmtree(out / "unfinished")
    run_toy(scene, out, tiles=50)
    for path in tile_files(tmp_path / "whole"):
        assert (out / "tiles" / path.name).read_bytes() == path.read_bytes()
    assert mine.exists()


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    pixels = picture(60, 60)
    degrees = Affine(1e-5, 0, 117, 0, -1e-5, 40)
    geographic = write_scene(tmp_path / "degrees.tif", pixels, degrees, CRS.from_epsg(4326))
    rotated = write_scene(tmp_path / "rotated.tif", pixels, NORTH_UP @ Affine.rotation(10))
    scene = write_scene(tmp_path / "scene.tif", pixels)
    for path in (geographic, rotated):
        with pytest.raises(UserError, match=r"cut along the axes of a projected CRS: warp it"):
            run_toy(path, tmp_path / "map", tiles=50)
    with pytest.raises(UserError, match="--tiles 3 is out of range: give at least 12 m"):
        run_toy(scene, tmp_path / "map", tiles=3)
    with pytest.raises(UserError, match="--tiles -1 is out of range"):
        run_toy(scene, tmp_path / "map", tiles=-1)
    boxes, labels = scatter(60, 60, 5, 12, True, 2)
    write_scene(scene, draw(60, 60, boxes, labels))
    with pytest.raises(UserError, match="objects are one file of any size"):
        run_toy(scene, tmp_path / "map", ToyDetector(oriented=True), tiles=50)
    assert not (tmp_path / "map").exists()


def test_feet_are_no_meters(tmp_path: Path) -> None:
    feet = CRS.from_epsg(2263)  # New York, US survey feet
    place = Affine(3, 0, 1_000_000, 0, -3, 200_000)
    scene = write_scene(tmp_path / "scene.tif", picture(120, 120), place, feet)
    run_toy(scene, tmp_path / "map", tiles=50)
    tile = 50 / (1200 / 3937)
    for path in tile_files(tmp_path / "map"):
        with rasterio.open(path) as file:
            assert int(path.stem.split("_")[0]) * tile - 1.5 <= file.bounds.left
            assert file.width * 3 <= tile + 3
