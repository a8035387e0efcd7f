from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cgeartheye.data.image_io import read_image
from cgeartheye.geo.phase_correlation import TRUSTED, phase_shift
from cgeartheye.synthetic import make_world

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "LEVIR-CD-20" / "train"


def texture(seed: int, height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return ndimage.gaussian_filter(noise, 1.5) + 3 * (ndimage.gaussian_filter(noise, 6) > 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(-9, 9), st.floats(-9, 9))
def test_known_shifts_are_found(seed: int, rows: float, columns: float) -> None:
    image = texture(seed, 160, 200)
    before, after = image[20:-20, 20:-20], ndimage.shift(image, (rows, columns), order=3)
    shift = phase_shift(before, 40 - 0.7 * after[20:-20, 20:-20])  # in another light
    assert shift.rows == pytest.approx(rows, abs=0.1)
    assert shift.columns == pytest.approx(columns, abs=0.1)
    assert shift.confidence > TRUSTED


def test_seasons_agree_and_noise_does_not() -> None:
    """Shadows turn with the season and take the measure along; the movement adds to that."""
    world = make_world(768, seed=3)
    spring, autumn = (world.image(season).mean(2) for season in ("spring", "autumn"))
    moved = ndimage.shift(autumn, (2.5, -1.25), order=3)
    area = np.s_[100:356, 100:356]
    there, shift = (phase_shift(spring[area], image[area]) for image in (autumn, moved))
    assert np.hypot(there.rows, there.columns) < 1.5
    assert shift.rows - there.rows == pytest.approx(2.5, abs=0.15)
    assert shift.columns - there.columns == pytest.approx(-1.25, abs=0.15)
    assert shift.confidence > TRUSTED
    random = np.random.default_rng(0)
    for _ in range(20):
        assert phase_shift(*random.normal(size=(2, 128, 128))).confidence < TRUSTED
    assert phase_shift(np.zeros((64, 64)), np.zeros((64, 64))).confidence == 0


def test_places_together_show_what_none_shows_alone() -> None:
    """All but a little of what is seen at each of 16 places is another thing at the other date."""
    random, places = np.random.default_rng(0), []
    for seed in range(16):
        same, *other = (texture(3 * seed + n, 140, 148) for n in range(3))
        before = 0.4 * same + other[0]
        after = 0.4 * ndimage.shift(same, (3.25, -5.5), order=3) + other[1]
        places.append([x[10:-10, 10:-10] + random.normal(0, 0.1) for x in (before, after)])
    alone = [phase_shift(*place) for place in places]
    right = [abs(s.rows - 3.25) < 1 and abs(s.columns + 5.5) < 1 for s in alone]
    confident = [s.confidence > TRUSTED for s in alone]
    assert np.mean(np.logical_and(right, confident)) < 0.5
    both = np.stack([np.stack(dates) for dates in zip(*places, strict=True)])
    together = phase_shift(*both)
    assert together.confidence > TRUSTED
    assert together.rows == pytest.approx(3.25, abs=0.15)
    assert together.columns == pytest.approx(-5.5, abs=0.15)
    single = phase_shift(*both[:, :1])
    assert single == alone[0]
    for _ in range(5):
        noise = random.normal(size=(2, 16, 64, 64))
        assert phase_shift(*noise).confidence < TRUSTED


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared LEVIR-CD-20")
def test_real_pairs() -> None:
    paths = sorted((SHARED / "Image1").iterdir())[::6]
    for path in paths:
        before, after = (
            read_image(SHARED / date / path.name).float().mean(0).numpy()
            for date in ("Image1", "Image2")
        )
        there = phase_shift(before[20:-20, 20:-20], after[20:-20, 20:-20])
        moved = phase_shift(before[20:-20, 20:-20], after[14:-26, 17:-23])
        if there.confidence > TRUSTED:
            assert moved.rows - there.rows == pytest.approx(6, abs=0.3)
            assert moved.columns - there.columns == pytest.approx(3, abs=0.3)
    assert len(paths) == 8
