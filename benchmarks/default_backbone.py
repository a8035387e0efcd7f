"""Worth of a frozen backbone on every task, with the same heads for all backbones.

    python benchmarks/default_backbone.py DATA [--backbones histograms random tiny FILE \
        timm/tf_efficientnet_lite0=FILE] [--tasks UCMerced LEVIR-CD-20 ...] [--seeds 3] \
        [--precision bf16] [--part val] [--out FOLDER]

DATA holds a folder for each task. A backbone is `tiny` (the weights that ship), `random` (a `tiny`
without), a file with weights of a `tiny`, or `<name>=<file>`, as a config's `backbone.name` and
`backbone.weights`; `histograms` are those of color and gradient.

- Scenes: kNN (k = 20) and linear probe of `cgeartheye probe`, at each of SIZES (timm's networks at
  the nearest multiple of 32). A seed of UCMerced is a split 80/20, by class and a hash of seed and
  path, as `data.split_seed` draws it. AID-150 is learnt from `val_20per.txt` and tested on
  `train_80per.txt`; its seeds are those of the images by which the linear probe chooses its
  penalty, and of the weights of `random`.
- Change and segmentation: the light head by the settings of DENSE; `--part val` is for choosing
  others. The head of the last step is tested, on windows enlarged as in training.
- Boxes: the configs of `config/ObjectDetection` for NWPU VHR-10; the last epoch, one seed.

Figures are percent, mean and range over the seeds. `default_backbone.json` has each of them, with
settings, times, the machine, and why a backbone was refused; it is written after every task.
bfloat16, for encoding and heads, is slow on a CPU without instructions for it.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.table import Table

from cgeartheye.commands import tasks
from cgeartheye.config import ChangeDetection, SceneClassification, SemanticSegmentation
from cgeartheye.config.loader import load
from cgeartheye.data.datasets.scene import SceneChips, load_parts
from cgeartheye.metrics.probes import knn_predict, linear_probe
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.tasks.scene.pipeline import chip_views
from cgeartheye.tasks.sources import SourceFactory
from cgeartheye.training.loaders import FileSource
from cgeartheye.training.trainer import evaluate
from cgeartheye.utils.console import console, log_info
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_text


@dataclass(frozen=True)
class Dense:
    """Training of a light head: crops of `image_size`, out of images enlarged by `zoom`."""

    classes: tuple[str, ...] | None  # none: change
    image_size: int = 224
    zoom: float = 2.0
    views: int = 16
    steps: int = 600
    lr: float = 1e-3
    dice: float = 1.0
    class_weights: tuple[float, ...] | None = None


SIZES, NEIGHBORS = (98, 224), 20
SCENES: dict[str, dict[str, str]] = {
    "UCMerced": {},
    "AID-150": {"train": "val_20per.txt", "val": "train_80per.txt"},
}
DENSE = {
    "LEVIR-CD-20": Dense(None),
    "EPFL-roads": Dense(("background", "road")),
    "GSI-roads": Dense(("background", "road")),
    "GSI-solar": Dense(("background", "panel")),
}
BOXES = {"NWPU-horizontal": "HBB", "NWPU-oriented": "OBB"}
BOX_CONFIG = "CGEarthEye-Tiny-336-NWPUVHR10.py"
NEVER = 10**6  # epochs: the last step's model is taken, not the best of some on a test part
BOX_OVERRIDES = [f"training.evaluate_every={NEVER}"]
TASKS = (*SCENES, *DENSE, *BOXES)
CONFIGS = Path(__file__).parents[1] / "config" / "ObjectDetection"
CPU = torch.device("cpu")

Figures = dict[str, float]
Result = dict[str, Any]
Section = dict[str, str]


def main() -> None:
    """Measure, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbones", nargs="+", default=["histograms", "random", "tiny"])
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS, metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--part", choices=("test", "val"), default="test", help="of DENSE's tasks")
    parser.add_argument("--out", type=Path, default=Path("runs/default_backbone"))
    given = parser.parse_args()
    path, results = given.out / "default_backbone.json", []
    for name in given.backbones:
        for task in given.tasks:
            results.append(measure(name, task, given))
            write_text(path, to_json(given, results))
    console.print(to_table(given.backbones, results))
    log_info(f"figures: {path}")


