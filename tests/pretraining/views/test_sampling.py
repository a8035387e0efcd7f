from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from cgeartheye.config import Network, Teacher, Views
from cgeartheye.pretraining.views.sampling import (
    GLOBAL_CROPS,
    Plan,
    block_masks,
    count_local_crops,
    draw,
    place,
)

GRID = 16
MANY = 4000
ALIKE = 1e-4  # p-value below which samples do not come from the distribution; seeds are fixed
NONE: tuple[int, ...] = ()


def plan(views: Views, others: Sequence[int] = NONE, samples: int = MANY, seed: int = 0) -> Plan:
    anchors = np.arange(samples) * 1000
    return draw(views, GRID, seed, 0, anchors, lambda i: [i + k for k in others])


def is_uniform(values: np.ndarray, low: float, high: float) -> bool:
    return bool(stats.kstest(values.ravel(), stats.uniform(low, high - low).cdf).pvalue > ALIKE)


# What depends on what


@given(st.integers(0, 2**40), st.integers(1, 9), st.integers(1, 9))
def test_a_sample_sees_the_same_whatever_batch_it_is_in(first: int, left: int, right: int) -> None:
    views, anchors = Views(), np.arange(left + right) * 10

    def seasons(index: int) -> list[int]:
        return [index + k for k in range(1, index % 50 // 10 + 1)]

    whole = draw(views, GRID, 3, first, anchors, seasons)
    assert whole.kept is whole.own is None
    parts = [
        draw(views, GRID, 3, first, anchors[:left], seasons),
        draw(views, GRID, 3, first + left, anchors[left:], seasons),
    ]
    for name, values in whole._asdict().items():
        if values is None:
            continue
        joined = np.concatenate([getattr(part, name) for part in parts], axis=1)
        np.testing.assert_array_equal(values, joined, err_msg=name)


@given(st.integers(0, 2**40), st.integers(1, 9), st.integers(1, 9), st.floats(0.05, 0.95))
def test_kept_patches_and_mixing_do_not_depend_on_the_batch(
    first: int, left: int, right: int, share: float
) -> None:
    views = Views(local_crops=2, season_crops=1)
    teacher = Teacher(backbone=Network(name="tiny"), kept_patches=share, mixup=0.5)
    first, left, right = 2 * first, 2 * left, 2 * right  # pairs of neighbours stay together

    def drawn(begin: int, count: int) -> Plan:
        return draw(views, GRID, 3, begin, np.arange(count), lambda i: [], teacher)

    whole, parts = drawn(first, left + right), [drawn(first, left), drawn(first + left, right)]
    for group, grid in enumerate((GRID, views.local_size // 14)):
        kept = whole.kept[group]
        joined = np.concatenate([part.kept[group] for part in parts], axis=1)
        np.testing.assert_array_equal(kept, joined)
        assert kept.shape == (2, left + right, max(1, round(share * grid**2)))
        assert (np.diff(kept, axis=2) > 0).all()  # each patch once
        assert kept.min() >= 0
        assert kept.max() < grid**2
    np.testing.assert_array_equal(whole.own, np.concatenate([part.own for part in parts]))
    np.testing.assert_array_equal(whole.own[::2], whole.own[1::2])


def test_every_patch_is_kept_as_often_and_half_of_the_pairs_are_mixed() -> None:
    teacher = Teacher(backbone=Network(name="tiny"), kept_patches=0.25, mixup=0.5)
    drawn = draw(
        Views(local_crops=0, season_crops=1, seasons="off"),
        7,
        0,
        0,
        np.arange(MANY),
        lambda i: [],
        teacher,
    )
    counts = np.bincount(drawn.kept[0].ravel(), minlength=49)
    assert stats.chisquare(counts).pvalue > ALIKE
    assert drawn.kept[1].shape == (0, MANY, 12)
    mixed = drawn.own[::2][drawn.own[::2] < 1]
    assert stats.binomtest(len(mixed), MANY // 2, 0.5).pvalue > ALIKE
    assert is_uniform(mixed, 0, 1)


def test_seeds_samples_crops_and_draws_are_independent() -> None:
    a, b = plan(Views(), samples=600), plan(Views(), samples=600, seed=1)
    columns = [
        *(p.placement[v, :, k] for p in (a, b) for v in range(4) for k in range(4)),
        *(a.jitter[v, :, k] for v in range(2) for k in range(3)),
        *(p.masks.mean(axis=(2, 3))[0] for p in (a, b)),
        a.placement[0, ::-1, 0],
        np.roll(a.placement[0, :, 0], 1),
    ]
    correlation = np.corrcoef(np.stack(columns)) - np.eye(len(columns))
    assert abs(correlation).max() < 0.2  # 4.9 standard deviations


# Places of crops


def test_areas_are_uniform_in_their_ranges() -> None:
    views = Views(season_area=(0.5, 0.6))
    drawn = plan(views, others=(1, 2))
    boxes = place(drawn.placement, np.full((*drawn.images.shape, 2), 5000))
    share = boxes[..., 2] * boxes[..., 3] / 5000**2
    assert is_uniform(share[:2], *views.global_area)
    assert is_uniform(share[2:7], *views.local_area)
    assert is_uniform(share[9], *views.local_area)  # there is no third season
    assert drawn.seasonal[7:9].all()
    assert is_uniform(share[7:9], *views.season_area)


def test_aspects_are_log_uniform_and_places_uniform() -> None:
    drawn = plan(Views(seasons="off"))
    boxes = place(drawn.placement, np.full((*drawn.images.shape, 2), 5000))
    top, left, height, width = boxes[2:].T  # local crops fit with every aspect
    assert is_uniform(np.log(width / height), -np.log(4 / 3), np.log(4 / 3))
    assert is_uniform(top / (5000 - height), 0, 1)
    assert is_uniform(left / (5000 - width), 0, 1)
    assert is_uniform(drawn.placement[:, :, 1:], 0, 1)


shares = st.floats(0.001, 1.0)
unit = st.floats(0, 1, exclude_max=True)


@given(shares, unit, unit, unit, st.integers(1, 3000), st.integers(1, 3000))
def test_boxes_lie_inside_with_the_share_asked_for(
    area: float, aspect: float, row: float, column: float, height: int, width: int
) -> None:
    box = place(np.array([area, aspect, row, column]), np.array([height, width]))
    top, left, box_height, box_width = box.tolist()
    assert box.dtype == np.int64
    assert 0 <= top <= top + box_height <= height
    assert 0 <= left <= left + box_width <= width
    assert min(box_height, box_width) >= 1
    assume(min(box_height, box_width) >= 30)  # from here on rounding hides nothing
    assert 0.7 < box_width / box_height < 1.42
    if 0.75 <= width / height <= 4 / 3:
        assert box_height * box_width / (height * width) == pytest.approx(area, rel=0.05)


def test_the_whole_of_an_oblong_image_is_not_squeezed() -> None:
    wide = place(np.array([1.0, 0.5, 0.5, 0.999]), np.array([300, 3000]))
    assert wide.tolist() == [0, 2598, 300, 400]
    tall = place(np.array([1.0, 0.5, 0.5, 0.0]), np.array([3000, 300]))
    assert tall.tolist() == [1300, 0, 400, 300]


def test_the_eight_symmetries_are_equally_frequent() -> None:
    symmetry = plan(Views()).symmetry
    counts = np.bincount(symmetry.ravel())
    assert len(counts) == 8
    assert stats.chisquare(counts).pvalue > ALIKE
    assert stats.chi2_contingency(np.histogram2d(symmetry[0], symmetry[1], 8)[0]).pvalue > ALIKE


# Seasons


@pytest.mark.parametrize("others", [0, 1, 2, 3, 5])
@pytest.mark.parametrize(("mode", "crops"), [("replace", 8), ("extra", 11), ("off", 8)])
def test_other_seasons_take_the_last_crops(mode: str, crops: int, others: int) -> None:
    views = Views(seasons=mode)
    drawn = plan(views, others=range(1, others + 1), samples=200)
    assert count_local_crops(views) == crops
    assert drawn.images.shape == (GLOBAL_CROPS + crops, 200)
    shown = 0 if mode == "off" else min(3, others)
    offset = drawn.images - np.arange(200) * 1000
    np.testing.assert_array_equal(drawn.seasonal, offset > 0)
    np.testing.assert_array_equal(drawn.seasonal.sum(axis=0), shown)
    assert not drawn.seasonal[: len(drawn.seasonal) - 3].any()
    chosen = offset[drawn.seasonal].reshape(shown, 200)
    assert all(len(set(column)) == shown for column in chosen.T)
    if shown:
        assert set(chosen.ravel()) == set(range(1, others + 1))


def test_every_season_is_as_frequent_as_the_others() -> None:
    drawn = plan(Views(), others=range(1, 6))
    slot = drawn.images[-2] % 1000
    assert stats.chisquare(np.bincount(slot)[1:]).pvalue > ALIKE


# Colour


def test_jitter_is_uniform_and_spares_some_crops_and_all_other_seasons() -> None:
    views = Views(brightness=0.4, contrast=0.3, saturation=0.2, jitter_probability=0.8)
    drawn = plan(views, others=(1,))
    assert drawn.jitter.dtype == np.float32
    assert (drawn.jitter[drawn.seasonal] == 1).all()
    anchor = drawn.jitter[~drawn.seasonal]
    jittered = (anchor != 1).any(axis=1)
    assert stats.binomtest(int(jittered.sum()), len(jittered), 0.8).pvalue > ALIKE
    for band, strength in enumerate((0.4, 0.3, 0.2)):
        assert is_uniform(anchor[jittered, band], 1 - strength, 1 + strength)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_jitter_can_be_never_or_always(probability: float, share: float) -> None:
    drawn = plan(Views(jitter_probability=probability), samples=50)
    assert (drawn.jitter != 1).any(axis=-1).mean() == share


# Masks


def test_one_global_crop_of_two_is_masked_by_a_uniform_share() -> None:
    drawn = plan(Views(masked_share=(0.1, 0.5)))
    masked = drawn.masks.any(axis=(2, 3))
    assert (masked.sum(axis=0) == 1).all()
    assert stats.binomtest(int(masked[0].sum()), MANY, 0.5).pvalue > ALIKE
    counts = drawn.masks.sum(axis=(0, 2, 3))
    assert (counts.min(), counts.max()) == (26, 128)  # 10 % and 50 % of 256
    inner = counts[(counts > 26) & (counts < 128)]  # the two at the ends are half as frequent
    assert stats.chisquare(np.bincount(inner)[27:128]).pvalue > ALIKE


@settings(max_examples=200)
@given(st.data(), st.integers(1, 20), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 8))
def test_masks_have_the_exact_count_whatever_is_drawn(
    data: st.DataObject, grid: int, a: float, b: float, tries: int
) -> None:
    low, high = sorted((a, b))
    numbers = data.draw(hnp.arrays(np.float64, (3, 1 + 4 * tries), elements=unit))
    masks = block_masks(numbers, grid, (low, high))
    assert masks.shape == (3, grid, grid)
    wanted = [max(1, round((low + (high - low) * u) * grid**2)) for u in numbers[:, 0]]
    assert masks.sum(axis=(1, 2)).tolist() == wanted


def neighbors_alike(masks: np.ndarray) -> float:
    """Share of masked patches' neighbours that are masked too."""
    pairs = (masks[:, 1:] & masks[:, :-1]).sum() + (masks[:, :, 1:] & masks[:, :, :-1]).sum()
    return float(2 * pairs / (4 * masks.sum()))


def beit_mask(random: np.random.Generator, grid: int, wanted: int) -> np.ndarray:
    """The published algorithm, straight: add a block when it brings no more than what is left."""
    mask = np.zeros((grid, grid), dtype=bool)
    for _ in range(1000):
        left = wanted - mask.sum()
        if left < 4:
            break
        area = random.uniform(4, left)
        aspect = np.exp(random.uniform(np.log(0.3), -np.log(0.3)))
        h, w = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
        if h >= grid or w >= grid:
            continue
        top, column = random.integers(0, grid - h + 1), random.integers(0, grid - w + 1)
        block = mask.copy()
        block[top : top + h, column : column + w] = True
        if 0 < block.sum() - mask.sum() <= left:
            mask = block
    return mask


def test_masks_come_in_blocks_as_beit_draws_them() -> None:
    random = np.random.default_rng(0)
    share = 0.3
    ours = block_masks(random.random((800, 1 + 4 * 32)), GRID, (share, share))
    wanted = round(share * GRID**2)
    beit = np.stack([beit_mask(random, GRID, wanted) for _ in range(800)])
    scattered = random.permuted(ours.reshape(800, -1), axis=1).reshape(ours.shape)
    assert neighbors_alike(scattered) < 0.32
    assert neighbors_alike(ours) > 0.75
    assert neighbors_alike(ours) == pytest.approx(neighbors_alike(beit), abs=0.03)
    # So do their places on the grid: fewer at the border.
    profile, expected = ours.mean(axis=(0, 1)), beit.mean(axis=(0, 1))
    np.testing.assert_allclose(profile, expected, atol=0.05)
    np.testing.assert_allclose(ours.mean(axis=(0, 2)), ours.mean(axis=(0, 1)), atol=0.05)
