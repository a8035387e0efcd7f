"""A detector in closed form: what has one colour is one object, and the scenes to find them in.

Run as a program it maps one.
"""

import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from torch import Tensor
from toy_map import run_toy

from cgeartheye.boxes import Detections, corners_of, horizontal_of, oriented_around
from cgeartheye.mapping.sinks import writer

BACKGROUND = 1
CLASSES = ("ship", "plane")
"""Objects of the first are red, of the second green, each of a shade of its own."""


class ToyDetector:
    """Finds the rectangle around the pixels of each shade; what is cut it finds cut.

    Boxes are off by up to `noise` pixels, scores by up to 0.2, differently in each window.
    """

    classes: Sequence[str] = CLASSES
    device = torch.device("cpu")

    def __init__(
        self,
        window: int = 64,
        oriented: bool = False,
        max_object_size: float | None = 20,
        noise: float = 0.0,
        gsd: float | None = None,
    ):
        self.window, self.oriented, self.max_object_size, self.noise = (
            window,
            oriented,
            max_object_size,
            noise,
        )
        self.gsd, self.score_threshold = gsd, None
        self.calls = 0

    def predict(self, images: Tensor) -> list[Detections]:
        self.calls += 1
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, self.window, self.window)
        return [self.find(image.numpy()) for image in images]

    def find(self, image: np.ndarray) -> Detections:
        boxes, labels = [], []
        for label, channel in enumerate(image[:2]):
            for shade in np.unique(channel[channel > BACKGROUND]):
                y, x = np.nonzero(channel == shade)
                if len(y) >= 4:
                    boxes.append(self.around(x, y))
                    labels.append(label)
        if not boxes:
            return Detections.none(5 if self.oriented else 4)
        rng = np.random.default_rng(zlib.crc32(image.tobytes()))
        found = torch.stack(boxes).float()
        off = rng.uniform(-1, 1, found.shape) * self.noise
        if self.oriented:
            off[:, 4] *= 0.02
        scores = torch.from_numpy(rng.uniform(0.75, 0.95, len(found))).float()
        return Detections(found + torch.from_numpy(off).float(), scores, torch.tensor(labels))

    def around(self, x: np.ndarray, y: np.ndarray) -> Tensor:
        if not self.oriented:
            return torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1])
        centers = torch.from_numpy(np.stack([x + 0.5, y + 0.5], 1))
        (box,) = oriented_around([centers])
        # Half a pixel beyond the middles of the outermost, as seen across a side.
        box[2:4] += box[4].cos().abs() + box[4].sin().abs() - 0.5
        return box


class SlowToyDetector(ToyDetector):
    """Leaves the time to be killed."""

    def predict(self, images: Tensor) -> list[Detections]:
        time.sleep(0.03)
        return super().predict(images)


def draw(height: int, width: int, boxes: Tensor, labels: Sequence[int]) -> np.ndarray:
    """Draw boxes, `[n, 4]` or `[n, 5]`, n below 250 a class, uint8 `[3, H, W]`; never 0."""
    pixels = np.full((3, height, width), BACKGROUND, np.uint8)
    frames = (boxes if boxes.shape[1] == 4 else horizontal_of(boxes)).numpy()
    shade = [BACKGROUND, BACKGROUND]
    for box, frame, label in zip(boxes, frames, labels, strict=True):
        left, top = np.floor(frame[:2]).astype(int).clip(0)
        y, x = np.mgrid[top : int(frame[3]) + 1, left : int(frame[2]) + 1] + 0.5
        inside = (x > frame[0]) & (x < frame[2]) & (y > frame[1]) & (y < frame[3])
        if len(box) == 5:
            inside = shapely.contains_xy(shapely.Polygon(corners_of(box.double()).numpy()), x, y)
        shade[label] += 1
        part = pixels[label, top : top + len(y), left : left + len(x[0])]
        part[inside[: part.shape[0], : part.shape[1]]] = shade[label]
    return pixels


def reach(length: float, oriented: bool) -> float:
    """Return how far what `scatter` makes of this length may reach: it is at most 0.9 as wide."""
    return length * 1.35 if oriented else length


def scatter(
    height: int, width: int, count: int, largest: float, oriented: bool, seed: int
) -> tuple[Tensor, list[int]]:
    """Return boxes that do not touch each other, at most so many, whole inside, and labels."""
    rng = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    shapes: list[Any] = []
    for _ in range(count):
        length = rng.uniform(max(4, largest / 2), largest)
        w, h = length, length * rng.uniform(0.4, 0.9)
        angle = rng.uniform(0, np.pi) if oriented else rng.choice([0, np.pi / 2])
        room = largest if oriented else largest / 2
        box = np.array(
            [rng.uniform(room, width - room), rng.uniform(room, height - room), w, h, angle]
        )
        shape = shapely.Polygon(corners_of(torch.from_numpy(box)).numpy())
        if all(shape.distance(other) > 1.5 for other in shapes):
            shapes.append(shape)
            kept.append(box)
    boxes = torch.from_numpy(np.array(kept).reshape(-1, 5))
    if not oriented:
        boxes = horizontal_of(boxes).round()
    return boxes, [n % 2 for n in range(len(boxes))]


if __name__ == "__main__":  # SCENE OUT
    torch.set_num_threads(1)
    writer._SECONDS_BETWEEN_NOTES = 0
    run_toy(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        SlowToyDetector(oriented=True, noise=0.5),
        vector_format=("geojson", "parquet"),
        overlap=0.0,
        resume=True,
        batch_size=2,
    )
