"""Accuracy and seams of a map against the overlap of its windows.

    python benchmarks/map_overlap.py ROADS [--window 224] [--epochs 8]

ROADS is a folder of segmentation in two classes, `{train,val,test}/{Img,Label}`, labels 0 and 1. A
light head on the weights of `tiny` that ship learns its train part; its other parts, joined to one
square scene that overlap 0 divides into whole windows, are predicted with every overlap. Of each:

    cost    windows, as a multiple of those without overlap
    mIoU    against the labels, and what it is below that of the largest overlap
    seam    how much more the probabilities change across the borders of windows than elsewhere:
            1.00 is a map without seams

The cheapest within 0.2 points of the largest overlap's mIoU is marked.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from cgeartheye.commands import tasks
from cgeartheye.config.loader import load
from cgeartheye.inference.sliding_window import count_windows, slide
from cgeartheye.inference.windows import window_offsets
from cgeartheye.metrics.classification import SegmentationMetrics

OVERLAPS = {"0": 0.0, "1/12": 1 / 12, "1/6": 1 / 6, "1/4": 1 / 4, "1/3": 1 / 3, "1/2": 1 / 2}
WITHIN = 0.2  # points


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("roads", type=Path)
    parser.add_argument("--window", type=int, default=224, help="pixels a side, a multiple of 14")
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    image, mask = scene(asked.roads, asked.window)
    with tempfile.TemporaryDirectory() as folder:
        model = train(asked.roads, asked.window, asked.epochs, Path(folder))
    least = count_windows(*mask.shape, asked.window, 0.0)
    rows = []
    for name, overlap in OVERLAPS.items():
        (found,) = slide([image], model.task.logits, asked.window, overlap, 8)
        metrics = SegmentationMetrics(2)
        metrics.update(found.argmax(0).to(torch.uint8), mask)
        cost = count_windows(*mask.shape, asked.window, overlap) / least
        rows.append((name, cost, metrics.compute()["miou"], seam(found[1], asked.window, overlap)))
    best = rows[-1][2]
    cheapest = next(row[0] for row in rows if row[2] >= best - WITHIN)
    table = Table(*("overlap", "cost", "mIoU", "below 1/2", "seam", ""))
    for name, cost, miou, ratio in rows:
        mark = "the cheapest within 0.2" if name == cheapest else ""
        table.add_row(
            name, f"{cost:.2f}", f"{miou:.2f}", f"{best - miou:.2f}", f"{ratio:.2f}", mark
        )
    Console(width=100).print(table)


def scene(root: Path, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Join the images that are not trained on; return uint8 `[3, H, W]` and classes `[H, W]`."""
    paths = [path for part in ("val", "test") for path in sorted((root / part / "Img").iterdir())]
    across = int(len(paths) ** 0.5)

    def joined(kind: str) -> np.ndarray:
        pieces = [
            np.array(Image.open(next((path.parents[1] / kind).glob(f"{path.stem}.*"))))
            for path in paths[: across**2]
        ]
        return np.concatenate(
            [np.concatenate(pieces[n : n + across], 1) for n in range(0, across**2, across)]
        )

    image, mask = joined("Img"), joined("Label")
    side = min(mask.shape) // window * window
    return (
        torch.from_numpy(image[:side, :side].copy()).permute(2, 0, 1),
        torch.from_numpy(mask[:side, :side].astype(np.uint8)),
    )


def train(root: Path, window: int, epochs: int, folder: Path) -> tasks.LoadedModel:
    """Train the light head on the frozen weights of `tiny`."""
    path = folder / "overlap.yaml"
    path.write_text(
        f"""task: semantic_segmentation
backbone: {{name: tiny}}
data: {{root: {root}, classes: [ground, road], image_size: {window}, workers: 0, batch_size: 8}}
decoder: {{kind: light, dice: 1.0}}
training: {{epochs: {epochs}, lr: 1e-3, device: cpu}}
cache: {{views: 4}}
work_dir: {folder / "run"}
"""
    )
    tasks.train(load(path))
    return tasks.load_model(folder / "run", [], torch.device("cpu"))


def seam(probability: torch.Tensor, window: int, overlap: float) -> float:
    """Return how much more a map `[H, W]` changes across borders of windows than elsewhere."""
    ratios = []
    for axis in (0, 1):
        length = probability.shape[axis]
        starts = window_offsets(length, window, overlap)
        borders = set(starts[1:]) | {start + window for start in starts[:-1]}
        steps = probability.diff(dim=axis).abs().mean(1 - axis)
        at = torch.zeros(length - 1, dtype=torch.bool)
        at[[border - 1 for border in borders]] = True
        ratios.append((steps[at].mean() / steps[~at].mean()).item())
    return sum(ratios) / 2


if __name__ == "__main__":
    main()
