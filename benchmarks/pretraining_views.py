"""Samples/s of the views of a pre-training on one core: ours against torchvision on PIL images.

Both decode each image once and make the same crops (2 + 6 of 98 and 42 px, or 2 + 8 of 224 and
98), flipped, turned, jittered and normalised, in one process in turns; medians of CPU time.

    OMP_NUM_THREADS=1 python benchmarks/pretraining_views.py FOLDER
"""

import argparse
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.transforms import v2

from cgeartheye.config import Network, Normalization, Pretraining, PretrainingData, Views
from cgeartheye.pretraining.loader import Loader, shuffled
from cgeartheye.pretraining.store.items import Settings
from cgeartheye.pretraining.store.pack import pack
from cgeartheye.pretraining.store.reader import Store

BATCH = 64
CROPS = (
    Views(global_size=98, local_size=42, local_crops=6),
    Views(global_size=224, local_size=98, local_crops=8),
)


def torchvision_views(views: Views) -> Callable[[Image.Image], list[torch.Tensor]]:
    """Return what makes the crops of one image."""

    def transform(size: int, area: tuple[float, float]) -> v2.Compose:
        normalization = Normalization()
        return v2.Compose(
            [
                v2.RandomResizedCrop(size, area),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.RandomApply([v2.RandomRotation((90, 90))], 0.5),
                v2.RandomApply(
                    [v2.ColorJitter(views.brightness, views.contrast, views.saturation)],
                    views.jitter_probability,
                ),
                v2.ToImage(),
                v2.ToDtype(torch.float32),
                v2.Normalize(normalization.mean, normalization.std),
            ]
        )

    large = transform(views.global_size, views.global_area)
    small = transform(views.local_size, views.local_area)
    return lambda image: [t(image) for t in [large] * 2 + [small] * views.local_crops]


def timed(work: Callable[[], object]) -> float:
    """Return CPU seconds."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def compare(store: Path, views: Views, repeats: int) -> tuple[float, float]:
    """Return samples/s of ours and of torchvision."""
    config = Pretraining(
        backbone=Network(name="tiny", gsd=1.0),
        data=PretrainingData(store=store, batch_size=BATCH, workers=0),
        views=views,
    )
    images = Store(store)
    loader = Loader(images, config, Normalization(), torch.device("cpu"), 0, 1)
    batches = loader.batches(0, 10**6)
    make, steps = torchvision_views(views), itertools.count()

    def peer() -> None:
        samples = []
        for index in shuffled(len(images), 0, BATCH * next(steps), BATCH):
            image = Image.open(io.BytesIO(images.read(int(index)))).convert("RGB")
            samples.append(make(image))
        for crops in zip(*samples, strict=True):
            torch.stack(crops)

    seconds = [(timed(lambda: next(batches)), timed(peer)) for _ in range(repeats + 1)][1:]
    ours, theirs = (statistics.median(side) for side in zip(*seconds, strict=True))
    return BATCH / ours, BATCH / theirs


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="of images, searched in depth")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    table = Table("crops", "ours", "torchvision", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        pack(given.folder, store, Settings(), workers=0)
        for views in CROPS:
            ours, theirs = compare(store, views, given.repeats)
            crops = f"2 x {views.global_size}, {views.local_crops} x {views.local_size} px"
            table.add_row(crops, f"{ours:,.0f}/s", f"{theirs:,.0f}/s", f"{ours / theirs:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
