"""Reading stores; what they hold is tested beside packing."""

import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from tests import processes
from torch.utils.data import DataLoader, Dataset

from cgeartheye.pretraining.store.items import Settings
from cgeartheye.pretraining.store.pack import pack, verify
from cgeartheye.pretraining.store.reader import INDEX, Store, shard_path
from cgeartheye.utils.errors import UserError


def add(out: Path, first: int, count: int, place: int | None = None) -> None:
    """Add pictures, of a place or of their own."""
    folder = out.parent / "images"
    folder.mkdir(exist_ok=True)
    rows = ["path,place,season"]
    for number in range(first, first + count):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
        rows.append(f"{number}.jpg,p{number if place is None else place},{number}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    pack(folder / "table.csv", out, Settings(), workers=0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    add(tmp_path / "store", 0, 6)
    return Store(tmp_path / "store")


class Decoded(Dataset[torch.Tensor]):
    def __init__(self, store: Store):
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.store.decode(index)


@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_worker_processes_read(store: Store, start: str) -> None:
    expected = [store.decode(i) for i in range(len(store))]
    clean = start == "forkserver"
    context = processes.context() if clean else multiprocessing.get_context(start)
    loader = DataLoader(
        Decoded(store), batch_size=None, num_workers=1, multiprocessing_context=context
    )
    for image, other in zip(expected, loader, strict=True):
        assert torch.equal(image, other)
    # What the forked ones opened and closed was theirs.
    assert torch.equal(store.decode(0), expected[0])


def test_decodes_as_pillow_does(store: Store) -> None:
    for i, name in enumerate(store.table["path"].to_pylist()):
        with Image.open(store.folder.parent / "images" / name) as image:
            expected = np.asarray(image).astype(int)
        found = store.decode(i).permute(1, 2, 0).numpy()
        assert found.shape[:2] == store.size(i) == (40, 30)
        assert np.abs(found - expected).max() <= 2


def test_the_index_is_mapped_not_loaded(store: Store) -> None:
    with open("/proc/self/maps") as maps:
        assert str(store.folder / INDEX) in maps.read()
    before = pa.total_allocated_bytes()
    held = [Store(store.folder) for _ in range(5)]
    assert pa.total_allocated_bytes() == before
    for column in (held[0]._first, held[0]._height, held[0]._key):
        assert not column.flags.owndata
    assert len(pickle.dumps(store)) < 300


def test_images_are_added_to_a_store_that_is_open(store: Store) -> None:
    shard = shard_path(store.folder, 0)
    before = shard.read_bytes()
    expected = [store.decode(i) for i in range(len(store))]
    add(store.folder, 6, 3)
    add(store.folder, 9, 1, place=2)
    # Shards in use stay as they are, and so does what the open store shows.
    assert shard.read_bytes() == before
    assert len(store) == 6
    assert all(torch.equal(store.decode(i), image) for i, image in enumerate(expected))
    grown = Store(store.folder)
    assert len(grown) == 10
    assert grown.fingerprint != store.fingerprint
    places = grown.table["place"].to_pylist()
    assert [len(grown.seasons(i)) for i in range(10)] == [int(place == "p2") for place in places]
    assert verify(store.folder) == []


def test_the_fingerprint_knows_places(tmp_path: Path) -> None:
    add(tmp_path / "apart", 0, 2)
    add(tmp_path / "together", 0, 2, place=0)
    apart, together = Store(tmp_path / "apart"), Store(tmp_path / "together")
    assert [apart.read(i) for i in (0, 1)] == [together.read(i) for i in (0, 1)]
    assert apart.fingerprint != together.fingerprint
    assert apart.fingerprint == Store(tmp_path / "apart").fingerprint


def test_a_shard_that_is_cut_off(store: Store) -> None:
    """Unless it is found out, the process that reads it ends by SIGBUS."""
    path = shard_path(store.folder, 0)
    os.truncate(path, path.stat().st_size - 8192)
    with pytest.raises(UserError, match=r"00000\.lmdb is cut off"):
        store.decode(0)
    assert len(verify(store.folder)) == 6
    with pytest.raises(UserError, match=r"00000\.lmdb is cut off"):
        add(store.folder, 6, 1)


def test_a_shard_that_is_gone(store: Store) -> None:
    shard_path(store.folder, 0).unlink()
    with pytest.raises(UserError, match=r"cannot read .*\.jpg"):
        store.read(0)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_an_index_that_is_cut_off_is_made_anew(store: Store, share: float) -> None:
    path = store.folder / INDEX
    images, fingerprint = [store.read(i) for i in range(6)], store.fingerprint
    os.replace(path, path.with_suffix(".whole"))  # the open store has it mapped
    whole = path.with_suffix(".whole").read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"index\.arrow is damaged: pack again"):
        Store(store.folder)
    add(store.folder, 0, 6)
    mended = Store(store.folder)
    assert [mended.read(i) for i in range(6)] == images
    assert mended.fingerprint == fingerprint
