import csv
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin
from torch.utils.data import DataLoader, Dataset

from cgeartheye.errors import UserError
from cgeartheye.pretraining import pack as packing
from cgeartheye.pretraining.pack import pack, verify
from cgeartheye.pretraining.sources import Settings
from cgeartheye.pretraining.store import INDEX, Store, shard_path

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
    """What a store says of its images, and their bytes."""
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,place\na.png,1\n", "row 1: season missing"),
        ("path,place,season\n,1,2\n", "row 1: path missing"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        pack(tmp_path / "t.csv", tmp_path / "store", PLAIN, workers=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(folder: Path, tmp_path: Path, workers: int) -> None:
    pack(folder, tmp_path / "one", PLAIN, workers=0)
    pack(folder, tmp_path / "several", PLAIN, workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "several")


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


def test_several_shards(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "COMMIT_IMAGES", 1)
    monkeypatch.setattr(packing, "SHARD_BYTES", 2**20)
    pack(folder, tmp_path / "one", PLAIN, workers=0)
    monkeypatch.setattr(packing, "SHARD_BYTES", 1)
    with pytest.raises(UserError, match=r"cannot write .*00000\.lmdb"):
        pack(folder, tmp_path / "none", PLAIN, workers=0)
    monkeypatch.setattr(packing, "SHARD_BYTES", 40_000)
    pack(folder, tmp_path / "several", PLAIN, workers=0)
    assert len(list((tmp_path / "several" / "shards").glob("*.lmdb"))) > 1
    assert contents(tmp_path / "one") == contents(tmp_path / "several")


def test_a_damaged_image(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "a.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "store"
    with pytest.raises(UserError, match=r"half\.jpg.*--skip-damaged"):
        pack(folder, out, PLAIN, workers=1)
    done = pack(folder, out, PLAIN, skip_damaged=True, workers=1)
    assert done.images == 5
    with (out / "skipped.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["image"] == "images/half.jpg"


def test_verify_names_what_has_changed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    pack(folder, out, PLAIN, workers=0)
    store = Store(out)
    needle, shard = store.read(0)[:200], shard_path(out, 0)
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
    pack(folder, tmp_path / "store", Settings(max_side=12, quality=50), workers=0)
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
    done = pack(root, tmp_path / "store", Settings(chip=30), workers=0)
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
    done = pack(tmp_path / "scene.tif", tmp_path / "store", Settings(chip=20), workers=0)
    # Of 2 x 4 chips those of the last column are nodata.
    assert (done.images, done.empty) == (6, 2)
    store = Store(tmp_path / "store")
    means = {
        row["place"].split("/")[-1]: store.decode(i).float().mean().item()
        for i, row in enumerate(store.table.to_pylist())
    }
    # One stretch: what is brighter in the scene is brighter in the store.
    assert means["0_0"] < means["0_1"] < means["0_2"]


def test_a_full_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "store"
    pack(folder, out, PLAIN, workers=0)
    before = contents(out)
    more = tmp_path / "more"
    more.mkdir()
    Image.fromarray(picture(9)).save(more / "new.png")

    def full(transaction: object, *arguments: object) -> None:
        raise packing.lmdb.DiskError("No space left on device")

    monkeypatch.setattr(packing, "_as_bytes", full)
    with pytest.raises(UserError, match=r"No space left on device.*make room"):
        pack(more, out, PLAIN, workers=0)
    monkeypatch.undo()
    assert contents(out) == before
    assert pack(more, out, PLAIN, workers=0).images == 6


PROGRAM = """
import sys
from pathlib import Path
from cgeartheye.pretraining import pack
from cgeartheye.pretraining.sources import Settings
pack.COMMIT_IMAGES = 3
pack.pack(Path(sys.argv[1]), Path(sys.argv[2]), Settings(), workers=0)
"""


def test_killed_and_packed_again(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for seed in range(120):
        Image.fromarray(picture(seed, side=64)).save(root / f"{seed:03d}.png")
    pack(root, tmp_path / "whole", PLAIN, workers=0)
    out = tmp_path / "killed"
    for _ in range(3):
        program = subprocess.Popen([sys.executable, "-c", PROGRAM, str(root), str(out)])
        shards = out / "shards" / "00000.lmdb"
        size = shards.stat().st_size if shards.exists() else 0
        while program.poll() is None:
            if shards.exists() and shards.stat().st_size > size:
                os.kill(program.pid, signal.SIGKILL)
                break
            time.sleep(0.001)
        program.wait()
    done = pack(root, out, PLAIN, workers=0)
    assert done.present > 0
    assert contents(out) == contents(tmp_path / "whole")


class Decoded(Dataset[torch.Tensor]):
    def __init__(self, store: Store):
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.store.decode(index)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_read(folder: Path, tmp_path: Path, start: str) -> None:
    pack(folder, tmp_path / "store", PLAIN, workers=0)
    store = Store(tmp_path / "store")
    expected = [store.decode(i) for i in range(len(store))]
    context = multiprocessing.get_context(start)
    loader = DataLoader(
        Decoded(store), batch_size=None, num_workers=2, multiprocessing_context=context
    )
    for image, other in zip(expected, loader, strict=True):
        assert torch.equal(image, other)
