import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgeartheye.inference.windows import Axis, blend_weights, taps, window_offsets

sizes = st.integers(1, 700)
windows = st.integers(1, 10).map(lambda n: 14 * n)
overlaps = st.floats(0, 0.9)


@given(sizes, windows, overlaps)
def test_windows_cover_everything_and_overlap_enough(
    length: int, window: int, share: float
) -> None:
    found = window_offsets(length, window, share)
    seen = np.zeros(length, int)
    for start in found:
        seen[start : start + window] += 1
    assert seen.min() >= 1
    assert found[0] == 0
    assert found[-1] == max(0, length - window)
    steps = np.diff(found)
    assert (steps >= 1).all()
    assert (window - steps >= np.floor(window * share)).all()
    # Not more windows than are needed.
    stride = max(1, np.floor(window * (1 - share)))
    assert (len(found) - 2) * stride < max(length - window, 1)


@given(windows, overlaps)
def test_weights_fade_and_never_vanish(window: int, share: float) -> None:
    weights = blend_weights(window, share)
    assert (weights > 0).all()
    assert weights.max() <= 1
    np.testing.assert_array_equal(weights, weights[::-1])
    assert (np.diff(weights[: window // 2]) >= 0).all()


@pytest.mark.parametrize("width", [2, 7, 14])
def test_two_windows_sum_to_one_where_they_overlap(width: int) -> None:
    weights = blend_weights(28, width / 28)
    np.testing.assert_allclose(weights[-width:] + weights[:width], 1, atol=1e-6)


@given(sizes, sizes, st.data())
def test_complete_rows_need_no_more_of_the_grid(
    scene: int, model: int, data: st.DataObject
) -> None:
    axis = Axis(scene, model)
    rows = data.draw(st.integers(0, model))
    done = axis.complete(rows)
    high = axis.taps((0, scene)).high
    assert (high[:done] < rows).all()
    assert done == scene or high[done] >= rows
    assert axis.complete(model) == scene


@given(sizes, sizes, st.data())
def test_around_holds_every_pixel_that_depends(scene: int, model: int, data: st.DataObject) -> None:
    axis = Axis(scene, model)
    first = data.draw(st.integers(0, model - 1))
    last = data.draw(st.integers(first + 1, model))
    low, high, _ = axis.taps((0, scene))
    uses = np.flatnonzero((high >= first) & (low < last))
    span = axis.around((first, last))
    assert not uses.size or (span[0] <= uses[0] and uses[-1] < span[1])


@given(sizes, sizes)
def test_interpolation_is_that_of_torch(length: int, source: int) -> None:
    import torch.nn.functional as F
    from torch import arange

    line = arange(source).float().square()[None, None]
    expected = F.interpolate(line, size=length, mode="linear")[0, 0].numpy()
    low, high, weight = taps((0, length), source / length, source)
    values = line[0, 0].numpy()
    found = values[low] * (1 - weight) + values[high] * weight
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2 * source)
