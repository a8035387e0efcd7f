"""Images/s of pre-training on a CPU, loader included: ours against lightly's parts for DINOv2.

The peer is the recipe as one assembles it from lightly: its DINO transform (without blur,
solarisation, greys and hues, which ours has not), its masked ViT around timm's, its heads, block
masks, losses and EMA, and AdamW. Both read the same folder of JPEGs into the same crops (2 of 98
px, 6 of 42 px) for the same network, prototypes and batch, in float32; ours besides with mixed
precision.

Each side lives in a process of its own and works while the other waits, in turns; the first steps
of a turn, for which the loader has batches in store, are not counted. Shown is the median over
turns.

    pip install lightly  # 1.6 or later; it brings pytorch-lightning
    python benchmarks/pretraining_step.py FOLDER [--size tiny small]
"""

import argparse
import functools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from lightly.data import LightlyDataset
from lightly.loss import DINOLoss, IBOTPatchLoss
from lightly.models.modules import DINOProjectionHead, MaskedVisionTransformerTIMM
from lightly.models.utils import random_block_mask, update_momentum
from lightly.transforms import DINOTransform
from rich.console import Console
from rich.table import Table
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cgeartheye.config import (
    Heads,
    Network,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Views,
)
from cgeartheye.models.backbone import SIZES
from cgeartheye.pretraining.store.items import Settings
from cgeartheye.pretraining.store.pack import pack
from cgeartheye.pretraining.store.reader import Store
from cgeartheye.pretraining.trainer import Pretrainer
from cgeartheye.training.run_dir import Run

PATCH = 14
GLOBAL, LOCAL, LOCAL_CROPS = 98, 42, 6
STUDENT, TEACHER, MOMENTUM, CLIP = 0.1, 0.07, 0.992, 3.0
PARTS = ("loader", "forward", "backward", "optimizer")


class Clock:
    """Sums the seconds of each part of a step."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Count what the block takes."""
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin


