"""Crops/s of distillation on a CPU: the student's step, and the whole loop around it.

The plain loop is what one writes first: timm's ViT-tiny/14 in float32 on all threads, every patch
of 32 crops of 98 px, targets of 1,280 channels. Ours is CGEarthEye-Tiny-distilled.py
as `tools/default_backbone.sh` runs it: a process a core with one thread, bfloat16, compiled blocks,
half of the patches, targets of 1,280 and 432 channels. Both steps are measured on tensors that are
ready (forward, loss, backward, AdamW), then ours with everything else: crops, the teacher's
features from the cache, the moving average, gradients shared by the processes.

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

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from cgeartheye.config import Heads, Pretraining, load
from cgeartheye.pretraining.model import Branch
from cgeartheye.pretraining.schedule import adamw
from cgeartheye.pretraining.train import build_branch

CONFIG = Path(__file__).parents[1] / "config/Pretraining/CGEarthEye-Tiny-distilled.py"
SIDE, PATCHES = 98, 49
POOLED, MAPS = 1280, 432  # channels of the teacher's features: of an image, of its two maps
CORES = len(os.sched_getaffinity(0))
PLAIN_BATCH = 32


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


def our_rate(config: Pretraining, seconds: float) -> float:
    """Return crops/s of our step in this process."""
    assert config.teacher is not None
    student, _ = build_branch(config, (POOLED, MAPS))
    assert isinstance(student, Branch)
    optimizer = adamw(student, student.backbone.depth, config.training)
    count = 2 * config.data.batch_size
    kept_count = round(config.teacher.kept_patches * PATCHES)
    crops = torch.randn(count, 3, SIDE, SIDE)
    kept = torch.rand(count, PATCHES).argsort(1)[:, :kept_count], torch.zeros(0)
    targets = torch.randn(count, POOLED), torch.randn(count, kept_count, MAPS)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            seen = student([crops], None, None, kept)
        classes, (patches,) = seen.class_targets.float(), seen.patch_targets
        (distance(classes, targets[0]) + distance(patches.float(), targets[1])).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return count * steps_a_second(step, seconds)


def steps_a_second(step: Callable[[], None], seconds: float) -> float:
    """Repeat a step for some seconds, after a few that warm up."""
    for _ in range(3):
        step()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - begin)


def work(side: str, config: Pretraining, seconds: float, rates: "Queue[float]") -> None:
    """Measure one side in a process of its own."""
    torch.set_num_threads(CORES if side == "plain" else 1)
    rates.put(plain_rate(seconds) if side == "plain" else our_rate(config, seconds))


def side_rate(side: str, config: Pretraining, seconds: float) -> float:
    """Return crops/s of all processes of a side together."""
    context = multiprocessing.get_context("spawn")
    rates: Queue[float] = context.Queue()
    count = 1 if side == "plain" else CORES
    processes = [
        context.Process(target=work, args=(side, config, seconds, rates)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    total = sum(rates.get() for _ in processes)
    for process in processes:
        process.join()
    return total


def loop_rate(config: Pretraining, out: Path, steps: int) -> float:
    """Return crops/s of the whole pre-training, as its log says; the first half is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        fields = {
            "data.store": out / "store",
            "data.batch_size": config.data.batch_size,
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
    config = load(CONFIG)
    assert isinstance(config, Pretraining)
    share = config.data.model_copy(update={"batch_size": config.data.batch_size // CORES})
    config = config.model_copy(update={"data": share, "heads": Heads(prototypes=8)})
    rates: dict[str, list[float]] = {"plain step": [], "our step": [], "our whole loop": []}
    for _ in range(given.turns):
        rates["plain step"].append(side_rate("plain", config, given.seconds))
        rates["our step"].append(side_rate("ours", config, given.seconds))
        rates["our whole loop"].append(loop_rate(config, given.out, given.steps))
    medians = {side: statistics.median(values) for side, values in rates.items()}
    table = Table("side", "crops/s", "of the plain step", "of our step")
    for side, rate in medians.items():
        table.add_row(
            side,
            f"{rate:.0f}",
            f"{rate / medians['plain step']:.2f}",
            f"{rate / medians['our step']:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