def measure(name: str, task: str, given: argparse.Namespace) -> Result:
    """Return the figures of a backbone on a task, by seed, and what they took."""
    log_info(f"{name} on {task}")
    result: Result = {"backbone": name, "task": task}
    seeds = range(1 if task in BOXES else given.seeds)
    backbone = None if name == "histograms" else backbone_of(name)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        with TemporaryDirectory() as folder:
            if task in SCENES:
                figures = scenes(task, backbone, seeds, given, Path(folder))
            elif backbone is None:
                raise UserError("histograms are of whole images: for scenes only")
            else:
                learn = dense if task in DENSE else boxes
                figures = [learn(task, backbone, seed, given, Path(folder)) for seed in seeds]
        result["figures"] = {key: [seed[key] for seed in figures] for key in figures[0]}
    except UserError as error:
        log_info(f"left out: {error}")
        result["left_out"] = str(error)
    result["wall_seconds"] = round(time.perf_counter() - wall, 1)
    result["cpu_seconds"] = round(time.process_time() - cpu, 1)
    return result


def backbone_of(name: str) -> Section:
    """Return the section `backbone` of a config."""
    network, _, weights = name.rpartition("=")
    if name == "tiny":
        return {"name": name}
    return {"name": network or "tiny", "weights": weights}


def scenes(
    task: str, backbone: Section | None, seeds: range, given: argparse.Namespace, folder: Path
) -> list[Figures]:
    """Probe the features of all images; the seeds share them, unless they draw weights."""
    results: list[Figures] = [{} for _ in seeds]
    for size in SIZES:
        features: dict[str, np.ndarray] = {}
        timm = backbone is not None and backbone["name"].startswith("timm/")
        side = max(32, 32 * round(size / 32)) if timm else size
        for seed, figures in zip(seeds, results, strict=True):
            data = {"root": given.data / task, **SCENES[task], "split_seed": seed}
            training = {"seed": seed, "precision": given.precision, "device": "cpu"}
            config = SceneClassification(
                backbone=backbone or {"name": "tiny"},
                data={**data, "image_size": side, "workers": 0},
                training=training,
                work_dir=folder,
            )
            parts = load_parts(config.data)
            chips = (parts.train, parts.test)
            if not features or (backbone and backbone.get("weights") == "random"):
                features = dict(encoded(config, chips) if backbone else histograms(chips))
            train, test = (np.stack([features[name] for name in part.names]) for part in chips)
            labels, truth = np.array(parts.train.labels), np.array(parts.test.labels)
            near = knn_predict(train, labels, test, NEIGHBORS, len(parts.classes))
            linear = linear_probe(train, labels, seed).predict(test)
            figures[f"kNN, {size} px"] = 100 * float((near == truth).mean())
            figures[f"linear, {size} px"] = 100 * float((linear == truth).mean())
    return results


