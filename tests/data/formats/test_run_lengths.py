"""Run-length codes against COCO's own, which make the mask."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from cgeartheye.data.formats.run_lengths import run_ends

MASKS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 1)
)


def counts_of(mask: np.ndarray) -> list[int]:
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    return np.diff(changes, prepend=0).tolist()


@settings(max_examples=200, deadline=None)
@given(mask=MASKS, packed=st.booleans())
def test_the_hull_is_that_of_the_mask(mask, packed):
    counts = counts_of(mask)
    if packed:
        counts = coco.encode(np.asfortranarray(mask))["counts"].decode()
    points = run_ends({"size": list(mask.shape), "counts": counts})
    pixels = [shapely.box(x, y, x + 1, y + 1) for y, x in zip(*mask.nonzero(), strict=True)]
    hull = shapely.MultiPoint(points).convex_hull
    assert hull.equals(shapely.union_all(pixels).convex_hull)
    assert len(points) <= 12 * (len(counts_of(mask)) // 2)


def test_a_mask_of_ten_billion_pixels_takes_no_memory():
    points = run_ends({"size": [100_000, 100_000], "counts": [50_001, 9_999_900_000, 49_999]})
    assert points.min(0).tolist() == [0, 0]
    assert points.max(0).tolist() == [100_000, 100_000]


@pytest.mark.parametrize(
    "code",
    [
        {"size": [4, 4], "counts": [-1, 3]},
        {"size": [4, 4], "counts": [1, 30]},
        {"size": [4, 0], "counts": [1, 3]},
        {"size": [4, 4.5], "counts": [1, 3]},
        {"size": [4], "counts": [1, 3]},
        {"size": [4, 10**300], "counts": [1, 3]},
        {"size": [4, 4], "counts": [1, 10**300]},
        {"size": [4, 4], "counts": ["x"]},
        {"size": [4, 4], "counts": "\u00e9"},
        {"size": [4, 4], "counts": "P"},
        {"size": [4, 4], "counts": "P" * 1000},
        {"size": [4, 4]},
        {"counts": [1, 2]},
    ],
)
def test_what_is_no_code_is_refused(code):
    with pytest.raises((TypeError, ValueError, KeyError, OverflowError)):
        run_ends(code)
