import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from affine import Affine
from PIL import Image
from pydantic import ValidationError
from pyproj import Geod, Transformer
from tests import processes

from cgeartheye.cli import jlssd
from cgeartheye.config import ChipCutting
from cgeartheye.geo.reader import Scene
from cgeartheye.jlssd.chips import cut
from cgeartheye.jlssd.chips.cut import cut_chips
from cgeartheye.jlssd.chips.mosaics import chip_grid_at, open_mosaic
from cgeartheye.jlssd.resumable import claim
from cgeartheye.utils.errors import UserError
from failing_writes import fail_each

SIZE, GSD = 48, 2.0
LON, LAT = 15.2, 47.3  # of the first place, in UTM zone 33

_RANDOM = np.random.default_rng(7)
_WAVES = _RANDOM.normal(size=(6, 2)) * 0.05  # radians a metre
_PHASES = _RANDOM.uniform(0, 2 * np.pi, (6, 3))


def painting(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A ground in closed form, uint8 `[3, ...]`, by metres in UTM zone 33."""
    light = np.full((3, *x.shape), 110.0)
    for (east, north), phases in zip(_WAVES, _PHASES, strict=True):
        wave = (x - 515_000) * east + (y - 5_238_000) * north
        cosine, sine = np.cos(wave), np.sin(wave)
        for band, phase in zip(light, phases, strict=True):
            band += 18 * (cosine * np.cos(phase) - sine * np.sin(phase))
    return light.clip(1, 255).round().astype(np.uint8)


def center() -> tuple[float, float]:
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(LON, LAT)
    return round(x / GSD) * GSD, round(y / GSD) * GSD


def write_mosaic(
    path: Path, crs: int = 32633, gsd: float = GSD, side: float = 1600, bits: int = 8, **more: Any
) -> Path:
    """A picture of the ground around the first place, `side` metres wide, in any system."""
    x, y = center()
    to = Transformer.from_crs(32633, crs, always_xy=True)
    left, top = to.transform(x - side / 2, y + side / 2)
    step = gsd
    if crs == 4326:
        step = gsd / 111_195
    if crs == 32633:
        left, top = x - side / 2, y + side / 2
    pixels = int(side / gsd)
    place = Affine(step, 0, left, 0, -step, top)
    rows, columns = np.mgrid[:pixels, :pixels] + 0.5
    values = painting(*to.transform(*(place @ (columns, rows)), direction="INVERSE"))
    change = more.pop("change", None)
    if change is not None:
        change(values)
    if bits == 16:
        values = values.astype(np.uint16) * 40
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "width": pixels, "height": pixels, "count": 3, "crs": crs}
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    with rasterio.open(
        path, "w", dtype=values.dtype, transform=place, **profile, **tiles, **more
    ) as file:
        file.write(values)
    return path


def write_places(path: Path, offsets: list[tuple[float, float]]) -> Path:
    """Places by metres east and north of the first."""
    x, y = center()
    back = Transformer.from_crs(32633, 4326, always_xy=True)
    points = [back.transform(x + east, y + north) for east, north in offsets]
    columns = {
        "place": [f"p{n:03}" for n in range(len(points))],
        "lon": [lon for lon, _ in points],
        "lat": [lat for _, lat in points],
        "region": ["R"] * len(points),
        "land_cover": ["crop"] * len(points),
        "elevation": [300.0] * len(points),
        "band": ["200 to 400 m"] * len(points),
        "stratum": ["R/crop/200 to 400 m"] * len(points),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def settings(mosaics: dict[str, Any], **more: Any) -> ChipCutting:
    as_text = {
        season: tuple(str(p) for p in (paths if isinstance(paths, list) else [paths]))
        for season, paths in mosaics.items()
    }
    return ChipCutting(mosaics=as_text, size=SIZE, gsd=GSD, **more)


def chip_of(out: Path, row: dict[str, Any]) -> np.ndarray:
    with Image.open(out.parent / row["path"]) as image:
        assert image.format == "JPEG"
        return np.asarray(image)


def expected_chip(row: dict[str, Any]) -> np.ndarray:
    """The painting on a chip's grid."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    place = Affine(row["gsd"], 0, row["left"], 0, -row["gsd"], row["top"])
    to = Transformer.from_crs(row["crs"], 32633, always_xy=True)
    return np.moveaxis(painting(*to.transform(*(place @ (columns, rows)))), 0, -1)


@pytest.fixture(autouse=True)
def without_report(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "report" not in request.node.name:
        monkeypatch.setattr(cut, "write_report", lambda *_: None)


@pytest.mark.parametrize(
    ("crs", "gsd", "least"),
    [(32633, GSD, 0.5), (32633, 0.5, 1.5), (32632, GSD, 2.0), (4326, 1.0, 2.0), (3857, 1.5, 2.0)],
)
def test_chips_show_the_ground_whatever_the_mosaic(
    tmp_path: Path, crs: int, gsd: float, least: float
) -> None:
    mosaic = write_mosaic(tmp_path / "m.tif", crs, gsd, side=600 if crs == 32633 else 1700)
    places = write_places(tmp_path / "design.parquet", [(0, 0), (200, -150), (-210, 133)])
    out = tmp_path / "chips/chips.parquet"
    rows = cut_chips(places, settings({"summer": mosaic}), out, 1).to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 3
    for row in rows:
        seen = chip_of(out, row).astype(float)
        assert np.abs(seen - expected_chip(row)).mean() < least + 1.2  # JPEG's own is about 1


@pytest.mark.parametrize(("crs", "west"), [(4326, -180), (4326, 0), (3857, -180)])
@pytest.mark.parametrize("lon", [179.9, -179.99, 2.0, -3.0])
def test_chips_across_the_edge_of_a_map_of_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crs: int, west: float, lon: float
) -> None:
    step = 0.02 * (1 if crs == 4326 else 111_319.490793)
    light = 127 + 100 * np.cos(np.radians(np.arange(18_000) + 0.5) * 0.02 * 10)
    values = np.broadcast_to(light.round().astype(np.uint8), (3, 200, 18_000))
    place = Affine(step, 0, west * step / 0.02, 0, -step, 100 * step)
    path, size = tmp_path / "world.tif", {"width": 18_000, "height": 200}
    more = {"count": 3, "dtype": "uint8", "crs": crs, "transform": place, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", **size, **more) as file:
        file.write(values)
    read, most = Scene.read, []

    def counted(self: Scene, rows: tuple[int, int], columns: tuple[int, int]) -> Any:
        most.append(columns[1] - columns[0])
        return read(self, rows, columns)

    monkeypatch.setattr(Scene, "read", counted)
    chip_grid = chip_grid_at(lon, 0.1, 64, 2000.0)
    seen = open_mosaic("s", [str(path)], tmp_path).look(chip_grid)
    assert seen is not None
    x = chip_grid.left + 2000 * (np.arange(64) + 0.5)
    back = Transformer.from_crs(chip_grid.crs, 4326, always_xy=True)
    found, _ = back.transform(x, np.full(64, chip_grid.top - 32 * 2000.0))
    expected = 127 + 100 * np.cos(np.radians(found) * 10)
    assert seen[1].all()
    assert np.abs(seen[0][32, :, 0] - expected).max() < 1.5
    assert sum(most) < 3 * 64  # and not all columns between the two edges


def test_bands_in_another_order(tmp_path: Path) -> None:
    rgb, bgr = write_mosaic(tmp_path / "rgb.tif", side=600), tmp_path / "bgr.tif"
    with rasterio.open(rgb) as file, rasterio.open(bgr, "w", **file.profile) as other:
        other.write(file.read()[::-1])
    design = write_places(tmp_path / "design.parquet", [(0.0, 0.0)])
    found = []
    for path, bands in ((rgb, (1, 2, 3)), (bgr, (3, 2, 1))):
        settings = ChipCutting(mosaics={"s": (str(path),)}, size=SIZE, gsd=GSD, bands=bands)
        table = cut_chips(design, settings, tmp_path / path.stem / "chips.parquet", 0)
        assert table["status"].to_pylist() == ["ok"]
        found.append((tmp_path / path.stem / table["path"][0].as_py()).read_bytes())
    assert found[0] == found[1]
    wrong = ChipCutting(mosaics={"s": (str(rgb),)}, size=SIZE, gsd=GSD, bands=(1, 2, 4))
    with pytest.raises(UserError, match="has 3 bands, so no band 4"):
        cut_chips(design, wrong, tmp_path / "wrong" / "chips.parquet", 0)


def test_a_mosaic_on_the_grid_is_not_resampled(tmp_path: Path) -> None:
    mosaic = write_mosaic(tmp_path / "m.tif", side=600)
    seen = open_mosaic("summer", [str(mosaic)], tmp_path).look(chip_grid_at(LON, LAT, SIZE, GSD))
    assert seen is not None
    pixels, valid = seen
    assert valid.all()
    chip_grid = chip_grid_at(LON, LAT, SIZE, GSD)
    row = {"crs": chip_grid.crs, "left": chip_grid.left, "top": chip_grid.top, "gsd": GSD}
    np.testing.assert_array_equal(pixels, expected_chip(row))


@pytest.mark.parametrize(
    ("lon", "lat"), [(12, 47), (-179.99, -17), (179.99, 65), (30, 89.9), (-120, -89.99), (18, -33)]
)
def test_a_spot_is_centred_on_its_place_and_true_to_scale(lon: float, lat: float) -> None:
    chip_grid = chip_grid_at(lon, lat, 1024, 0.75)
    assert chip_grid.left % 0.75 == 0
    assert chip_grid.top % 0.75 == 0
    back = Transformer.from_crs(chip_grid.crs, 4326, always_xy=True)
    side = 1024 * 0.75
    x, y = back.transform(chip_grid.left + side / 2, chip_grid.top - side / 2)
    geod = Geod(ellps="WGS84")
    assert geod.inv(lon, lat, x, y)[2] < 0.75
    (west, east), (south, north) = back.transform(
        [chip_grid.left, chip_grid.left + side], [chip_grid.top - side / 2] * 2
    )
    assert geod.inv(west, south, east, north)[2] == pytest.approx(side, rel=0.007)


def test_what_is_not_cut_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def lose(values: np.ndarray) -> None:
        values[:, :, 400 + 6 :] = 0  # half of the first place's chip is east of column 400

    def veil(values: np.ndarray) -> None:
        values[:, :370] = 235

    summer = write_mosaic(tmp_path / "summer.tif", change=lose, nodata=0)
    winter = write_mosaic(tmp_path / "winter.tif", change=veil)
    offsets = [(0, 0), (-700, -700), (-700, 700), (9000, 0)]
    places = write_places(tmp_path / "design.parquet", offsets)
    out = tmp_path / "chips/chips.parquet"
    table = cut_chips(places, settings({"summer": summer, "winter": winter}), out, 1)
    rows = {(r["place"], r["season"]): r for r in table.to_pylist()}
    words = {key: row["status"] for key, row in rows.items()}
    assert words == {
        ("p000", "summer"): "nodata",
        ("p000", "winter"): "ok",
        ("p001", "summer"): "ok",
        ("p001", "winter"): "ok",
        ("p002", "summer"): "ok",
        ("p002", "winter"): "cloud",
        ("p003", "summer"): "missing",
        ("p003", "winter"): "missing",
    }
    assert rows["p000", "summer"]["nodata_share"] == pytest.approx(0.5 - 6 / SIZE, abs=0.03)
    assert "without data, at most 5 %" in rows["p000", "summer"]["reason"]
    assert "below cloud, at most 30 %" in rows["p002", "winter"]["reason"]
    assert "does not reach here" in rows["p003", "winter"]["reason"]
    for row in rows.values():
        assert (row["path"] is None) == (row["status"] != "ok")
        assert row["path"] is None or (out.parent / row["path"]).is_file()
        assert row["region"] == "R"
        assert row["stratum"] == "R/crop/200 to 400 m"
    grids = {(r["place"], r["crs"], r["left"], r["top"]) for r in rows.values()}
    assert len(grids) == 4  # all seasons of a place have the same pixels
    output = capsys.readouterr().out
    assert "summer: 2 chips; 1 missing, 1 nodata" in output
    assert "winter: 2 chips; 1 cloud, 1 missing" in output


def test_the_report_names_what_is_missing(tmp_path: Path) -> None:
    mosaic = write_mosaic(tmp_path / "m.tif")
    places = write_places(tmp_path / "design.parquet", [(0, 0), (9000, 0)])
    out = tmp_path / "chips/chips.parquet"
    cut_chips(places, settings({"summer": mosaic, "winter": mosaic}), out, 1)
    page = (out.parent / "chips.html").read_text()
    assert "missing" in page
    assert page.count("data:image/jpeg") == 3  # the map and both seasons of a place


def test_files_of_several_systems_make_one_season(tmp_path: Path) -> None:
    def lose(values: np.ndarray) -> None:
        values[:, :, 260:] = 0  # of 500 columns, with the place in the middle

    folder = tmp_path / "summer"
    write_mosaic(folder / "a.tif", side=1000, change=lose, nodata=0)
    write_mosaic(folder / "b.tif", 32632, 1.0, side=800, nodata=0)
    places = write_places(tmp_path / "design.parquet", [(0, 0)])
    out = tmp_path / "chips/chips.parquet"
    (row,) = cut_chips(places, settings({"summer": folder}), out, 1).to_pylist()
    assert row["status"] == "ok"
    assert np.abs(chip_of(out, row).astype(float) - expected_chip(row)).mean() < 3


def test_tiles_of_one_grid_are_one_layer(tmp_path: Path) -> None:
    """So they have one stretch, whatever each of them shows, and are looked up at once."""
    with rasterio.open(write_mosaic(tmp_path / "m.tif", bits=16, side=600)) as file:
        values, profile = file.read(), file.profile
    for row in (0, 100, 200):
        for column in (0, 100, 200):
            place = profile["transform"] @ Affine.translation(column, row)
            tile = tmp_path / f"tiles/{row}_{column}.tif"
            tile.parent.mkdir(exist_ok=True)
            more = profile | {"width": 100, "height": 100, "transform": place}
            with rasterio.open(tile, "w", **more) as file:
                file.write(values[:, row : row + 100, column : column + 100])
    # Pixels of a little other size cannot be of one mosaic, and are seen all the same.
    write_mosaic(tmp_path / "tiles/other.tif", gsd=GSD * 1.000002, bits=16, side=200)
    mosaic = open_mosaic("s", [str(tmp_path / "tiles")], tmp_path)
    assert sorted(map(len, mosaic.layers)) == [1, 9]
    assert mosaic.look(chip_grid_at(LON, LAT, SIZE, GSD)) is not None


def test_the_order_of_seasons_makes_another_table(tmp_path: Path) -> None:
    mosaic = write_mosaic(tmp_path / "m.tif")
    places = write_places(tmp_path / "design.parquet", [(0, 0), (40, 0)])
    out = tmp_path / "chips/chips.parquet"
    for seasons in (["b", "a"], ["a", "b"]):
        table = cut_chips(places, settings(dict.fromkeys(seasons, mosaic)), out, 0)
        assert table["season"].to_pylist() == seasons * 2


def test_16_bits_and_paths_of_gdal(tmp_path: Path) -> None:
    mosaic = write_mosaic(tmp_path / "deep.tif", bits=16)
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        archive.write(mosaic, "deep.tif")
    places = write_places(tmp_path / "design.parquet", [(0, 0)])
    paths = {"file": mosaic, "zip": f"/vsizip/{tmp_path}/deep.zip/deep.tif"}
    out = tmp_path / "chips/chips.parquet"
    rows = cut_chips(places, settings(paths), out, 1).to_pylist()
    one, two = (chip_of(out, row) for row in rows)
    np.testing.assert_array_equal(one, two)
    assert one.std() > 20


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_cut import cut, cut_chips, settings
cut.PART = 2
cut.write_report = lambda *_: None
cut_chips(Path(sys.argv[2]), settings({"s": Path(sys.argv[3]), "w": Path(sys.argv[3])}),
          Path(sys.argv[4]), 1)
"""


def test_killed_and_resumed_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "PART", 2)
    mosaic = write_mosaic(tmp_path / "m.tif")
    places = write_places(tmp_path / "design.parquet", [(13 * n - 200, 0) for n in range(30)])
    out = tmp_path / "killed/chips.parquet"
    arguments = [Path(__file__).parent, places, mosaic, out]
    process = processes.start(["-c", SCRIPT, *arguments])
    while len(list(out.parent.rglob("*.parquet"))) < 3:
        assert process.is_alive()
        time.sleep(0.002)
    process.kill()
    process.join()
    assert not out.exists()
    chosen = settings({"s": mosaic, "w": mosaic})
    done = {p: p.stat().st_mtime_ns for p in out.parent.rglob("0*.parquet")}
    cut_chips(places, chosen, out, 1)
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())
    whole = tmp_path / "whole/chips.parquet"
    cut_chips(places, chosen, whole, 1)
    assert contents(out.parent) == contents(whole.parent)
    assert len(contents(out.parent)) == 61


def contents(folder: Path) -> dict[str, bytes]:
    """The table and the chips, but for what a kill left half-written."""
    found = [*folder.glob("*.parquet"), *folder.rglob("[!.]*.jpg")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_processes_do_not_matter(tmp_path: Path) -> None:
    """Started as those of users are; other tests of several fork theirs."""
    mosaic = write_mosaic(tmp_path / "m.tif")
    places = write_places(tmp_path / "design.parquet", [(20 * n - 700, 0) for n in range(70)])
    for name, count in (("one", 1), ("two", 2)):
        cut_chips(places, settings({"s": mosaic}), tmp_path / name / "chips.parquet", count)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_cannot_be_read_is_recorded_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mosaic = write_mosaic(tmp_path / "m.tif")
    whole = mosaic.read_bytes()
    stat = mosaic.stat()
    damaged = bytearray(whole)
    third = len(whole) // 3
    damaged[third : 2 * third] = bytes(third)

    def put(data: bytes) -> None:
        mosaic.write_bytes(data)
        os.utime(mosaic, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    put(bytes(damaged))
    offsets = [(0, 50 * n) for n in range(-14, 15)]
    places = write_places(tmp_path / "design.parquet", offsets)
    out = tmp_path / "chips/chips.parquet"
    rows = cut_chips(places, settings({"s": mosaic}), out, 1).to_pylist()
    words = [row["status"] for row in rows]
    assert "unreadable" in words
    assert "ok" in words
    bad = rows[words.index("unreadable")]
    assert "m.tif cannot be read in rows" in bad["reason"]
    assert "--resume" not in bad["reason"]
    assert "run the same command again to retry" in " ".join(capsys.readouterr().out.split())
    put(whole)
    again = cut_chips(places, settings({"s": mosaic}), out, 1)
    assert set(again["status"].to_pylist()) == {"ok"}


@pytest.mark.parametrize("some", [True, False])
def test_deleted_chips_are_cut_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some: bool
) -> None:
    monkeypatch.setattr(cut, "PART", 2)
    mosaic = write_mosaic(tmp_path / "m.tif")
    places = write_places(tmp_path / "design.parquet", [(40 * n - 700, 0) for n in range(6)])
    out = tmp_path / "chips/chips.parquet"
    cut_chips(places, settings({"s": mosaic}), out, 1)
    before = contents(out.parent)
    chips = sorted(out.parent.rglob("*.jpg"))
    kept = {path: path.stat().st_mtime_ns for path in chips[2:]}
    for path in chips[:1] if some else chips:
        path.unlink()
    cut_chips(places, settings({"s": mosaic}), out, 1)
    assert contents(out.parent) == before
    if some:  # chips of other parts stay as they are
        assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    places = write_places(tmp_path / "design.parquet", [(0, 0)])
    out = tmp_path / "chips/chips.parquet"
    chosen = settings({"s": write_mosaic(tmp_path / "m.tif", side=600)})
    cut_chips(places, chosen, out, 0)
    part = next(out.with_suffix(".parts").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{part.name} is damaged"):
        cut_chips(places, chosen, out, 0)


def test_two_cuts_at_once(tmp_path: Path) -> None:
    places = write_places(tmp_path / "design.parquet", [(0, 0)])
    out = tmp_path / "chips/chips.parquet"
    chosen = settings({"s": write_mosaic(tmp_path / "m.tif", side=600)})
    with claim(out), pytest.raises(UserError, match=r"another process makes .*chips\.parquet"):
        cut_chips(places, chosen, out, 0)
    cut_chips(places, chosen, out, 0)


def test_other_settings_leave_the_chips_of_earlier_ones(tmp_path: Path) -> None:
    mosaic = write_mosaic(tmp_path / "m.tif")
    places = write_places(tmp_path / "design.parquet", [(0, 0)])
    out = tmp_path / "chips/chips.parquet"
    (first,) = cut_chips(places, settings({"s": mosaic}), out, 1).to_pylist()
    before = (out.parent / first["path"]).read_bytes()
    other = settings({"s": mosaic}).model_copy(update={"gsd": 3.0})
    (second,) = cut_chips(places, other, out, 1).to_pylist()
    assert first["path"] != second["path"]
    assert (out.parent / first["path"]).read_bytes() == before


def test_mistakes_are_reported(tmp_path: Path) -> None:
    mosaic = write_mosaic(tmp_path / "m.tif")
    places = write_places(tmp_path / "design.parquet", [(0, 0)])
    out = tmp_path / "chips/chips.parquet"
    with pytest.raises(UserError, match=r"absent\.tif"):
        cut_chips(places, settings({"s": tmp_path / "absent.tif"}), out)
    with pytest.raises(UserError, match="cannot be read as a table of places"):
        cut_chips(mosaic, settings({"s": mosaic}), out)
    parts = tmp_path / "parts"
    parts.mkdir()
    pq.write_table(pq.read_table(places), parts / "part.parquet")
    with pytest.raises(UserError, match=r"parts cannot be read as a table of places .*directory"):
        cut_chips(parts, settings({"s": mosaic}), out)
    pq.write_table(pa.table({"place": ["a"], "lon": [1.0]}), tmp_path / "poor.parquet")
    with pytest.raises(UserError, match="has no column lat"):
        cut_chips(tmp_path / "poor.parquet", settings({"s": mosaic}), out)
    good = pq.read_table(places)
    for name, values, sentence in (
        ("place", ["a/b"], "row 1: a/b is no name of a place"),
        ("place", [None], "row 1: None is no name of a place"),
        ("lon", ["east"], "has a column of another type"),
        ("lon", [float("nan")], "row 1: lon is nan, no degrees"),
        ("lat", [None], "row 1: lat is None, no degrees"),
        ("lat", [90.5], "row 1: lat is 90.5, no degrees"),
    ):
        changed = good.set_column(good.column_names.index(name), name, pa.array(values))
        pq.write_table(changed, tmp_path / "bad.parquet")
        with pytest.raises(UserError, match=sentence):
            cut_chips(tmp_path / "bad.parquet", settings({"s": mosaic}), out)
    numbers = good.set_column(0, "place", pa.array([17]))
    pq.write_table(numbers, tmp_path / "numbers.parquet")
    table = cut_chips(tmp_path / "numbers.parquet", settings({"s": mosaic}), out, 0)
    assert table["place"].to_pylist() == ["17"]
    doubled = pa.concat_tables([good, good]).set_column(0, "place", pa.array(["p", "p_late"]))
    pq.write_table(doubled, tmp_path / "doubled.parquet")
    with pytest.raises(UserError, match="two places whose chips would have one name"):
        cut_chips(tmp_path / "doubled.parquet", settings({"s": mosaic, "late_s": mosaic}), out)
    for season in ("a/b", "", " "):
        with pytest.raises(ValidationError, match="is no season's name"):
            settings({season: mosaic})
    with pytest.raises(ValidationError, match="at least 1 item"):
        settings({"s": []})
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.tif").write_bytes(mosaic.read_bytes()[:300])
    write_mosaic(folder / "c.tif", side=100)
    with pytest.raises(UserError, match=r"of 3 rasters of s 2 cannot be used: .*a\.tif .*b\.tif"):
        cut_chips(places, settings({"s": folder}), out)
    lost = tmp_path / "lost.tif"
    with rasterio.open(lost, "w", driver="GTiff", width=9, height=9, count=3, dtype="uint8") as f:
        f.write(np.zeros((3, 9, 9), np.uint8))
    with pytest.raises(UserError, match=r"lost\.tif has no CRS"):
        cut_chips(places, settings({"s": lost}), out)
    with pytest.raises(UserError, match="cannot be opened as a raster"):
        cut_chips(places, settings({"s": Path("/vsizip/no.zip/m.tif")}), out)


@pytest.mark.parametrize(
    ("mosaic", "bands", "sentence"),
    [
        (" =m.tif", (1, 2, 3), "write it as spring=spring.tif"),
        ("s=m.tif", (0, 1, 2), "--bands 0 1 2: bands are counted from 1"),
    ],
)
def test_arguments_that_no_mosaic_has(
    tmp_path: Path, mosaic: str, bands: tuple[int, int, int], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        jlssd.cut([mosaic], tmp_path / "design.parquet", tmp_path, bands)


def test_after_any_write_that_failed_the_chips_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut, "PART", 2)
    mosaic = write_mosaic(tmp_path / "m.tif")
    places = write_places(tmp_path / "design.parquet", [(13 * n - 30, 0) for n in range(5)])
    chosen = settings({"s": mosaic})

    def run(out: Path) -> None:
        cut_chips(places, chosen, out / "chips.parquet", 1)

    assert fail_each(monkeypatch, run, contents, tmp_path / "out") >= 4
