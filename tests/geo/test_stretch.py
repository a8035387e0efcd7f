import numpy as np
import pytest

from cgeartheye.geo.stretch import percentile_limits, to_8_bits


def test_limits_are_values_below_which_one_and_99_in_a_hundred_lie() -> None:
    values = np.random.default_rng(0).permutation(1001).reshape(7, 143) * 3
    assert percentile_limits(values) == (30.0, 2970.0)
    assert percentile_limits(values) == tuple(np.percentile(values, (1, 99), method="nearest"))
    assert percentile_limits(np.zeros(0)) == (0.0, 1.0)


@pytest.mark.parametrize("kind", ["uint16", "int16", "float32"])
def test_limits_become_0_and_255_and_what_is_between_is_in_proportion(kind: str) -> None:
    values = np.array([[[-5, 100, 110, 355, 400]]]).clip(0 if kind == "uint16" else None)
    found = to_8_bits(values.astype(kind), (100.0, 355.0), None)
    assert found.dtype == np.uint8
    assert found.ravel().tolist() == [0, 0, 10, 255, 255]


def test_nodata_becomes_0_without_warnings_of_numpy() -> None:
    values = np.array([[[7.0, np.nan], [np.inf, 9.0]]] * 3, np.float32)
    valid = np.isfinite(values[0])
    with np.errstate(all="raise"):
        found = to_8_bits(values, (5.0, 9.0), valid)
    assert (found == np.array([[128, 0], [0, 255]])).all()
    assert not to_8_bits(np.full((1, 2, 2), 4.0), (4.0, 4.0), None).any()
