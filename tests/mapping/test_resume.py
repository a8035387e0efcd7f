import json
import os
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from tests import processes
from toy_map import NORTH_UP, Toy, content, picture, read, run_toy, write_scene

from cgeartheye.mapping.ledger import Ledger
from cgeartheye.mapping.outputs import rasters as outputs
from cgeartheye.mapping.sinks import writer
from cgeartheye.utils.errors import UserError

NAMES = ("map.tif", "probabilities.tif", "map.json", "map.tif.aux.xml", "preview.html")


def test_killed_three_times_the_map_has_the_same_bytes(tmp_path: Path) -> None:
    pixels = picture(160, 90)
    pixels[:, 40:70, 20:60] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    script = [Path(__file__).with_name("toy_map.py"), scene]
    processes.run([*script, tmp_path / "whole"])
    out = tmp_path / "killed"
    written = out / "unfinished/classes.raw"
    known = np.count_nonzero(read(tmp_path / "whole/map.tif"))  # a new file holds zeros
    killed = 0
    for share in (0.15, 0.45, 0.8):
        process = processes.start([*script, out])
        while process.is_alive():
            if (
                written.exists()
                and np.count_nonzero(np.fromfile(written, np.uint8)) > share * known
            ):
                process.kill()
                killed += 1
                break
            time.sleep(0.005)
        process.join()
        assert not (out / "map.tif").exists()
    assert killed == 3
    processes.run([*script, out])
    for name in NAMES:
        assert content(out / name) == content(tmp_path / "whole" / name), name
    assert not (out / "unfinished").exists()


@pytest.mark.parametrize("gsd", [None, 0.5, 1.1])
@pytest.mark.parametrize("overlap", [0.0, 1 / 3, 0.7])
def test_stopped_after_every_row_the_map_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gsd: float | None, overlap: float
) -> None:
    """Stopped at each row of windows in turn; only what is not finished is predicted again."""
    monkeypatch.setattr(writer, "_SECONDS_BETWEEN_NOTES", -1)
    scene = write_scene(tmp_path / "scene.tif", picture(90, 40))
    run_toy(scene, tmp_path / "whole", Toy(gsd=gsd), overlap=overlap, probabilities=True)

    class Stop(Exception):
        pass

    note = Ledger.note
    count = 0

    def note_and_stop(self: Ledger, rows: list[tuple[int, int, int]], found: Any) -> None:
        nonlocal count
        note(self, rows, found)
        if rows:
            count += 1
            raise Stop

    monkeypatch.setattr(Ledger, "note", note_and_stop)
    while True:
        try:
            run_toy(
                scene,
                tmp_path / "map",
                Toy(gsd=gsd),
                overlap=overlap,
                probabilities=True,
                resume=True,
            )
            break
        except Stop:
            assert count < 40
    assert count >= 3
    for name in ("map.tif", "probabilities.tif", "map.json"):
        assert content(tmp_path / "map" / name) == content(tmp_path / "whole" / name)


