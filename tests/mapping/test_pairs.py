import json
import signal
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.warp import transform as reproject
from tests import processes
from toy_map import NORTH_UP, ToyChange, content, picture, read, run_toy, write_scene
from world import GRIDS, HOUSES, SHAPE, first, render, second

from cgeartheye.geo.pair import PairScene, open_pair
from cgeartheye.geo.reader import open_scene
from cgeartheye.geo.warp import pixel_grid_at, warp_to
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.mapping.sinks import writer
from cgeartheye.utils.errors import UserError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "LEVIR-CD-20" / "test"
INNER = slice(8, -8), slice(8, -8)


def opened(before: Path, after: Path, **options: Any) -> PairScene:
    return open_pair([before], [after], **options)


def all_of(pair: PairScene) -> tuple[np.ndarray, np.ndarray | None]:
    return pair.read((0, pair.height), (0, pair.width))


def truth() -> np.ndarray:
    changed = np.zeros(SHAPE, bool)
    for row, column, rows, columns in HOUSES:
        changed[row : row + rows, column : column + columns] = True
    return changed


@pytest.mark.parametrize("grid", GRIDS)
def test_the_second_date_may_lie_on_any_grid(tmp_path: Path, grid: str) -> None:
    """Against pictures and a map of both dates on one grid."""
    a = first(tmp_path / "a.tif")
    pair = opened(a, second(tmp_path / "b.tif", grid))
    pixels, valid = all_of(pair)
    assert valid is None
    assert pixels.shape == (6, *SHAPE)
    np.testing.assert_array_equal(pixels[:3], read(a))
    aligned = render(NORTH_UP, 32650, SHAPE, later=True)
    away = np.ones(SHAPE, bool)  # from the houses' walls, which no other grid has at its edges
    for row, column, rows, columns in HOUSES:
        away[row - 2 : row + rows + 2, column - 2 : column + columns + 2] = False
        away[row + 2 : row + rows - 2, column + 2 : column + columns - 2] = True
    error = np.abs(pixels[3:].astype(int) - aligned)[:, away]
    assert error.mean() < 1.5
    assert error.max() <= 12

    run_toy(a, tmp_path / "map", after=tmp_path / "b.tif")
    run_toy(a, tmp_path / "one", after=write_scene(tmp_path / "c.tif", aligned))
    found, one = (read(tmp_path / name / "map.tif")[0] for name in ("map", "one"))
    assert (found != one).mean() < 0.005
    assert (found == truth()).mean() > 0.985
    with rasterio.open(tmp_path / "map/map.tif") as file:
        assert (file.transform, file.crs.to_epsg()) == (NORTH_UP, 32650)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(list(GRIDS)),
    st.integers(0, SHAPE[0] - 1),
    st.integers(0, SHAPE[1] - 1),
    st.integers(1, 100),
    st.integers(1, 100),
    st.booleans(),
)
def test_what_is_read_does_not_depend_on_the_piece(
    whole_reads: dict[Any, Any],
    grid: str,
    top: int,
    left: int,
    height: int,
    width: int,
    moved: bool,
) -> None:
    pair, pixels, valid = whole_reads[grid, moved]
    rows, columns = (top, min(top + height, SHAPE[0])), (left, min(left + width, SHAPE[1]))
    piece, known = pair.read(rows, columns)
    place = slice(*rows), slice(*columns)
    np.testing.assert_array_equal(piece, pixels[:, *place])
    expected = valid[place]
    np.testing.assert_array_equal(np.ones_like(expected) if known is None else known, expected)


