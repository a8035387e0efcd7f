"""A scene on the ground."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine


def write_scene(path: Path, image: np.ndarray) -> Path:
    """Write a GeoTIFF of 0.75 m pixels in UTM."""
    height, width, _ = image.shape
    place = Affine(0.75, 0, 500_000, 0, -0.75, 4_400_000)
    with rasterio.open(path, "w", "GTiff", width, height, 3, "EPSG:32650", place, "uint8") as file:
        file.write(image.transpose(2, 0, 1))
    return path