@pytest.mark.parametrize(
    "step", ["write_geotiff", "_write_polygons", "write_preview", "write_text"]
)
def test_stopped_while_finishing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(60, 40))
    options = {"vector_format": ("gpkg",), "probabilities": True}
    run_toy(scene, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(outputs, step, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_toy(scene, tmp_path / "map", **options)
    toy = Toy()
    run_toy(scene, tmp_path / "map", toy, resume=True, **options)
    assert toy.calls == 1  # a look at the model
    for name in NAMES:
        assert content(tmp_path / "map" / name) == content(tmp_path / "whole" / name)


def test_a_read_failure_names_the_place_and_leaves_no_hole(tmp_path: Path) -> None:
    pixels = picture(300, 300)
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    scene = write_scene(tmp_path / "scene.tif", pixels, **options)
    whole = scene.read_bytes()
    run_toy(scene, tmp_path / "whole")
    times = os.stat(scene)
    scene.write_bytes(whole[: len(whole) // 2] + bytes(0))
    with pytest.raises(UserError, match=r"scene.tif cannot be read in rows 0-299, columns 0-299"):
        run_toy(scene, tmp_path / "map")
    assert not (tmp_path / "map/map.tif").exists()
    scene.write_bytes(whole)
    os.utime(scene, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UserError, match="unfinished map: finish it with --resume"):
        run_toy(scene, tmp_path / "map")


def test_a_mosaic_whose_file_is_gone_is_an_error(tmp_path: Path) -> None:
    a = write_scene(tmp_path / "a.tif", picture(40, 40))
    b = write_scene(tmp_path / "b.tif", picture(40, 40), NORTH_UP @ NORTH_UP.translation(40, 0))
    size = b.stat().st_size
    with b.open("rb+") as file:
        file.truncate(size // 2)
    with pytest.raises(UserError, match=r"cannot be (read|opened)"):
        run_toy([a, b], tmp_path / "map")


def test_a_map_goes_on_with_smaller_batches(tmp_path: Path) -> None:
    """As after the memory was not enough."""
    scene = write_scene(tmp_path / "scene.tif", picture(150, 300))
    run_toy(scene, tmp_path / "whole", batch_size=8)

    class Large(Toy):
        def predict(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 1 and self.calls > 3:
                raise MemoryError
            return super().predict(images)

    with pytest.raises(MemoryError):
        run_toy(scene, tmp_path / "map", Large(), batch_size=8)
    run_toy(scene, tmp_path / "map", Large(), batch_size=1, resume=True)
    assert content(tmp_path / "map" / "map.tif") == content(tmp_path / "whole" / "map.tif")


def test_a_map_is_found_finished_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, aoi = write_scene(tmp_path / "scene.tif", picture(60, 60)), tmp_path / "aoi.gpkg"
    with rasterio.open(scene) as file:
        ground = shapely.box(*file.bounds)
    geopandas.GeoSeries([ground], crs=file.crs).to_file(aoi)
    run_toy(scene, tmp_path / "map", aoi=aoi)
    monkeypatch.chdir(tmp_path)
    toy = Toy()
    run_toy(scene, tmp_path / "map", toy, aoi=Path("aoi.gpkg"), resume=True)
    assert toy.calls == 0


def test_other_settings_are_refused(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(60, 60))
    run_toy(scene, tmp_path / "map")
    with pytest.raises(UserError, match="holds a map already"):
        run_toy(scene, tmp_path / "map")
    before = (tmp_path / "map/map.tif").stat().st_mtime_ns
    toy = Toy()
    run_toy(scene, tmp_path / "map", toy, resume=True)
    assert (tmp_path / "map/map.tif").stat().st_mtime_ns == before
    assert toy.calls == 0
    with pytest.raises(UserError, match=r"begun with overlap = 0.08.*, not 0.5"):
        run_toy(scene, tmp_path / "map", overlap=0.5, resume=True)
    write_scene(scene, picture(60, 60, 1))
    with pytest.raises(UserError, match="begun with scenes"):
        run_toy(scene, tmp_path / "map", resume=True)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    path = tmp_path / "unfinished/ledger.sqlite"
    first = Ledger(path, {"a": 1})
    with pytest.raises(UserError, match="another process is mapping"):
        Ledger(path, {"a": 1})
    first.close()
    path.write_bytes(b"no data base, but long enough to be looked at" * 30)
    with pytest.raises(UserError, match="is damaged"):
        Ledger(path, {"a": 1})


def test_a_damaged_scene_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    path.write_bytes(b"II*\0nothing more")
    with pytest.raises(UserError, match=r"scene.tif cannot be opened as a raster"):
        run_toy(path, tmp_path / "map")


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[" * 100_000, b"\xff\xfe{}", b"[]", b'{"settings": 3}', b'{"a": NaN}']
)
def test_a_damaged_description_of_a_map_is_one_sentence(tmp_path: Path, damage: bytes) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(40, 50))
    out = tmp_path / "map"
    run_toy(scene, out)
    (out / "map.json").write_bytes(damage)
    with pytest.raises(UserError, match=r"map\.json is damaged, .* delete .*map and map again"):
        run_toy(scene, out, resume=True)


def test_json_of_a_map_is_strict(tmp_path: Path) -> None:
    """NaN is written as null, and a finished map is recognized with it."""

    scene = write_scene(tmp_path / "scene.tif", picture(40, 50))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    toy = Toy()
    options = {"stretch": (0.0, float("inf"))}
    run_toy(scene, tmp_path / "map", toy, **options)
    text = (tmp_path / "map/map.json").read_text()
    assert json.loads(text, parse_constant=refuse)["settings"]["stretch"] == [0, None]
    run_toy(scene, tmp_path / "map", toy, resume=True, **options)
