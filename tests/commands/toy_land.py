"""Pictures of land in three classes."""

import numpy as np

COLORS = np.array([(60, 90, 60), (170, 150, 120), (40, 60, 150)])


def draw(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Three bands of land at an angle, in noisy colours; a corner is not labelled."""
    random = np.random.default_rng(seed)
    angle, shift = random.uniform(0, 2 * np.pi), random.uniform(-8, 8)
    y, x = np.mgrid[:height, :width] - np.array([height / 2, width / 2])[:, None, None]
    place = x * np.cos(angle) + y * np.sin(angle) + shift
    mask = (place > -10).astype(np.uint8) + (place > 12)
    image = COLORS[mask] + random.normal(0, 12, (height, width, 3))
    mask[:4, :4] = 255
    return image.clip(0, 255).astype(np.uint8), mask
