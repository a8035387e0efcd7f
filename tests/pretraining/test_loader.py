import pickle
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cgeartheye.config import (
    Network,
    Normalization,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Views,
)
from cgeartheye.pretraining.loader import Loader, ViewBatch, shuffled
from cgeartheye.pretraining.store import preload
from cgeartheye.pretraining.store.preload import PreloadedStore
from cgeartheye.utils.errors import UserError

CPU = torch.device("cpu")
IMAGES = 14
NORMALIZATION = Normalization(mean=(100, 110, 120), std=(40, 50, 60))


class FakeStore:
    """Images of several sizes; 0..2, 3..5 and 6, 7 show one place each, the others none."""

    def __init__(self, plain: bool = False, damaged: int | None = None):
        self.plain, self.damaged = plain, damaged
        self.decoded: Counter[int] = Counter()

    def __len__(self) -> int:
        return IMAGES

    def size(self, index: int) -> tuple[int, int]:
        return 40 + index, 60 - 2 * index

    def decode(self, index: int) -> Tensor:
        if index == self.damaged:
            raise UserError(f"image {index} of the store is damaged: pack it again")
        self.decoded[index] += 1
        shape = (*self.size(index), 3)
        if self.plain:  # its colour identifies it
            return torch.full(shape, index * 10, dtype=torch.uint8).permute(2, 0, 1)
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).permute(2, 0, 1)

    def seasons(self, index: int) -> Sequence[int]:
        places = [(0, 1, 2), (3, 4, 5), (6, 7)]
        place = next((place for place in places if index in place), (index,))
        return [other for other in place if other != index]


def loader(
    store: FakeStore | None = None,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int = 6,
    workers: int = 0,
    preload: str = "disk",
    seed: int = 0,
    **views: object,
) -> Loader:
    config = Pretraining(
        backbone=Network(name="tiny", gsd=1.0),
        data=PretrainingData(
            store=Path("unused"), batch_size=batch_size, workers=workers, preload=preload
        ),
        views=Views(**{"global_size": 42, "local_size": 28, "local_crops": 4} | views),
        training=PretrainingSchedule(seed=seed),
    )
    return Loader(store or FakeStore(), config, NORMALIZATION, CPU, rank, world_size)


def parts(batch: ViewBatch) -> list[Tensor]:
    return [batch.globals, batch.locals, batch.masks, batch.seasonal, batch.index]


def equal(a: ViewBatch, b: ViewBatch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(parts(a), parts(b), strict=True))


# The order


@given(st.integers(1, 30), st.integers(0, 200), st.integers(1, 60), st.integers(1, 60))
def test_the_order_is_one_endless_sequence_of_passes(
    count: int, first: int, left: int, right: int
) -> None:
    both = [shuffled(count, 5, first, left), shuffled(count, 5, first + left, right)]
    np.testing.assert_array_equal(np.concatenate(both), shuffled(count, 5, first, left + right))
    whole = shuffled(count, 5, 0, 3 * count).reshape(3, count)
    assert (np.sort(whole) == np.arange(count)).all()


def test_passes_and_seeds_have_their_own_order() -> None:
    passes = [*shuffled(50, 0, 0, 150).reshape(3, 50), shuffled(50, 1, 0, 50)]
    assert all((a != b).sum() > 40 for i, a in enumerate(passes) for b in passes[:i])


# Batches


def test_shapes_and_kinds() -> None:
    batch = next(loader(seasons="extra", season_crops=2).batches(0, 1))
    assert batch.globals.shape == (12, 3, 42, 42)
    assert batch.locals.shape == (6 * 6, 3, 28, 28)
    assert batch.masks.shape == (12, 3, 3)
    assert batch.seasonal.shape == (36,)
    assert batch.index.shape == (6,)
    assert [part.dtype for part in parts(batch)] == [
        torch.float32,
        torch.float32,
        torch.bool,
        torch.bool,
        torch.int64,
    ]


def test_without_local_crops() -> None:
    for place in ("disk", "device"):
        batch = next(loader(preload=place, local_crops=0, seasons="off").batches(0, 1))
        assert batch.locals.shape == (0, 3, 28, 28)
        assert batch.seasonal.shape == (0,)


@pytest.mark.parametrize("preload", ["disk", "memory", "device"])
def test_views_come_view_by_view_from_the_right_images(preload: str) -> None:
    batch = next(loader(FakeStore(plain=True), preload=preload, jitter_probability=0).batches(3, 4))
    mean, std = (torch.tensor(v)[:, None, None] for v in (NORMALIZATION.mean, NORMALIZATION.std))

    def source(crops: Tensor) -> Tensor:
        values = (crops * std + mean) / 10
        assert (values - values.round()).abs().max() < 1e-4
        return values.round()[:, 0, 0, 0].long()

    assert torch.equal(source(batch.globals), batch.index.repeat(2))
    shown = source(batch.locals).view(4, 6)
    seasonal = batch.seasonal.view(4, 6)
    assert seasonal.any()
    assert not seasonal.all()
    assert torch.equal(shown != batch.index, seasonal)
    for sample, anchor in enumerate(batch.index.tolist()):
        others = FakeStore().seasons(anchor)
        assert sorted(shown[seasonal[:, sample], sample].tolist()) == sorted(others)


