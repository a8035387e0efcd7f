"""Crops/s of distillation on a CPU: the student's step, and the whole loop around it.

The plain loop is what one writes first: timm's ViT-tiny/14 in float32 on all threads, every patch
of 32 crops of 98 px, targets of 1,280 channels. Ours is CGEarthEye-Tiny-distilled.py as
`tools/default_backbone.sh` runs it; its means are added one by one: our ViT and 64 crops of 1,280
and 432 channels, bfloat16, half of the patches, compiled blocks, a process a core with one thread.
All steps are measured on tensors that are ready (forward, loss, backward, AdamW). The whole loop
has everything else: crops, the teacher's features, the moving average, gradients that processes
share; with a teacher that sees whole images once, and with one that sees every crop.

The sides work in turns, each in processes of its own; shown is the median over turns.

    bash tools/default_backbone.sh DATA OUT training.steps=1  # the store and the teacher's file
    python benchmarks/distillation_step.py OUT
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from cgeartheye.config import Heads, Pretraining, load
from cgeartheye.pretraining.schedule import lr_factors
from cgeartheye.pretraining.trainer import build_branch
from cgeartheye.training.optimizer import adamw

CONFIG = Path(__file__).parents[1] / "config/Pretraining/CGEarthEye-Tiny-distilled.py"
SIDE, PATCHES = 98, 49
POOLED, MAPS = 1280, 432  # channels of the teacher's features: of an image, of its two maps
CORES = len(os.sched_getaffinity(0))
PLAIN_BATCH = 32  # crops
BATCH = 64  # samples of two crops, over all processes


def distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Return smooth-L1 plus cosine distance."""
    cosine = F.cosine_similarity(predicted, target, dim=-1).mean()
    return F.smooth_l1_loss(predicted, target) + 1 - cosine


class PlainStudent(nn.Module):
    """timm's ViT with two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = TimmViT(
            img_size=SIDE, patch_size=14, embed_dim=192, depth=12, num_heads=3, num_classes=0,
            global_pool="", init_values=1.0,
        )  # fmt: skip
        self.heads = nn.ModuleList(nn.Linear(192, POOLED) for _ in range(2))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predictions of class and patch tokens."""
        tokens = self.vit(crops)
        return self.heads[0](tokens[:, 0]), self.heads[1](tokens[:, 1:])


def plain_rate(seconds: float) -> float:
    """Return crops/s of the plain step."""
    student = PlainStudent()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
    crops = torch.randn(PLAIN_BATCH, 3, SIDE, SIDE)
    targets = torch.randn(PLAIN_BATCH, POOLED), torch.randn(PLAIN_BATCH, PATCHES, POOLED)

    def step() -> None:
        classes, patches = student(crops)
        (distance(classes, targets[0]) + distance(patches, targets[1])).backward()
        optimizer.step()
        optimizer.zero_grad()

    return PLAIN_BATCH * steps_a_second(step, seconds)


def our_rate(side: "Side", crops_a_step: int, seconds: float) -> float:
    """Return crops/s of our step in this process."""
    config = load(CONFIG)
    assert isinstance(config, Pretraining)
    network = config.backbone.model_copy(update={"compile": side.compiled})
    config = config.model_copy(update={"backbone": network, "heads": Heads(prototypes=8)})
    student, _ = build_branch(config, (POOLED, MAPS))
    optimizer = adamw(
        student, config.training, lr_factors(student.backbone.depth, config.training), fused=True
    )
    kept_count = round(side.kept * PATCHES)
    crops = torch.randn(crops_a_step, 3, SIDE, SIDE)
    kept = torch.rand(crops_a_step, PATCHES).argsort(1)[:, :kept_count], torch.zeros(0)
    targets = torch.randn(crops_a_step, POOLED), torch.randn(crops_a_step, kept_count, MAPS)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=side.half):
            seen = student([crops], None, None, kept if side.kept < 1 else None)
        classes, (patches,) = seen.class_targets.float(), seen.patch_targets
        (distance(classes, targets[0]) + distance(patches.float(), targets[1])).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return crops_a_step * steps_a_second(step, seconds)


def steps_a_second(step: Callable[[], None], seconds: float) -> float:
    """Repeat a step for some seconds, after a few that warm up."""
    for _ in range(3):
        step()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - begin)


class Side(NamedTuple):
    """Way in which a step is made."""

    plain: bool = False
    half: bool = False
    kept: float = 1.0
    compiled: bool = False
    processes: int = 1


STEPS = {
    "plain step": Side(plain=True),
    "our step, float32": Side(),
    "+ bfloat16": Side(half=True),
    "+ half of the patches": Side(half=True, kept=0.5),
    "+ compiled blocks": Side(half=True, kept=0.5, compiled=True),
    "+ a process a core": Side(half=True, kept=0.5, compiled=True, processes=CORES),
}


def work(side: Side, seconds: float, rates: "Queue[float]") -> None:
    """Measure one side in a process of its own."""
    torch.set_num_threads(CORES // side.processes)
    if side.plain:
        rates.put(plain_rate(seconds))
    else:
        rates.put(our_rate(side, 2 * BATCH // side.processes, seconds))


def side_rate(side: Side, seconds: float) -> float:
    """Return crops/s of all processes of a side together."""
    context = multiprocessing.get_context("spawn")
    rates: Queue[float] = context.Queue()
    processes = [
        context.Process(target=work, args=(side, seconds, rates)) for _ in range(side.processes)
    ]
    for process in processes:
        process.start()
    total = sum(rates.get() for _ in processes)
    for process in processes:
        process.join()
    return total


def loop_rate(view: str, out: Path, steps: int) -> float:
    """Return crops/s of the whole pre-training, as logged; the first half is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        fields = {
            "data.store": out / "store",
            "data.batch_size": BATCH // CORES,
            "teacher.view": view,
            "teacher.backbone.weights": out / "teacher.safetensors",
            "teacher.cache.folder": out / "features",
            "training.steps": steps,
            "training.log_every": max(1, steps // 10),
        }
        subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *(f"--nproc_per_node={CORES}", "-m", "cgeartheye", "pretrain", str(CONFIG)),
                *("--work-dir", f"{folder}/run"),
                *(f"--set={name}={value}" for name, value in fields.items()),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        log = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["images_per_s"] for line in log]
    return 2 * statistics.median(rates[len(rates) // 2 :])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="what tools/default_backbone.sh made")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="a turn of a step")
    parser.add_argument("--steps", type=int, default=100, help="a turn of the whole loop")
    given = parser.parse_args()
    rates: dict[str, list[float]] = {name: [] for name in STEPS}
    loops = {f"whole loop, teacher sees {view}s": view for view in ("image", "crop")}
    rates |= {name: [] for name in loops}
    for _ in range(given.turns):
        for name, side in STEPS.items():
            rates[name].append(side_rate(side, given.seconds))
        for name, view in loops.items():
            rates[name].append(loop_rate(view, given.out, given.steps))
    medians = {side: statistics.median(values) for side, values in rates.items()}
    table = Table("side", "crops/s", "of the plain step", "of our last step")
    ours = medians["+ a process a core"]
    for name, rate in medians.items():
        table.add_row(
            name,
            f"{rate:.0f}",
            f"{rate / medians['plain step']:.2f}",
            f"{rate / ours:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
