"""Pairs of pictures of the same ground, on which a house is built."""

import numpy as np


def draw_pair(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both dates uint8 `[H, W, 3]`, in other light, and where a house is new, bool `[H, W]`."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    angle, phase = random.uniform(0, np.pi, 2)
    ground = 90 + 25 * np.sin(0.3 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    ground = ground[..., None] * np.array([0.8, 1.0, 0.6])
    mask = np.zeros((height, width), bool)
    sides = random.integers(12, 25, 2)
    top, left = (random.integers(0, length - 26) for length in (height, width))
    mask[top : top + sides[0], left : left + sides[1]] = True
    before, after = (
        ground * light + random.normal(0, 6, ground.shape)
        for light in (1.0, random.uniform(0.8, 1.2))
    )
    after[mask] = random.normal((220, 200, 190), 6, (mask.sum(), 3))
    before, after = (date.clip(0, 255).astype(np.uint8) for date in (before, after))
    return before, after, mask