class LightlyBranch(nn.Module):
    """The peer's student or teacher."""

    def __init__(self, size: str, prototypes: int):
        super().__init__()
        shape = SIZES[size]
        vit = VisionTransformer(
            img_size=GLOBAL,
            patch_size=PATCH,
            embed_dim=shape.width,
            depth=shape.depth,
            num_heads=shape.heads,
            mlp_ratio=shape.hidden / shape.width,
            init_values=1e-5,
            num_classes=0,
            dynamic_img_size=True,
        )
        self.backbone = MaskedVisionTransformerTIMM(
            vit, antialias=False, pos_embed_initialization="skip"
        )
        self.class_head = DINOProjectionHead(shape.width, 2048, 256, prototypes)
        self.patch_head = DINOProjectionHead(shape.width, 2048, 256, prototypes)

    def forward(self, crops: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits of the class tokens, and all tokens."""
        tokens = self.backbone.encode(crops, mask=hidden)
        return self.class_head(tokens[:, 0]), tokens


def lightly_steps(given: argparse.Namespace, size: str, clock: Clock) -> Iterator[None]:
    """Do one step at each `next`."""
    transform = DINOTransform(
        global_crop_size=GLOBAL,
        global_crop_scale=(0.32, 1.0),
        local_crop_size=LOCAL,
        local_crop_scale=(0.05, 0.32),
        n_local_views=LOCAL_CROPS,
        vf_prob=0.5,
        rr_prob=0.5,
        # Halved by the transform's own `cj_strength`: 0.4.
        cj_bright=0.8,
        cj_contrast=0.8,
        cj_sat=0.8,
        cj_hue=0.0,
        random_gray_scale=0.0,
        gaussian_blur=(0.0, 0.0, 0.0),
        solarization_prob=0.0,
    )
    loader = DataLoader(
        LightlyDataset(given.folder, transform=transform),
        given.batch,
        shuffle=True,
        drop_last=True,
        num_workers=given.workers,
        persistent_workers=given.workers > 0,
    )
    torch.manual_seed(0)
    student, teacher = (LightlyBranch(size, given.prototypes) for _ in range(2))
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    dino = DINOLoss(given.prototypes, student_temp=STUDENT)
    ibot = IBOTPatchLoss(given.prototypes, TEACHER, STUDENT)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.04)
    batches = endless(loader)
    while True:
        with clock.measure("loader"):
            views = next(batches)
        with clock.measure("forward"):
            large, small = torch.cat(views[:2]), torch.cat(views[2:])
            side = GLOBAL // PATCH
            masks = random_block_mask((len(large), side, side))
            hidden = nn.functional.pad(masks.flatten(1), (1, 0))  # never the class token
            with torch.no_grad():
                targets, tokens = teacher(large, None)
                patch_targets = teacher.patch_head(tokens[hidden])
            seen, tokens = student(large, hidden)
            seen_patches = student.patch_head(tokens[hidden])
            seen_small, _ = student(small, None)
            classes = [*seen.chunk(2), *seen_small.chunk(LOCAL_CROPS)]
            loss = dino(targets.chunk(2), classes, teacher_temp=TEACHER)
            loss = loss + ibot(patch_targets, seen_patches, masks)
        with clock.measure("backward"):
            loss.backward()
        with clock.measure("optimizer"):
            nn.utils.clip_grad_norm_(student.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            update_momentum(student, teacher, MOMENTUM)
        yield


def our_steps(
    given: argparse.Namespace, size: str, clock: Clock, precision: str = "fp32"
) -> Iterator[None]:
    """Do one step at each `next`: the product's own trainer, on a store of the folder's images."""
    with tempfile.TemporaryDirectory() as folder:
        work_dir, store = Path(folder) / "run", Path(folder) / "store"
        pack(Path(given.folder), store, Settings(), workers=0)
        config = Pretraining(
            backbone=Network(name=size, gsd=1.0),
            data=PretrainingData(store=store, batch_size=given.batch, workers=given.workers),
            views=Views(global_size=GLOBAL, local_size=LOCAL, local_crops=LOCAL_CROPS),
            heads=Heads(prototypes=given.prototypes),
            training=PretrainingSchedule(
                lr=1e-4, clip_norm=CLIP, freeze_prototypes=0.0, precision=precision, device="cpu"
            ),
            work_dir=work_dir,
        )
        with Run(config, resume=False) as run:
            trainer = Pretrainer(config, Store(store), run, torch.device("cpu"))
            batches = trainer.loader.batches(0, config.training.steps)
            while True:
                with clock.measure("loader"):
                    views = next(batches)
                trainer.step(views)
                yield


# Iterators that do one step at each `next` and report the times of its parts where known.
SIDES = {
    "lightly": lightly_steps,
    "ours": our_steps,
    "ours, bf16": functools.partial(our_steps, precision="bf16"),
}


def endless(loader: DataLoader) -> Iterator[list[Tensor]]:
    """Yield the views of each batch, pass after pass."""
    while True:
        for views, _, _ in loader:
            yield views


def work(side: str, given: argparse.Namespace, size: str, parent: Connection) -> None:
    """Do the number of steps received, repeatedly; send the seconds of each part."""
    clock = Clock()
    steps = SIDES[side](given, size, clock)
    while count := parent.recv():
        for _ in range(given.discard):
            next(steps)
        before, begin = dict(clock.seconds), time.perf_counter()
        for _ in range(count):
            next(steps)
        total = time.perf_counter() - begin
        parts = {part: clock.seconds[part] - before[part] for part in PARTS}
        parent.send({"total": total} | parts)


def alternate(given: argparse.Namespace, size: str) -> dict[str, list[dict[str, float]]]:
    """Return the seconds of each turn of each side."""
    context = multiprocessing.get_context("spawn")
    pipes, seconds = {}, {side: [] for side in SIDES}
    for side in SIDES:
        pipes[side], end = context.Pipe()
        context.Process(target=work, args=(side, given, size, end)).start()
        end.close()  # so that a side that fails is noticed
    for _ in range(given.turns):
        for side, pipe in pipes.items():
            pipe.send(given.steps)
            seconds[side].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(0)
    return seconds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="of JPEGs, searched in depth")
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["tiny", "small"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--prototypes", type=int, default=65536)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="a turn")
    parser.add_argument("--discard", type=int, default=4, help="steps at the begin of a turn")
    given = parser.parse_args()
    table = Table("network", "side", "images/s", *(f"{part} %" for part in PARTS))
    for size in given.size:
        for side, turns in alternate(given, size).items():
            rates = [given.batch * given.steps / turn["total"] for turn in turns]
            shares = [
                statistics.median(100 * t[part] / t["total"] for t in turns) for part in PARTS
            ]
            table.add_row(
                size, side, f"{statistics.median(rates):.1f}", *(f"{s:.0f}" for s in shares)
            )
    Console().print(table)


if __name__ == "__main__":
    main()
