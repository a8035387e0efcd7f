import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cgeartheye.jlssd.curation import deduplicate as module
from cgeartheye.jlssd.curation.balanced_sampling import allot, balanced_sample, effective_number
from cgeartheye.jlssd.curation.deduplicate import find_duplicates


def one_by_one(sizes: list[int], wanted: int) -> list[int]:
    """Give one at a time to whoever has least and is not full, of equals to the largest."""
    shares = [0] * len(sizes)
    for _ in range(wanted):
        open_ = [k for k in range(len(sizes)) if shares[k] < sizes[k]]
        shares[min(open_, key=lambda k: (shares[k], -sizes[k], k))] += 1
    return shares


@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.data())
def test_allot_is_one_by_one(sizes: list[int], data: st.DataObject) -> None:
    wanted = data.draw(st.integers(0, sum(sizes)))
    assert allot(np.array(sizes), wanted).tolist() == one_by_one(sizes, wanted)


@given(st.integers(0, 2**16), st.data())
def test_sample_is_balanced_on_every_level(seed: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    fine = random.integers(0, 9, 60)
    coarse = fine // 3
    free = random.random(60) < 0.8
    wanted = data.draw(st.integers(0, int(free.sum())))
    chosen = balanced_sample([coarse, fine], free, wanted, seed)
    assert chosen.sum() == wanted
    assert not (chosen & ~free).any()
    sizes = [int((free & (coarse == c)).sum()) for c in range(3)]
    shares = [int((chosen & (coarse == c)).sum()) for c in range(3)]
    assert shares == one_by_one(sizes, wanted)
    for c in range(3):
        below = range(3 * c, 3 * c + 3)
        sizes = [int((free & (fine == f)).sum()) for f in below]
        assert [int((chosen & (fine == f)).sum()) for f in below] == one_by_one(sizes, shares[c])


def test_the_seed_decides_within_a_cluster() -> None:
    labels, free = np.zeros(50, int), np.ones(50, bool)
    first, again = (balanced_sample([labels], free, 10, 1) for _ in range(2))
    assert (first == again).all()
    assert (first != balanced_sample([labels], free, 10, 2)).any()


def greedy(features: np.ndarray, labels: np.ndarray, least: float) -> np.ndarray:
    similarity = features.astype(np.float64) @ features.astype(np.float64).T
    repeats = np.full(len(labels), -1)
    for row in range(len(labels)):
        for other in range(row):
            stays = repeats[other] < 0 and labels[other] == labels[row]
            if stays and similarity[row, other] >= least:
                repeats[row] = other
                break
    return repeats


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([3, 7, 100]))
def test_duplicates_are_those_of_brute_force(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    kinds = random.normal(size=(8, 6))
    features = kinds[random.integers(0, 8, 40)] + random.normal(size=(40, 6)) * 0.1
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float16)
    labels = random.integers(0, 3, 40)
    before, module.ROWS = module.ROWS, rows
    try:
        found = find_duplicates(features, labels, 0.985, torch.device("cpu"))
    finally:
        module.ROWS = before
    expected = greedy(features, labels, 0.985)
    assert ((found < 0) == (expected < 0)).all()
    # What it repeats stays, is of its cluster and as similar; it need not be the first that is.
    for row in np.flatnonzero(found >= 0):
        other = found[row]
        assert found[other] < 0
        assert labels[other] == labels[row]
        assert features[row].astype(float) @ features[other].astype(float) >= 0.985 - 1e-5


def test_effective_number() -> None:
    assert np.isclose(effective_number(np.array([5, 5, 5, 0])), 3)
    assert effective_number(np.array([98, 1, 1])) < 1.2