@pytest.fixture(scope="module")
def whole_reads(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """Pairs with holes, and all that they hold; moved ones by half a pixel, where ties round."""
    folder, made = tmp_path_factory.mktemp("pairs"), {}
    a = first(folder / "a.tif")
    for number, grid in enumerate(GRIDS):
        b = second(folder / f"{number}.tif", grid, nodata=0)
        with rasterio.open(b, "r+") as file:
            hole = rasterio.windows.Window(file.width // 2, file.height // 3, 30, 20)
            file.write(np.zeros((3, 20, 30), np.uint8), window=hole)
        for moved in (False, True):
            pair = opened(a, b)
            pair = pair.shifted(0.5, -3.5) if moved else pair
            pixels, valid = all_of(pair)
            assert valid is not None
            made[grid, moved] = pair, pixels, valid
    return made


@pytest.mark.parametrize("crs", [4326, 3857, 32651, 2154])
def test_places_are_those_of_gdal(tmp_path: Path, crs: int) -> None:
    """Large pixels at 60° N: computed every 32 pixels only, exact to a fraction of a pixel."""
    grid = Affine(10, 0, 450_000, 0, -10, 6_650_000)
    home = 32631 if crs == 2154 else 32650
    x, y = Transformer.from_crs(home, crs, always_xy=True).transform(450_000, 6_650_000)
    size = 1e-4 if crs == 4326 else 10.0
    path = write_scene(tmp_path / "a.tif", picture(60, 60), Affine(size, 0, x, 0, -size, y), crs)
    scene = open_scene([path])
    transform = pixel_grid_at(scene)._replace(transform=grid, crs=rasterio.crs.CRS.from_epsg(home))
    found = warp_to(scene, transform, (500, 500))._places((1000, 1100), (2003, 2100))
    rows, columns = np.mgrid[1000:1100, 2003:2100] + 0.5
    x, y = (values.ravel() for values in grid @ (columns, rows))
    points = [np.reshape(v, rows.shape) for v in reproject(f"EPSG:{home}", f"EPSG:{crs}", x, y)]
    expected = ~scene.transform @ points
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)


def test_the_pair_is_what_both_cover(tmp_path: Path) -> None:
    a = write_scene(tmp_path / "a.tif", picture(60, 80))
    place = NORTH_UP @ Affine.translation(30, -20)
    b = write_scene(tmp_path / "b.tif", picture(50, 100, 1), place)
    pair = opened(a, b)
    assert (pair.rows, pair.columns) == ((0, 30), (30, 80))
    assert pair.transform == place @ Affine.translation(0, 20)
    pixels, valid = all_of(pair)
    assert valid is None
    np.testing.assert_array_equal(pixels[:3], read(a)[:, :30, 30:])
    np.testing.assert_array_equal(pixels[3:], read(b)[:, 20:, :50])


def test_beyond_a_turned_date_there_is_no_data(tmp_path: Path) -> None:
    a = write_scene(tmp_path / "a.tif", picture(120, 120))
    turned = NORTH_UP @ Affine.translation(60, 20) @ Affine.rotation(40)
    b = write_scene(tmp_path / "b.tif", picture(50, 50, 1), turned)
    pair = opened(a, b)
    assert pair.width < 80
    pixels, valid = all_of(pair)
    rows, columns = np.mgrid[: pair.height, : pair.width] + 0.5
    x, y = ~turned @ (pair.transform @ (columns, rows))
    inside = (x > 0) & (x < 50) & (y > 0) & (y < 50)
    np.testing.assert_array_equal(valid, inside)
    assert (pixels[:, ~inside] == 0).all()
    facts = run_toy(a, tmp_path / "map", after=b)
    np.testing.assert_array_equal(read(tmp_path / "map/map.tif")[0] != 255, inside)
    assert facts["mapped_pixels"] == inside.sum()


KINDS = "value", "value and NaN", "NaN", "alpha", "mask"


def with_holes(path: Path, pixels: np.ndarray, holes: np.ndarray, kind: str) -> Path:
    """Write pixels, some without data, marked in different ways."""
    if kind in ("value and NaN", "NaN"):
        pixels = pixels.astype(np.float32)
        pixels[:, holes] = np.nan
        if kind == "NaN":
            return write_scene(path, pixels)
        pixels[:, holes & (np.arange(holes.shape[1]) % 2 > 0)] = -9999
        return write_scene(path, pixels, nodata=-9999)
    if kind == "alpha":
        alpha = np.where(holes, 0, 255).astype(np.uint8)[None]
        return write_scene(path, np.concatenate([pixels, alpha]), photometric="RGB", alpha="YES")
    if kind == "mask":
        write_scene(path, pixels)
        with rasterio.open(path, "r+") as file:
            file.write_mask(~holes)
        return path
    return write_scene(path, pixels * ~holes, nodata=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gsd", [None, 1.3])
def test_what_either_date_lacks_is_nodata(tmp_path: Path, kind: str, gsd: float | None) -> None:
    holes = np.zeros((2, *SHAPE), bool)
    holes[0, 20:40, 30:60], holes[0, 100, 100] = True, True
    holes[1, 30:50, 50:90], holes[1, 120, 7] = True, True
    dates = [
        with_holes(tmp_path / f"{n}.tif", render(NORTH_UP, 32650, SHAPE, n > 0), holes[n], kind)
        for n in range(2)
    ]
    options = {"stretch": (0, 255)} if "NaN" in kind else {}
    run_toy(dates[0], tmp_path / "map", ToyChange(gsd=gsd), after=dates[1], **options)
    found = read(tmp_path / "map/map.tif")[0]
    np.testing.assert_array_equal(found == 255, holes.any(axis=0))
    pixels, valid = all_of(opened(*dates, **options))
    np.testing.assert_array_equal(valid, ~holes.any(axis=0))
    expected = render(NORTH_UP, 32650, SHAPE, True) * valid
    np.testing.assert_array_equal(pixels[3:], expected)


def test_no_data_does_not_bleed_into_its_neighbours(tmp_path: Path) -> None:
    """Interpolated between pixels with data only: a black hole leaves no dark rim."""
    pixels = np.full((3, *SHAPE), 200, np.uint8)
    pixels[:, 40:60, 50:80] = 0
    a = first(tmp_path / "a.tif")
    b = write_scene(tmp_path / "b.tif", pixels, NORTH_UP @ Affine.translation(-0.4, 0.3), nodata=0)
    seen, valid = all_of(opened(a, b))
    assert valid is not None
    assert set(np.unique(seen[3:])) == {0, 200}
    np.testing.assert_array_equal(seen[3] == 200, valid)
    assert (~valid).sum() == 20 * 30  # the nearest pixel's


def test_a_much_finer_date_is_averaged(tmp_path: Path) -> None:
    """Single pixels of a chessboard would be noise."""
    a = write_scene(tmp_path / "a.tif", picture(40, 50))
    board = (np.indices((160, 200)).sum(0) % 2 * 200).astype(np.uint8)
    fine = NORTH_UP @ Affine.scale(0.25)
    b = write_scene(tmp_path / "b.tif", np.stack([board] * 3), fine)
    pixels, _ = all_of(opened(a, b))
    assert (pixels[3:] == 100).all()


def test_each_date_has_its_own_stretch(tmp_path: Path) -> None:
    pixels = picture(60, 80)
    a = write_scene(tmp_path / "a.tif", pixels)
    b = write_scene(tmp_path / "b.tif", pixels.astype(np.uint16) * 30 + 700)
    pair = opened(a, b)
    assert pair.before.stretch is None
    low, high = np.percentile(pixels, [1, 99]) * 30 + 700
    np.testing.assert_allclose(pair.after.scene.stretch, (low, high), rtol=0.02)
    seen, _ = all_of(opened(a, b, stretch=(700, 700 + 30 * 255)))
    np.testing.assert_array_equal(seen[3:], pixels)
    facts = run_toy(a, tmp_path / "map", after=b)
    assert facts["scene"]["dates"][1]["stretch"] == pair.after.scene.stretch


def test_bands_and_folders_hold_for_both(tmp_path: Path) -> None:
    a, b = picture(60, 100), picture(60, 100, 1)
    one = write_scene(tmp_path / "a.tif", a[::-1])
    folder = tmp_path / "later"
    folder.mkdir()
    write_scene(folder / "1.tif", b[::-1, :, :40])
    write_scene(folder / "2.tif", b[::-1, :, 40:], NORTH_UP @ Affine.translation(40, 0))
    pixels, _ = all_of(open_pair([one], [folder], bands=(3, 2, 1)))
    np.testing.assert_array_equal(pixels, np.concatenate([a, b]))
    facts = run_toy(one, tmp_path / "map", after=folder, bands=(3, 2, 1))
    assert len(facts["settings"]["before"]) == 1
    assert len(facts["settings"]["after"]) == 2


@pytest.mark.parametrize("gsd", [None, 0.5, 1.6])
def test_options_of_any_map(tmp_path: Path, gsd: float | None) -> None:
    a, b = first(tmp_path / "a.tif"), second(tmp_path / "b.tif", "mercator, turned")
    corners = [NORTH_UP @ corner for corner in ((20, 30), (170, 35), (50, 140))]
    frame = geopandas.GeoDataFrame(geometry=[shapely.Polygon(corners)], crs=32650)
    frame.to_crs(4326).to_file(tmp_path / "aoi.geojson")
    toy = ToyChange(gsd=gsd)
    run_toy(a, tmp_path / "map", toy, after=b, aoi=tmp_path / "aoi.geojson", probabilities=True)
    found, percent = read(tmp_path / "map/map.tif")[0], read(tmp_path / "map/probabilities.tif")
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    inside = shapely.contains_xy(shapely.Polygon(corners), *(NORTH_UP @ (columns, rows)))
    assert ((found != 255) == inside).mean() > 0.9995  # middles on an edge
    known = found != 255
    assert (percent[:, ~known] == 255).all()
    assert (np.abs(percent[:, known].sum(axis=0, dtype=int) - 100) <= 1).all()
    assert ((percent[1] > 50) == (found == 1))[known & (percent[1] != 50)].all()
    assert (found == truth())[known].mean() > 0.97


def test_vectors_are_of_change_alone(tmp_path: Path) -> None:
    a = first(tmp_path / "a.tif")
    b = second(tmp_path / "b.tif", "degrees")
    options: dict[str, Any] = {"vector_format": ("gpkg",), "date_labels": ("2018-05", "2021-06")}
    facts = run_toy(a, tmp_path / "map", after=b, **options)
    frame = geopandas.read_file(tmp_path / "map/map.gpkg")
    assert len(frame) == len(HOUSES)
    assert set(frame["class"]) == {"changed"}
    assert set(frame.before) == {"2018-05"}
    assert set(frame.after) == {"2021-06"}
    assert frame.confidence.between(0.5, 1).all()
    np.testing.assert_allclose(
        sorted(frame.area_m2), sorted(h * w * 0.75**2 for *_, h, w in HOUSES), rtol=0.15
    )
    assert [date["date"] for date in facts["scene"]["dates"]] == ["2018-05", "2021-06"]
    assert [date["crs"] for date in facts["scene"]["dates"]] == ["EPSG:32650", "EPSG:4326"]


@pytest.mark.parametrize("ending", ["gpkg", "parquet", "geojson", "fgb"])
def test_where_nothing_changed_there_are_no_polygons(tmp_path: Path, ending: str) -> None:
    a, b = first(tmp_path / "a.tif"), second(tmp_path / "b.tif", later=False)
    facts = run_toy(a, tmp_path / "map", after=b, vector_format=(ending,))
    assert facts["classes"][1]["pixels"] == 0
    path = tmp_path / f"map/map.{ending}"
    frame = geopandas.read_parquet(path) if ending == "parquet" else geopandas.read_file(path)
    assert len(frame) == 0
    assert ending == "geojson" or {"class", "area_m2", "confidence", "before", "after"} <= set(
        frame.columns
    )


def test_dates_are_those_of_the_tags_or_the_names(tmp_path: Path) -> None:
    a, b = first(tmp_path / "spring.tif"), second(tmp_path / "b.tif")
    with rasterio.open(b, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2021:10:19 10:30:00")
    assert opened(a, b).dates == ("spring", "2021-10-19")
    assert opened(a, b, dates=("x", "y")).dates == ("x", "y")


@pytest.mark.parametrize("grid", GRIDS)
def test_a_displaced_date_is_moved_back(
    tmp_path: Path, grid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a, off = first(tmp_path / "a.tif"), (4.3, -6.6)
    b = second(tmp_path / "b.tif", grid, off)
    facts = run_toy(a, tmp_path / "map", after=b, coregister=True)
    found = facts["scene"]["registration"]
    assert found["applied"]
    np.testing.assert_allclose((found["rows"], found["columns"]), off, atol=0.15)
    np.testing.assert_allclose(found["metres_down"], 0.75 * found["rows"], atol=0.02)
    assert found["squares_that_agree"] > found["squares"] / 2
    assert facts["settings"]["shift"] == (found["rows"], found["columns"])
    captured = capsys.readouterr()
    assert "the second date is off by +4." in captured.out + captured.err
    mapped = read(tmp_path / "map/map.tif")[0]
    assert (mapped == truth())[INNER].mean() > 0.985
    run_toy(a, tmp_path / "left", after=b)
    assert (read(tmp_path / "left/map.tif")[0] == truth())[INNER].mean() < 0.9


def test_a_shift_that_is_not_sure_is_not_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(1, 256, (2, 3, 200, 200), np.uint8)
    a, b = (write_scene(tmp_path / f"{n}.tif", noise[n]) for n in range(2))
    pair = opened(a, b, registered=True)
    assert pair.registration is not None
    assert not pair.registration.applied
    assert "no reliable shift found" in "".join(capsys.readouterr())
    np.testing.assert_array_equal(all_of(pair)[0], noise.reshape(6, 200, 200))
    small = [write_scene(tmp_path / f"small{n}.tif", noise[n, :, :40]) for n in range(2)]
    found = opened(*small, registered=True).registration
    assert found is not None
    assert (found.squares, found.applied) == (0, False)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared LEVIR-CD-20")
def test_real_dates_years_apart_are_moved_back(tmp_path: Path) -> None:
    """Hardly a square shows the shift by itself; all of them do, and what is added to it."""
    corners = "0000", "0512"
    before, after = (
        np.block(
            [
                [read(SHARED / date / f"test_05_{row}_{column}.jpg") for column in corners]
                for row in corners
            ]
        )
        for date in ("Image1", "Image2")
    )
    a = write_scene(tmp_path / "a.tif", before)
    found = []
    for shift in (0, 0), (3, 4):
        b = write_scene(tmp_path / f"b{shift[0]}.tif", np.roll(after, shift, (1, 2)))
        pair = opened(a, b, registered=True)
        assert pair.registration is not None
        assert pair.registration.applied
        assert pair.registration.together
        assert "squares measured together" in pair.registration.sentence(pair.ground)
        found.append((pair.registration.rows, pair.registration.columns))
    np.testing.assert_allclose(np.subtract(found[1], found[0]), (3, 4), atol=0.2)


def test_possible_mistakes_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = first(tmp_path / "a.tif"), second(tmp_path / "b.tif")
    opened(a, b, dates=("2018-05-01", "2021-06-01"))
    opened(a, b, dates=("summer", "spring"))
    assert "warning" not in "".join(capsys.readouterr())
    opened(a, b, dates=("2021-06-01", "2018-05-01"))
    assert "2021-06-01, is later than the second, 2018-05-01" in "".join(capsys.readouterr())
    opened(a, a)
    assert "a.tif, in which nothing can have changed" in "".join(capsys.readouterr())


def test_dates_that_fit_are_left_as_they_are(tmp_path: Path) -> None:
    a = first(tmp_path / "a.tif")
    b = write_scene(tmp_path / "b.tif", render(NORTH_UP, 32650, SHAPE, True))
    pair = opened(a, b, registered=True)
    assert pair.registration is not None
    assert pair.registration.reliable
    assert not pair.registration.applied
    np.testing.assert_array_equal(all_of(pair)[0][3:], read(b))
    assert pair.identity["shift"] == (0.0, 0.0)


NAMES = ("map.tif", "probabilities.tif", "map.json", "map.tif.aux.xml", "preview.html")


def test_killed_the_map_of_change_has_the_same_bytes(tmp_path: Path) -> None:
    a = first(tmp_path / "a.tif", nodata=0)
    b = second(tmp_path / "b.tif", "mercator, turned", (3.2, 2.1))
    command = [Path(__file__).with_name("toy_map.py"), a, tmp_path / "killed", b]
    options: dict[str, Any] = {"coregister": True, "probabilities": True, "batch_size": 4}
    run_toy(a, tmp_path / "whole", ToyChange(gsd=0.47), after=b, **options)
    written = tmp_path / "killed/unfinished/probabilities.raw"
    process = processes.start(command)
    while process.is_alive():
        if written.exists() and np.count_nonzero(np.fromfile(written, np.uint8)) > SHAPE[0] * 90:
            process.kill()
        time.sleep(0.005)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed/map.tif").exists()
    processes.run(command)
    for name in NAMES:
        pair = [content(tmp_path / out / name) for out in ("killed", "whole")]
        assert pair[0] == pair[1], name
    assert json.loads((tmp_path / "whole/map.json").read_text())["settings"]["shift"] != [0, 0]


def test_stopped_after_every_row_the_map_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_SECONDS_BETWEEN_NOTES", -1)
    a, b = first(tmp_path / "a.tif"), second(tmp_path / "b.tif", "degrees", (3.2, 2.1))
    options: dict[str, Any] = {"after": b, "coregister": True, "probabilities": True}
    run_toy(a, tmp_path / "whole", **options)
    note = Ledger.note

    class Stop(Exception):
        pass

    def note_and_stop(self: Ledger, rows: list[tuple[int, int, int]], found: Any) -> None:
        note(self, rows, found)
        if rows:
            raise Stop

    monkeypatch.setattr(Ledger, "note", note_and_stop)
    count = 0
    while True:
        try:
            run_toy(a, tmp_path / "map", resume=True, **options)
            break
        except Stop:
            count += 1
            assert count < 40
    assert count >= 3
    for name in NAMES:
        assert content(tmp_path / "map" / name) == content(tmp_path / "whole" / name)


def test_other_dates_are_other_settings(tmp_path: Path) -> None:
    a, b = first(tmp_path / "a.tif"), second(tmp_path / "b.tif")
    run_toy(a, tmp_path / "map", after=b, date_labels=("a", "b"))
    toy = ToyChange()
    run_toy(a, tmp_path / "map", toy, after=b, date_labels=("a", "b"), resume=True)
    assert toy.calls == 0
    for other, words in (
        ({"after": a, "date_labels": ("a", "b")}, "begun with after"),
        ({"after": b, "date_labels": ("x", "y")}, "begun with date_labels"),
        ({"after": b, "date_labels": ("a", "b"), "coregister": True}, "begun with coregister"),
    ):
        with pytest.raises(UserError, match=words):
            run_toy(a, tmp_path / "map", resume=True, **other)
    with pytest.raises(UserError, match="begun with before"):
        run_toy(b, tmp_path / "map", after=b, date_labels=("a", "b"), resume=True)


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    a, b = first(tmp_path / "a.tif"), second(tmp_path / "b.tif")
    far = write_scene(
        tmp_path / "far.tif", picture(40, 40), Affine(1e-5, 0, 10, 0, -1e-5, 50), 4326
    )
    nowhere = write_scene(tmp_path / "nowhere.tif", picture(*SHAPE), crs=None)
    beyond = write_scene(tmp_path / "beyond.tif", picture(40, 40), Affine(1e9, 0, 0, 0, 1e9, 0))
    plain = [
        write_scene(tmp_path / f"{side}.tif", picture(side, 50), Affine.identity(), None)
        for side in (40, 44)
    ]
    for before, after, options, words in (
        (a, far, {}, r"a.tif and .*far.tif do not overlap: name two scenes of the same place"),
        (far, b, {}, r"far.tif and .*b.tif do not overlap"),
        (a, nowhere, {}, r"nowhere.tif has no CRS: name it with --crs EPSG:CODE"),
        (nowhere, b, {}, r"nowhere.tif has no CRS"),
        (
            a,
            nowhere,
            {"input_gsd": 1.0},
            r"nowhere.tif is not georeferenced but .*a.tif is: name its",
        ),
        (a, beyond, {}, r"beyond.tif"),
        (a, tmp_path / "gone.tif", {}, "no scene .*gone.tif"),
        (a, b, {"bands": (1, 2, 4)}, "a.tif has 3 bands, so no band 4"),
        (
            *plain,
            {"input_gsd": 1.0},
            r"40.tif has 50 x 40 pixels and .*44.tif 50 x 44: without geo",
        ),
        (a, None, {"coregister": True}, "--coregister and --date-labels need two dates"),
        (a, None, {"date_labels": ("x", "y")}, "--coregister and --date-labels need two dates"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            run_toy(before, tmp_path / "map", ToyChange(), after=after, **options)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "map").exists()
    run_toy(a, tmp_path / "given", after=nowhere, crs="EPSG:32650")
    run_toy(plain[0], tmp_path / "plain", after=plain[0], input_gsd=1.0)


def test_dates_without_common_data_are_an_error(tmp_path: Path) -> None:
    pixels = picture(*SHAPE)
    left = np.arange(SHAPE[1]) < 100
    a = write_scene(tmp_path / "a.tif", pixels * left, nodata=0)
    b = write_scene(tmp_path / "b.tif", pixels * ~left, nodata=0)
    with pytest.raises(UserError, match=r"a.tif and .*b.tif has no pixel with data"):
        run_toy(a, tmp_path / "map", after=b)


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("JL1_20240513_PMS.tif", "2024-05-13"),
        ("2019-07-01.tif", "2019-07-01"),
        ("town_2019_07_01_rgb.tif", "2019-07-01"),
        ("GF2_E113.1_20230229_20230301_L1A0007123456.tif", "2023-03-01"),  # no such day first
        ("L1A0020240513.tif", "L1A0020240513"),  # within a longer number
        ("2019.tif", "2019"),
    ],
)
def test_dates_in_file_names(tmp_path: Path, name: str, day: str) -> None:
    first = write_scene(tmp_path / name, picture(30, 40))
    (tmp_path / "later").mkdir()
    second = write_scene(tmp_path / "later" / "2031-01-02.tif", picture(30, 40))
    assert open_pair([first], [second]).dates == (day, "2031-01-02")