def test_both_global_crops_of_a_sample_share_one_mask() -> None:
    masked = next(loader().batches(0, 1)).masks.any(dim=(1, 2)).view(2, 6)
    assert (masked.sum(dim=0) == 1).all()


def by_sample(batch: ViewBatch) -> list[Tensor]:
    samples = len(batch.index)
    views = [part.unflatten(0, (-1, samples)).transpose(0, 1) for part in parts(batch)[:-1]]
    return [*views, batch.index]


def test_two_processes_see_what_one_sees() -> None:
    whole = loader(batch_size=8).batches(2, 5)
    left = loader(batch_size=4, rank=0, world_size=2).batches(2, 5)
    right = loader(batch_size=4, rank=1, world_size=2, workers=1).batches(2, 5)
    for batches in zip(whole, left, right, strict=True):
        for one, *two in zip(*map(by_sample, batches), strict=True):
            assert torch.equal(one, torch.cat(two))


def test_workers_and_the_first_step_change_nothing() -> None:
    whole = list(loader().batches(0, 6))
    workers = loader(workers=2)
    for first in (0, 4):
        later = list(workers.batches(first, 6))
        assert len(later) == 6 - first
        assert all(equal(a, b) for a, b in zip(whole[first:], later, strict=True))


def test_seeds_and_steps_differ() -> None:
    a, b, c = next(loader().batches(0, 1)), next(loader().batches(1, 2)), loader(seed=1)
    assert not torch.equal(a.globals, b.globals)
    assert not torch.equal(a.globals, next(c.batches(0, 1)).globals)


def test_a_batch_may_be_larger_than_the_store() -> None:
    batch = next(loader(batch_size=2 * IMAGES).batches(0, 1))
    assert sorted(batch.index.tolist()) == sorted([*range(IMAGES), *range(IMAGES)])


def test_an_image_is_decoded_once_a_sample() -> None:
    store = FakeStore()
    batch = next(loader(store, batch_size=1, seasons="off").batches(0, 1))
    assert store.decoded == {int(batch.index[0]): 1}


# Where the images are held


def test_held_in_memory_they_give_the_same_to_the_bit() -> None:
    store = FakeStore()
    memory = loader(store, preload="memory")
    assert store.decoded == Counter(range(IMAGES))
    for a, b in zip(loader().batches(0, 4), memory.batches(0, 4), strict=True):
        assert equal(a, b)
    assert store.decoded == Counter(range(IMAGES))


@pytest.mark.parametrize("workers", [0, 2])
def test_held_on_the_device_they_give_the_same_but_for_rounding(workers: int) -> None:
    on_device = loader(preload="device", workers=workers, jitter_probability=0)
    for a, b in zip(
        loader(jitter_probability=0).batches(0, 4), on_device.batches(0, 4), strict=True
    ):
        assert all(torch.equal(x, y) for x, y in zip(parts(a)[2:], parts(b)[2:], strict=True))
        for x, y in zip(parts(a)[:2], parts(b)[:2], strict=True):
            gray_levels = (x - y).abs() * torch.tensor(NORMALIZATION.std)[:, None, None]
            assert gray_levels.max() < 1.6
            assert gray_levels.mean() < 0.4


def test_held_images_are_the_stores() -> None:
    store = FakeStore()
    images = pickle.loads(pickle.dumps(PreloadedStore(store, CPU)))
    assert len(images) == IMAGES
    for index in range(IMAGES):
        assert images.size(index) == store.size(index)
        assert torch.equal(images.decode(index), store.decode(index))
        assert images.seasons(index) == store.seasons(index)


@pytest.mark.parametrize("preload", ["memory", "device"])
def test_images_that_do_not_fit_are_refused_before_decoding(
    preload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(3 * h * w for h, w in map(FakeStore().size, range(IMAGES)))
    free = "cgeartheye.pretraining.store.preload._free_memory"
    monkeypatch.setattr(free, lambda device: (needed - 1, "here"))
    store = FakeStore()
    with pytest.raises(
        UserError, match=r"decoded images take .* free here: set data\.preload=disk"
    ):
        loader(store, preload=preload)
    assert not store.decoded
    monkeypatch.setattr(free, lambda device: (needed, "here"))
    loader(store, preload=preload)


def test_free_memory_is_shared_by_the_processes_of_a_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    free, where = preload._free_memory(CPU)
    assert 1e7 < free < 1e14
    assert where == "in memory for each process"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert preload._free_memory(CPU)[0] == pytest.approx(free / 4, rel=0.2)


# Damage


@pytest.mark.parametrize(("preload", "workers"), [("disk", 0), ("disk", 2), ("memory", 0)])
def test_a_damaged_image_is_one_sentence(preload: str, workers: int) -> None:
    with pytest.raises(UserError, match=r"^image 5 of the store is damaged: pack it again$"):
        list(
            islice(loader(FakeStore(damaged=5), preload=preload, workers=workers).batches(0, 9), 9)
        )
