"""Accuracy and seams of maps against the overlap of their windows.

    python benchmarks/map_overlap.py [SET ...] [--zoom 2] [--seeds 3] [--window 224] [--drawn]

SET is a folder of segmentation, `{train,val,test}/{Img,Label}`, labels from 0. A light head on the
weights of `tiny` that ship learns its train part, enlarged by --zoom, once a seed; each of its
other images, enlarged too, is a scene and predicted with every overlap. --drawn is one more set, of
a drawn world in eight classes, not enlarged. Of each overlap:

    cost    windows, as a multiple of those without overlap
    mIoU    of all images of a set, and how far it is below that of the largest overlap: mean over
            the seeds, and the standard error of that difference
    seam    how much more the probabilities change across the borders of windows than elsewhere:
            1.00 is a map without seams

The cheapest without seams whose mean over the sets is within 0.2 points of the largest overlap's is
marked.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from map_engines import GSD, draw
from PIL import Image
from rich.console import Console
from rich.table import Table

from cgeartheye.commands import tasks
from cgeartheye.config.loader import load
from cgeartheye.inference.sliding_window import count_windows, slide
from cgeartheye.inference.windows import window_offsets
from cgeartheye.metrics.classification import SegmentationMetrics
from cgeartheye.synthetic import make_world
from cgeartheye.utils.console import bar, muted

OVERLAPS = {"0": 0.0, "1/12": 1 / 12, "1/6": 1 / 6, "1/4": 1 / 4, "1/3": 1 / 3, "1/2": 1 / 2}
WITHIN = 0.2  # points
SEAMLESS = 1.1  # seam
SIDE = 1456  # of the drawn scene


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", type=Path, nargs="*")
    parser.add_argument("--zoom", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--window", type=int, default=224, help="pixels a side, a multiple of 14")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--drawn", action="store_true")
    asked = parser.parse_args()
    costs: dict[str, list[float]] = defaultdict(list)
    seams: dict[str, list[float]] = defaultdict(list)
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = [(path, asked.zoom) for path in asked.sets]
        if asked.drawn:
            sets.append((draw_world(folder), 1.0))
        steps = sum(len(list(images(root))) for root, _ in sets) * asked.seeds * len(OVERLAPS)
        with bar("measuring", steps, "maps") as progress:
            for root, zoom in sets:
                mious = found[root.name] = defaultdict(list)
                classes = 1 + max(int(mask.max()) for _, mask in scenes(root, 1.0))
                for seed in range(asked.seeds):
                    work = folder / f"{root.name}-{seed}"
                    with muted():
                        model = train(root, classes, zoom, asked.window, asked.steps, seed, work)
                    for name, overlap in OVERLAPS.items():
                        metrics = SegmentationMetrics(classes)
                        for image, mask in scenes(root, zoom):
                            (logits,) = slide([image], model.task.logits, asked.window, overlap, 8)
                            metrics.update(logits.argmax(0).to(torch.uint8), mask)
                            windows, least = (
                                count_windows(*mask.shape, asked.window, one)
                                for one in (overlap, 0)
                            )
                            costs[name].append(windows / least)
                            seams[name].append(seam(logits[-1], asked.window, overlap))
                            progress.advance()
                        mious[name].append(metrics.compute()["miou"])
    largest = list(OVERLAPS)[-1]
    below = {
        name: [np.subtract(mious[largest], mious[name]) for mious in found.values()]
        for name in OVERLAPS
    }
    cheapest = next(
        name
        for name, less in below.items()
        if np.mean([one.mean() for one in less]) <= WITHIN and np.mean(seams[name]) <= SEAMLESS
    )
    columns = [f"{name}: mIoU, below {largest}" for name in found]
    table = Table("overlap", "cost", *columns, "mean below", "seam", "")
    for name in OVERLAPS:
        cells = [
            f"{np.mean(mious[name]):.2f}, {less.mean():+.2f} ± {less.std() / len(less) ** 0.5:.2f}"
            for mious, less in zip(found.values(), below[name], strict=True)
        ]
        mark = "the cheapest" if name == cheapest else ""
        mean = f"{np.mean([less.mean() for less in below[name]]):+.2f}"
        table.add_row(
            name, f"{np.mean(costs[name]):.2f}", *cells, mean, f"{np.mean(seams[name]):.2f}", mark
        )
    Console(width=150).print(table)


def draw_world(folder: Path) -> Path:
    """Draw chips to learn, and a scene to test on, none of which shares ground; return the set."""
    draw(folder, SIDE)
    world = make_world(SIDE, seed=0)
    for kind, pixels in (("Img", world.image("summer")), ("Label", world.land_cover())):
        (folder / "data/test" / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "data/test" / kind / "0.png")
    return (folder / "data").rename(folder / "drawn")


def images(root: Path) -> Iterator[Path]:
    """Yield the images of a set that are not learnt."""
    for part in ("val", "test"):
        yield from sorted((root / part / "Img").iterdir())


def scenes(root: Path, zoom: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield what is not learnt, enlarged: uint8 `[3, H, W]`, and classes uint8 `[H, W]`."""
    for path in images(root):
        image = Image.open(path).convert("RGB")
        mask = Image.open(next((path.parents[1] / "Label").glob(f"{path.stem}.*")))
        side = round(image.width * zoom), round(image.height * zoom)
        pixels = np.array(image.resize(side, Image.Resampling.BICUBIC))
        classes = np.array(mask.resize(side, Image.Resampling.NEAREST))
        yield torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(classes)


def train(
    root: Path, classes: int, zoom: float, window: int, steps: int, seed: int, folder: Path
) -> tasks.LoadedModel:
    """Train the light head on the frozen weights of `tiny`."""
    names = ", ".join(f"c{number}" for number in range(classes))
    folder.mkdir()
    path = folder / "overlap.yaml"
    path.write_text(
        f"""task: semantic_segmentation
backbone: {{name: tiny}}
data: {{root: {root}, classes: [{names}], image_size: {window}, workers: 0, batch_size: 8,
  scale: [{0.8 * zoom}, {1.25 * zoom}], max_class_ratio: 1.0, gsd: {GSD}}}
decoder: {{kind: light, dice: 1.0}}
training: {{steps: {steps}, warmup_steps: {steps // 20}, lr: 1e-3, decoder_lr_mult: 1.0,
  evaluate_every: 1000000, seed: {seed}, device: cpu}}
cache: {{views: 16, batch_size: 32}}
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
