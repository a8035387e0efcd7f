import csv
import sys
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin
from rasterio.windows import Window
from tests import processes

from cgeartheye.geo.stretch import sample_squares
from cgeartheye.pretraining.store import pack as pack_module
from cgeartheye.pretraining.store import writer
from cgeartheye.pretraining.store.inputs import find_items
from cgeartheye.pretraining.store.items import Settings
from cgeartheye.pretraining.store.pack import pack, verify
from cgeartheye.pretraining.store.reader import INDEX, Store, shard_path
from cgeartheye.utils.errors import UserError
from failing_writes import fail_each

PLAIN = Settings()


def picture(seed: int, side: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """JPEG, PNG under a wrong ending, grey, RGBA and 16 bits."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    Image.fromarray(picture(0)).save(root / "a.jpg")
    Image.fromarray(picture(1)).save(root / "sub" / "b.png")
    (root / "sub" / "b.png").rename(root / "sub" / "b.jpg")
    Image.fromarray(picture(2)[..., 0]).save(root / "grey.png")
    Image.fromarray(picture(3)).convert("RGBA").save(root / "rgba.png")
    write_raster(root / "deep.tif", picture(4).astype(np.uint16) * 100)
    return root


def write_raster(path: Path, pixels: np.ndarray, **profile: object) -> None:
    height, width, bands = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=bands,
        dtype=pixels.dtype,
        **profile,
    ) as raster:
        raster.write(pixels.transpose(2, 0, 1))


def contents(out: Path) -> dict[str, tuple[object, ...]]:
    """The table of a store's images, and their bytes."""
    store = Store(out)
    rows = store.table.drop_columns(["shard", "key", "place_first", "place_count"]).to_pylist()
    return {row["path"]: (*row.values(), store.read(i)) for i, row in enumerate(rows)}


def test_a_folder_of_images(folder: Path, tmp_path: Path) -> None:
    done = pack(folder, tmp_path / "store", PLAIN, workers=0)
    assert (done.added, done.images, done.places, done.in_seasons) == (5, 5, 5, 0)
    store = Store(tmp_path / "store")
    index = {path: i for i, path in enumerate(store.table["path"].to_pylist())}
    # RGB files with 8 bits stay as they are, to the byte.
    for name in ("a.jpg", "sub/b.jpg"):
        assert store.read(index[f"images/{name}"]) == (folder / name).read_bytes()
    np.testing.assert_array_equal(
        store.decode(index["images/sub/b.jpg"]).permute(1, 2, 0), picture(1)
    )
    expected = np.asarray(Image.open(folder / "a.jpg"))
    found = store.decode(index["images/a.jpg"]).permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 2
    for i in range(5):
        assert store.decode(i).dtype == torch.uint8
        assert tuple(store.decode(i).shape[1:]) == store.size(i) == (24, 24)
        assert store.seasons(i) == []
    assert verify(tmp_path / "store") == []


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_with_seasons_and_further_columns(tmp_path: Path, kind: str) -> None:
    rows = []
    for place in range(3):
        for season in range(place + 1):
            name = f"{place}_{season}.png"
            Image.fromarray(picture(10 * place + season)).save(tmp_path / name)
            rows.append(
                {
                    "path": name,
                    "place": f"p{place}",
                    "season": season,
                    "lon": 1.5 * place,
                    "stratum": f"s{place}",
                }
            )
    table = tmp_path / f"places.{kind}"
    random = np.random.default_rng(0)
    rows = [rows[i] for i in random.permutation(len(rows))]
    (pa.csv.write_csv if kind == "csv" else pa.parquet.write_table)(
        pa.Table.from_pylist(rows), str(table)
    )
    done = pack(table, tmp_path / "store", PLAIN, workers=0)
    assert (done.images, done.places, done.in_seasons) == (6, 3, 2)
    store = Store(tmp_path / "store")
    found = store.table.to_pylist()
    for i, row in enumerate(found):
        others = [found[j] for j in store.seasons(i)]
        assert {r["place"] for r in others} <= {row["place"]}
        assert len(others) == int(row["place"][1])
        assert row["season"] not in {r["season"] for r in others}
        assert row["lon"] == 1.5 * int(row["place"][1])
        assert row["stratum"] == f"s{row['place'][1]}"


def test_places_and_seasons_of_a_csv_are_names_and_no_numbers(tmp_path: Path) -> None:
    places = ["3.1", "3.10", "007", "7", "12022100130213023121", "12022100130213023122"]
    seasons = ["06", "NA", "1e3"]
    lines = ["path,place,season,lon"]
    for n, (place, season) in enumerate((p, s) for p in places for s in seasons):
        Image.fromarray(picture(n)).save(tmp_path / f"{n}.png")
        lines.append(f"{n}.png,{place},{season},{n}.5")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    done = pack(tmp_path / "t.csv", tmp_path / "store", PLAIN, workers=0)
    assert (done.images, done.places, done.in_seasons) == (18, 6, 6)
    table = Store(tmp_path / "store").table
    assert sorted(set(table["place"].to_pylist())) == sorted(places)
    assert sorted(set(table["season"].to_pylist())) == sorted(seasons)
    assert set(table["lon"].to_pylist()) == {n + 0.5 for n in range(18)}


def test_a_damaged_image_whose_name_looks_like_a_formula(folder: Path, tmp_path: Path) -> None:
    for name in ("=a.png", "-b.png"):
        (folder / name).write_bytes(b"x")
    for _ in range(2):  # the second packing reads what the first wrote
        done = pack(folder, tmp_path / "store", PLAIN, workers=0, skip_damaged=True)
        assert len(done.skipped) >= 2
    table = (tmp_path / "store/skipped.csv").read_text()
    assert table.count("=a.png") == table.count("-b.png") == 2  # name and sentence


def test_rows_that_curation_dropped_are_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a.jpg", "grey.png", "rgba.png"]
    rows = [
        {"path": name, "place": str(n), "season": "s", "status": "ok", "reason": None}
        for n, name in enumerate(names)
    ]
    rows[1] |= {"status": "redundant", "reason": "like others"}
    rows.append({"path": None, "place": "9", "season": "s", "status": "missing", "reason": "x"})
    table = folder / "curated.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(rows), str(table))
    items = find_items(table, PLAIN)
    assert [item.name for item in items] == [names[0], names[2]]
    assert len(items) == 2
    assert "2 rows of" in "".join(capsys.readouterr())
    table.unlink()
    rows[0]["place"] = None
    pa.parquet.write_table(pa.Table.from_pylist(rows[::-1]), str(table))
    with pytest.raises(UserError, match="row 4: place missing"):
        find_items(table, PLAIN)


@pytest.mark.parametrize(("kind", "most"), [("parquet", 100), ("csv", 300)])
def test_rows_of_a_table_are_not_held_as_objects(tmp_path: Path, kind: str, most: int) -> None:
    """A row of 12 columns as a Python object takes 1 kB; of a CSV, Arrow reads blocks ahead."""
    count = 50_000
    numbers = [f"{n:07d}" for n in range(count)]
    columns = {
        "path": [f"images/0123456789abcdef/000000/1000-{n}_spring.jpg" for n in numbers],
        "place": [f"1000-{n}" for n in numbers],
        "season": ["spring"] * count,
        "stratum": [f"a region/forest/{n} to 1000 m" for n in numbers],
        **{f"measure_{n}": np.linspace(0, 1, count) for n in range(8)},
    }
    table = tmp_path / f"t.{kind}"
    if kind == "csv":
        pa.csv.write_csv(pa.table(columns), str(table))
    else:
        # Of a Parquet file a group of rows is held; those of large files have a million.
        pa.parquet.write_table(pa.table(columns), str(table), row_group_size=1000)
    # pathlib interns each name: the interpreter's table of them grows by 8 or 16 MB at a time, and
    # when it does depends on all that ran before.
    interned = [sys.intern(f"1000-{n}_spring.jpg") for n in numbers]
    del columns, numbers
    before, most_arrow, seen = pa.total_allocated_bytes(), 0, 0
    tracemalloc.start()
    items = find_items(table, PLAIN)
    for item in items:
        seen += 1
        assert item.row["place"] in item.name
        most_arrow = max(most_arrow, pa.total_allocated_bytes() - before)
    _, python = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == len(items) == len(interned) == count
    assert (python + most_arrow) / count < most


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,place\na.png,1\n", "row 1: season missing"),
        ("path,place,season\n,1,2\n", "row 1: path missing"),
        ("", "cannot be read as a table"),
        ("path,place,season,key\na.png,1,2,3\n", "column key"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        pack(tmp_path / "t.csv", tmp_path / "store", PLAIN, workers=0)


def test_the_number_of_workers_changes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_module, "START", processes.context())
    pack(folder, tmp_path / "one", PLAIN, workers=0)
    pack(folder, tmp_path / "several", PLAIN, workers=2)
    for name in (INDEX, "shards/00000.lmdb"):
        one, several = (tmp_path / out / name for out in ("one", "several"))
        assert one.read_bytes() == several.read_bytes()


def test_appending(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    pack(folder, out, PLAIN, workers=0)
    before = Store(out).fingerprint
    again = pack(folder, out, PLAIN, workers=0)
    assert (again.added, again.present, again.images) == (0, 5, 5)
    assert Store(out).fingerprint == before
    more = tmp_path / "more"
    more.mkdir()
    Image.fromarray(picture(7)).save(more / "new.png")
    (more / "copy.jpg").write_bytes((folder / "a.jpg").read_bytes())
    done = pack(more, out, PLAIN, workers=0)
    assert (done.added, done.duplicates, done.images) == (1, 1, 6)
    assert Store(out).fingerprint != before


def test_new_seasons_of_a_place_come_later(tmp_path: Path) -> None:
    for season in range(2):
        Image.fromarray(picture(season)).save(tmp_path / f"{season}.png")
        table = tmp_path / f"{season}.csv"
        table.write_text(f"path,place,season\n{season}.png,here,{season}\n")
        done = pack(table, tmp_path / "store", PLAIN, workers=0)
    assert (done.images, done.places, done.in_seasons) == (2, 1, 1)
    assert Store(tmp_path / "store").seasons(0) == [1]


def test_columns_of_two_tables_whose_types_differ_become_text(tmp_path: Path) -> None:
    for number, stratum in enumerate(("7", "north")):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
        table = tmp_path / f"{number}.csv"
        table.write_text(f"path,place,season,stratum\n{number}.png,p{number},1,{stratum}\n")
        pack(table, tmp_path / "store", PLAIN, workers=0)
    assert Store(tmp_path / "store").table["stratum"].to_pylist() == ["7", "north"]


def test_several_shards(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_IMAGES", 1)
    monkeypatch.setattr(writer, "SHARD_BYTES", 2**20)
    pack(folder, tmp_path / "one", PLAIN, workers=0)
    monkeypatch.setattr(writer, "SHARD_BYTES", 1)
    with pytest.raises(UserError, match=r"cannot write .*00000\.lmdb"):
        pack(folder, tmp_path / "none", PLAIN, workers=0)
    monkeypatch.setattr(writer, "SHARD_BYTES", 40_000)
    pack(folder, tmp_path / "several", PLAIN, workers=0)
    assert len(list((tmp_path / "several" / "shards").glob("*.lmdb"))) > 1
    assert contents(tmp_path / "one") == contents(tmp_path / "several")


def test_a_damaged_image(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "a.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "store"
    with pytest.raises(UserError, match=r"half\.jpg.*--skip-damaged"):
        pack(folder, out, PLAIN, workers=0)
    assert pack(folder, out, PLAIN, skip_damaged=True, workers=0).images == 5
    assert skipped(out) == {"images/half.jpg"}
    # Of another source; the list goes on.
    more = tmp_path / "more"
    more.mkdir()
    (more / "junk.png").write_bytes(b"junk")
    (more / "new.png").write_bytes((folder / "rgba.png").read_bytes()[:-200])
    Image.fromarray(picture(9)).save(more / "good.png")
    pack(more, out, PLAIN, skip_damaged=True, workers=0)
    assert skipped(out) == {"images/half.jpg", "more/junk.png", "more/new.png"}
    # Mended: no longer listed.
    Image.fromarray(picture(11)).save(more / "new.png")
    assert pack(more, out, PLAIN, skip_damaged=True, workers=0).images == 7
    assert skipped(out) == {"images/half.jpg", "more/junk.png"}


def skipped(out: Path) -> set[str]:
    with (out / "skipped.csv").open() as file:
        return {row["image"] for row in csv.DictReader(file)}


def test_damaged_rasters_are_skipped_too(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    root.mkdir()
    write_raster(root / "good.tif", picture(0, side=60))
    (root / "half.tif").write_bytes((root / "good.tif").read_bytes()[:2000])
    (root / "junk.tif").write_bytes(b"junk")
    out = tmp_path / "store"
    with pytest.raises(UserError, match=r"junk\.tif .*--skip-damaged"):
        pack(root, out, Settings(chip_size=30), workers=0)
    done = pack(root, out, Settings(chip_size=30), skip_damaged=True, workers=0)
    assert done.images == 4
    assert {name.split("#")[0] for name in done.skipped} == {"scenes/half.tif", "scenes/junk.tif"}


def test_nothing_to_keep(tmp_path: Path) -> None:
    (tmp_path / "junk.jpg").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"nothing of .* 1 images are damaged"):
        pack(tmp_path / "junk.jpg", tmp_path / "store", PLAIN, skip_damaged=True, workers=0)


def test_verify_names_what_has_changed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    pack(folder, out, PLAIN, workers=0)
    store = Store(out)
    needle, shard = store.read(0)[-200:], shard_path(out, 0)  # heads are alike
    data = bytearray(shard.read_bytes())
    # A page that was divided keeps what was moved to another.
    place = data.find(needle)
    assert place > 0
    while place > 0:
        data[place + 150] ^= 0xFF
        place = data.find(needle)
    shard.write_bytes(bytes(data))
    (problem,) = verify(out)
    assert store.table["path"][0].as_py() in problem


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no store of images in .*pretrain pack"):
        Store(tmp_path)
    (tmp_path / INDEX).write_bytes(b"not arrow")
    with pytest.raises(UserError, match="is damaged"):
        Store(tmp_path)
    with pytest.raises(UserError, match="no image, folder or table"):
        pack(tmp_path / "gone", tmp_path / "out", PLAIN)
    with pytest.raises(UserError, match="holds no images"):
        pack(tmp_path, tmp_path / "out", PLAIN)


def test_smaller_and_re_encoded(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "store", Settings(max_side=12, jpeg_quality=50), workers=0)
    store = Store(tmp_path / "store")
    assert {store.size(i) for i in range(len(store))} == {(12, 12)}
    assert all(store.read(i).startswith(b"\xff\xd8") for i in range(len(store)))


def test_rasters_of_several_dates_are_cut_along_one_grid(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    root.mkdir()
    ground = picture(0, side=100)[..., :1].repeat(3, axis=2)
    # The second date begins 10 pixels to the east and 20 to the south of the first.
    for name, left, top in (("2016", 0, 0), ("2018", 10, 20)):
        transform = from_origin(500_000 + left, 4_000_000 - top, 1, 1)
        date = ground[top:, left:] // 2 + left
        write_raster(root / f"{name}.tif", date, crs="EPSG:32633", transform=transform)
    done = pack(root, tmp_path / "store", Settings(chip_size=30), workers=0)
    # The grid starts at (0, 0): 3 x 3 chips; of the second date, rows and columns from 30 on.
    assert (done.images, done.places, done.in_seasons) == (9 + 4, 9, 4)
    store = Store(tmp_path / "store")
    rows = store.table.to_pylist()
    for i, row in enumerate(rows):
        down, across = map(int, row["place"].split("/")[-1].split("_"))
        expected = ground[30 * down : 30 * down + 30, 30 * across : 30 * across + 30]
        found = store.decode(i).permute(1, 2, 0).numpy().astype(int)
        found -= 10 * (row["season"] == "2018")
        assert np.abs(found - expected // 2).mean() < 4  # noise, through JPEG
        assert row["gsd"] == pytest.approx(1.0)
        for j in store.seasons(i):
            assert rows[j]["season"] != row["season"]


def test_a_date_that_comes_later_is_cut_along_the_grid_that_is_there(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    root.mkdir()
    ground = picture(0, side=130)

    def write(name: str, left: int, top: int, side: int) -> None:
        place = from_origin(500_000.25 + left, 4_000_000.75 - top, 1, 1)
        date = ground[top : top + side, left : left + side] // 2 + left
        write_raster(root / f"{name}.tif", date, crs="EPSG:32633", transform=place)

    write("2016", 30, 40, 90)
    settings, out = Settings(chip_size=30), tmp_path / "store"
    assert pack(root, out, settings, workers=0).images == 9
    write("2018", 0, 10, 120)  # reaches farther to the west and the north, by whole chips
    done = pack(root, out, settings, workers=0)
    assert (done.present, done.added, done.in_seasons) == (9, 16, 9)
    rows = Store(out).table.to_pylist()
    assert {row["place"].rsplit("/", 2)[1] for row in rows} == {"500030.25_3999960.75"}
    assert {(row["height"], row["width"]) for row in rows} == {(30, 30)}


@pytest.mark.parametrize("kind", ["palette", "bits"])
def test_chips_have_the_colors_of_the_whole(tmp_path: Path, kind: str) -> None:
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 4_000_000, 1, 1)}
    size = {"width": 64, "height": 64, "count": 1, "dtype": "uint8"}
    values = (np.indices((64, 64)).sum(0) // 8 % 2).astype(np.uint8)
    options = {"nbits": 1} if kind == "bits" else {}
    with rasterio.open(tmp_path / "image.tif", "w", "GTiff", **size, **place, **options) as file:
        file.write(values, 1)
        if kind == "palette":
            file.write_colormap(1, {0: (200, 80, 30), 1: (10, 120, 250)})
    for out, settings in (("whole", PLAIN), ("chips", Settings(chip_size=64 // 2))):
        pack(tmp_path / "image.tif", tmp_path / out, settings, workers=0)
    whole, chip = (Store(tmp_path / out).decode(0).float() for out in ("whole", "chips"))
    assert (whole[:, :32, :32] - chip).abs().mean() < 4  # through JPEG
    assert whole.amax() > 240


def test_only_rasters_of_one_resolution_share_places(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    root.mkdir()
    for name, step in (("coarse", 1.0), ("fine", 0.5)):
        transform = from_origin(500_000, 4_000_000, step, step)
        side = round(60 / step)
        write_raster(
            root / f"{name}.tif", picture(0, side=side), crs="EPSG:32633", transform=transform
        )
    done = pack(root, tmp_path / "apart", Settings(chip_size=30), workers=0)
    assert (done.images, done.in_seasons) == (4 + 16, 0)
    done = pack(root, tmp_path / "together", Settings(chip_size=30, gsd=1.0), workers=0)
    assert (done.images, done.in_seasons) == (4 + 4, 4)


def test_chips_of_another_size_are_other_images(tmp_path: Path) -> None:
    scene = tmp_path / "scene.tif"
    transform = from_origin(0, 0, 1, 1)
    write_raster(scene, picture(0, side=80), crs="EPSG:32633", transform=transform)
    for settings, count in (
        (Settings(chip_size=20), 16),
        (Settings(chip_size=40), 4),
        (Settings(chip_size=20, gsd=2), 4),
    ):
        done = pack(scene, tmp_path / "store", settings, workers=0)
        assert (done.added, done.present) == (count, 0)
        done = pack(scene, tmp_path / "store", settings, workers=0)
        assert (done.added, done.present) == (0, count)


def test_chips_of_a_chosen_gsd(tmp_path: Path) -> None:
    """Against means of blocks, and, for a raster in degrees, against its own grid."""
    ground = picture(0, side=8)[..., :1].repeat(3, axis=2)  # grey: JPEG halves the colours' grid
    pixels = ground.repeat(30, axis=0).repeat(30, axis=1)
    pixels[::2] //= 2  # so that only an average over both rows is right
    transform = from_origin(500_000, 4_000_000, 0.5, 0.5)
    write_raster(tmp_path / "scene.tif", pixels, crs="EPSG:32633", transform=transform)
    with pytest.raises(UserError, match="--chip-size"):
        pack(tmp_path / "scene.tif", tmp_path / "none", Settings(gsd=1.0), workers=0)
    done = pack(
        tmp_path / "scene.tif", tmp_path / "utm", Settings(chip_size=60, gsd=1.0), workers=0
    )
    assert done.images == 4
    expected = pixels.reshape(120, 2, 120, 2, 3).mean((1, 3))
    store = Store(tmp_path / "utm")
    for i, row in enumerate(store.table.to_pylist()):
        assert row["gsd"] == 1.0
        down, across = map(int, row["place"].split("/")[-1].split("_"))
        cell = expected[60 * down : 60 * down + 60, 60 * across : 60 * across + 60]
        found = store.decode(i).permute(1, 2, 0).numpy()
        assert np.abs(found - cell).mean() < 3  # JPEG


@pytest.mark.parametrize(("lon", "images"), [(15, 4), (12, 1)])
def test_a_raster_in_degrees_is_warped_to_metres(tmp_path: Path, lon: float, images: int) -> None:
    """400 x 283 m, bright. At 12 degrees north is 2.1 degrees askew; what is outside is black."""
    transform = from_origin(lon, 45, 3.6e-5, 3.6e-5)
    bright = 155 + picture(0, side=100)[..., :1].repeat(3, axis=2) % 101
    write_raster(tmp_path / "scene.tif", bright, crs="EPSG:4326", transform=transform)
    done = pack(
        tmp_path / "scene.tif", tmp_path / "store", Settings(chip_size=70, gsd=2.0), workers=0
    )
    assert (done.images, done.empty) == (images, 4 - images)
    store = Store(tmp_path / "store")
    for i, row in enumerate(store.table.to_pylist()):
        assert row["gsd"] == 2.0
        assert lon < row["lon"] < lon + 0.0036
        assert 45 - 0.0036 < row["lat"] < 45
        assert (store.decode(i).amax(0) < 100).float().mean() < 0.05


def test_ground_of_one_dark_band_is_no_hole(tmp_path: Path) -> None:
    pixels = picture(0, side=60) | 1
    pixels[..., 0] = 0
    georeference = {"crs": "EPSG:32633", "transform": from_origin(0, 0, 1, 1), "nodata": 0}
    write_raster(tmp_path / "water.tif", pixels, **georeference)
    for out, settings in (
        ("own", Settings(chip_size=30)),
        ("coarse", Settings(chip_size=15, gsd=2.0)),
    ):
        done = pack(tmp_path / "water.tif", tmp_path / out, settings, workers=0)
        assert (done.images, done.empty) == (4, 0)


def test_chips_without_data_are_left_out_and_scenes_are_stretched_as_one(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint16)
    pixels[:, :40] = np.linspace(1000, 2000, 40)[None, :, None]
    pixels[:, 40:60] = 3000
    pixels[20:, :60] += 500
    write_raster(
        tmp_path / "scene.tif",
        pixels,
        nodata=0,
        crs="EPSG:32633",
        transform=from_origin(0, 0, 0.5, 0.5),
    )
    done = pack(tmp_path / "scene.tif", tmp_path / "store", Settings(chip_size=20), workers=0)
    # Of 2 x 4 chips those of the last column are nodata.
    assert (done.images, done.empty) == (6, 2)
    store = Store(tmp_path / "store")
    means = {
        row["place"].split("/")[-1]: store.decode(i).float().mean().item()
        for i, row in enumerate(store.table.to_pylist())
    }
    # One stretch: what is brighter in the scene is brighter in the store.
    assert means["0_0"] < means["0_1"] < means["0_2"]


def test_data_between_the_squares_of_a_large_scene_are_stretched_by(tmp_path: Path) -> None:
    """A raster of 16 bits with data in one corner of few pixels, that no sampled square has."""
    side, place = 8192, {"crs": "EPSG:32633", "transform": from_origin(0, 0, 0.5, 0.5)}
    size = {"width": side, "height": side, "count": 3, "dtype": "uint16", "nodata": 0}
    layout = {"tiled": True, "sparse_ok": True, "compress": "deflate"}
    pixels = np.linspace(1000, 2000, 128 * 128, dtype=np.uint16).reshape(128, 128)
    rows = [rows for rows, _ in sample_squares(side, 256)]
    top = next(b[1] + 32 for b, a in pairwise(rows) if a[0] - b[1] > 192)
    with rasterio.open(tmp_path / "sparse.tif", "w", "GTiff", **size, **place, **layout) as file:
        file.write(np.stack([pixels] * 3), window=Window(top, top, 128, 128))
    done = pack(tmp_path / "sparse.tif", tmp_path / "store", Settings(chip_size=64), workers=0)
    assert done.images >= 1
    image = Store(tmp_path / "store").decode(0)
    assert 20 < image[:, 8:-8, 8:-8].float().mean() < 235
    assert image.float().std() > 2


def test_a_full_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "store"
    pack(folder, out, PLAIN, workers=0)
    before = contents(out)
    more = tmp_path / "more"
    more.mkdir()
    Image.fromarray(picture(9)).save(more / "new.png")

    def full(transaction: object, *arguments: object) -> None:
        raise writer.lmdb.DiskError("No space left on device")

    monkeypatch.setattr(writer, "_as_bytes", full)
    with pytest.raises(UserError, match=r"No space left on device.*make room"):
        pack(more, out, PLAIN, workers=0)
    monkeypatch.undo()
    assert contents(out) == before
    assert pack(more, out, PLAIN, workers=0).images == 6


PROGRAM = """
import sys
from pathlib import Path
from cgeartheye.pretraining.store import pack, writer
from cgeartheye.pretraining.store.inputs import find_items
from cgeartheye.pretraining.store.items import Settings
writer.COMMIT_IMAGES = 3
pack.pack(Path(sys.argv[1]), Path(sys.argv[2]), Settings(), workers=0)
"""


def test_killed_and_packed_again(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for seed in range(120):
        Image.fromarray(picture(seed, side=64)).save(root / f"{seed:03d}.png")
    pack(root, tmp_path / "whole", PLAIN, workers=0)
    out = tmp_path / "killed"
    for growth in (0, 150_000, 300_000):  # bytes; 0: in the middle of the first commit
        program = processes.start(["-c", PROGRAM, root, out])
        shards = out / "shards" / "00000.lmdb"
        size = shards.stat().st_size if shards.exists() else 0
        while program.is_alive():
            if shards.exists() and shards.stat().st_size > size + growth:
                program.kill()
                break
            time.sleep(0.001)
        program.join()
    done = pack(root, out, PLAIN, workers=0)
    assert done.present > 0
    assert contents(out) == contents(tmp_path / "whole")


def test_after_any_write_that_failed_the_store_is_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> None:
        pack(folder, out, PLAIN, workers=0)

    assert fail_each(monkeypatch, run, contents, tmp_path / "out") >= 2