def encoded(
    config: SceneClassification, parts: tuple[SceneChips, ...]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the features `[C]` of every chip, as `cgeartheye probe` makes them."""
    task, built = tasks.build(config, parts[0].classes, CPU)
    sources = SourceFactory(config, task, built)
    task.eval()
    for chips in parts:
        samples = chip_views(config, chips, views=0)
        for indices, tokens in sources.encode(samples, task.encode):
            rows = tokens[:, 0].float().numpy()
            yield from zip([chips.names[index] for index in indices], rows, strict=True)


def histograms(parts: tuple[SceneChips, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of every chip, and square roots of the shares of colors and gradients.

    512 colors; 9 directions by 4 strengths of the gradient, in all and in each quarter.
    """
    for chips in parts:
        for index, name in enumerate(chips.names):
            pixels = chips.load_views(index, [])[0].numpy().astype(int)
            colors = np.tensordot((64, 8, 1), pixels // 32, 1)
            dy, dx = np.gradient(pixels.mean(0))
            direction = np.minimum(np.arctan2(dy, dx) % np.pi / np.pi * 9, 8).astype(int)
            kinds = 4 * direction + np.searchsorted((4, 12, 32), np.hypot(dy, dx))
            quarters = [part for half in np.split(kinds, 2) for part in np.split(half, 2, 1)]
            counts = [np.bincount(colors.ravel(), minlength=512) / colors.size]
            counts += [np.bincount(k.ravel(), minlength=36) / k.size for k in (kinds, *quarters)]
            yield name, np.sqrt(np.concatenate(counts)).astype(np.float32)


def dense(
    task: str, backbone: Section, seed: int, given: argparse.Namespace, folder: Path
) -> Figures:
    """Train a light head, and test it."""
    how, run = DENSE[task], folder / f"run{seed}"
    data: dict[str, Any] = {
        "root": given.data / task,
        "image_size": how.image_size,
        "scale": (0.8 * how.zoom, 1.25 * how.zoom),
        "max_class_ratio": 1.0,
        "batch_size": 8,
        "workers": 0,
    }
    data |= {"classes": how.classes} if how.classes else {"rotation": 0.0}
    training = {
        "steps": how.steps,
        "lr": how.lr,
        "decoder_lr_mult": 1.0,
        "warmup_steps": how.steps // 20,
        "evaluate_every": NEVER,
        "precision": given.precision,
        "device": "cpu",
        "seed": seed,
    }
    kind = SemanticSegmentation if how.classes else ChangeDetection
    config = kind(
        backbone=backbone,
        data=data,
        decoder={"kind": "light", "dice": how.dice, "class_weights": how.class_weights},
        window={"flips": False, "scales": (how.zoom,)},
        cache={"views": how.views, "batch_size": 32},
        training=training,
        work_dir=run,
    )
    tasks.train(config)
    # Not `tasks.test`, which reports the mean of two classes' IoU alone.
    part = config.data.model_copy(update={"test": given.part})
    config = config.model_copy(update={"data": part})
    pipeline = pipeline_for(config)
    model, _ = tasks.load(pipeline, run, CPU, tta=True)
    source = FileSource(pipeline.parts.test, 0, CPU, (*pipeline.images, "mask"))
    confusion = evaluate(model, source, 4, given.precision).confusion
    figures = {"IoU": confusion.iou[1], "F1": confusion.f1[1], "mIoU": confusion.mean_iou}
    return {key: 100 * float(figure) for key, figure in figures.items()}


def boxes(
    task: str, backbone: Section, seed: int, given: argparse.Namespace, folder: Path
) -> Figures:
    """Train a small detector, and test it."""
    fields = {f"backbone.{key}": value for key, value in backbone.items()} | {
        "data.root": given.data / "NWPU-VHR10",
        "training.seed": seed,
        "training.precision": given.precision,
        "training.device": "cpu",
        "work_dir": folder / "run",
    }
    overrides = [f"{field}={value}" for field, value in fields.items()]
    figures = tasks.train(load(CONFIGS / BOXES[task] / BOX_CONFIG, [*overrides, *BOX_OVERRIDES]))
    return {"AP50": figures["ap50"], "AP": figures["ap"]}


def to_table(names: list[str], results: list[Result]) -> Table:
    """Return a row for each figure, a column for each backbone."""
    table = Table("task", "%", *names, title="frozen, mean (range) over the seeds")
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for result in results:
        for figure, values in result.get("figures", {}).items():
            spread = f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else ""
            cells = rows.setdefault((result["task"], figure), {})
            cells[result["backbone"]] = f"{np.mean(values):.1f}{spread}"
    for (task, figure), cells in rows.items():
        table.add_row(task, figure, *(cells.get(name, "-") for name in names))
    return table


def to_json(given: argparse.Namespace, results: list[Result]) -> str:
    """Return everything that was measured, with what it depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    sets = {"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & {*facts.get("flags", "").split()}
    machine = {
        "cpu": facts.get("model name", platform.processor()),
        "cores": sum(line.startswith("processor") for line in lines) or None,
        "instructions": sorted(sets),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    settings = {
        "scenes": {"sizes": SIZES, "neighbours": NEIGHBORS, "parts": SCENES},
        "dense": {task: asdict(how) for task, how in DENSE.items()},
        "boxes": {"configs": BOXES, "overrides": BOX_OVERRIDES},
    }
    content = {"options": vars(given), "settings": settings, "machine": machine}
    return json.dumps({**content, "results": results}, indent=1, default=str)


if __name__ == "__main__":
    main()
