"""Accuracy of the light detector from 227 images of NWPU VHR-10, beside alternatives.

    python benchmarks/light_detector.py DATA OUT [--seeds 3] [--stages light dino soon ...]

DATA is the folder of NWPU VHR-10 in DIOR's and DIOR-R's layouts: `images/{trainval,test}`,
`Annotations/{trainval,test}.json`, `Annotations/Oriented Bounding Boxes`. Every run stands on the
frozen backbone that ships, but for torchvision's, which has none, and is tested on the test part.

light   the configs `*-light.py`, horizontal and oriented, each seed with features of its own views:
        AP50, seconds of all (encoding, training, tests)
dino    the configs of the query detector for 80 epochs: AP50, seconds
soon    the light detector for the few epochs of --soon: a tenth of the query detector's time?
rcnn    torchvision's Faster R-CNN with a MobileNetV3 from scratch, on the same crops, for the
        seconds of the first horizontal light run
eight   the light detector on eight images, tested on the same: AP50, seconds
rate    images/s of the light detector and of the query detector at 336 px, in turns, medians

What is done is kept in OUT/figures.json; run again, the program goes on with what is missing.
"""

import argparse
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn

from cgeartheye.boxes import Detections
from cgeartheye.commands import tasks
from cgeartheye.config import ObjectDetection, load
from cgeartheye.data import load_detection_parts
from cgeartheye.metrics.detection.metrics import DetectionMetrics
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.training.samplers import derive_seed

CONFIGS = Path(__file__).parents[1] / "config" / "ObjectDetection"
FOLDERS = {"horizontal": "HBB", "oriented": "OBB"}
STAGES = ("light", "dino", "soon", "rcnn", "eight", "rate")
RATE_SIDE, ROUNDS, BATCH = 336, 5, 8
RCNN_LR, RCNN_BATCH = 5e-4, 4
OVERRIDES: tuple[str, ...] = ()  # of every config; tests make all of it smaller

Figures = dict[str, Any]


def main() -> None:
    """Do what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--soon", type=int, default=4, help="epochs")
    parser.add_argument("--boxes", nargs="*", default=list(FOLDERS), choices=list(FOLDERS))
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=STAGES)
    given = parser.parse_args()
    data, out = given.data.resolve(), given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for boxes in given.boxes:
        place = data, out, boxes
        for seed in range(given.seeds) if "light" in given.stages else ():
            once(out, f"{boxes} light seed {seed}", train, *place, "light", f"training.seed={seed}")
        if "dino" in given.stages:
            once(out, f"{boxes} dino", train, *place, "dino", "training.epochs=80")
        if "soon" in given.stages:
            few = f"training.epochs={given.soon}"
            once(out, f"{boxes} soon", train, *place, "soon", few, "cache.views=2")
        if "eight" in given.stages:
            once(out, f"{boxes} eight", overfit, *place)
        if "rate" in given.stages:
            once(out, f"{boxes} rate", rate, *place)
    if "rcnn" in given.stages:
        budget = known(out)["horizontal light seed 0"]["seconds"]
        once(out, "horizontal rcnn", faster_rcnn, data, budget)
    table = Table(title=f"NWPU VHR-10, {torch.get_num_threads()} threads")
    for name in ("", "AP50 %", "AP %", "seconds", "images/s"):
        table.add_column(name, justify="right" if name else "left")
    for name, row in known(out).items():
        cells = (row.get(key) for key in ("ap50", "ap", "seconds", "rate"))
        table.add_row(name, *("" if cell is None else f"{cell:.1f}" for cell in cells))
    for boxes in given.boxes:
        found = [
            row["ap50"] for name, row in known(out).items() if name.startswith(f"{boxes} light")
        ]
        if found:
            table.add_row(f"{boxes} light, mean of {len(found)}", f"{statistics.mean(found):.1f}")
    Console().print(table)


def known(out: Path) -> dict[str, Figures]:
    """Return earlier measurements."""
    path = out / "figures.json"
    figures: dict[str, Figures] = json.loads(path.read_text()) if path.exists() else {}
    return figures


def once(out: Path, name: str, measure: Callable[..., Figures], *arguments: Any) -> None:
    """Measure what is not known."""
    if name not in known(out):
        figures = measure(*arguments)
        (out / "figures.json").write_text(json.dumps(known(out) | {name: figures}, indent=1))


def configure(data: Path, out: Path, boxes: str, kind: str, *overrides: str) -> ObjectDetection:
    """The shipped config of a detector, on this data."""
    name = "336-NWPUVHR10" if kind == "dino" else "560-NWPUVHR10-light"
    path = CONFIGS / FOLDERS[boxes] / f"CGEarthEye-Tiny-{name}.py"
    config = load(path, [f"data.root={data}", f"work_dir={out}", *overrides, *OVERRIDES])
    assert isinstance(config, ObjectDetection)
    return config


def train(data: Path, out: Path, boxes: str, kind: str, *overrides: str) -> Figures:
    """Train, encoding all anew, and test."""
    run = out / "-".join([boxes, kind, *(o for o in overrides if "seed" in o)])
    features = out / "features"
    for folder in (run, features):
        shutil.rmtree(folder, ignore_errors=True)
    config = configure(data, run, boxes, kind, f"cache.folder={features}", *overrides)
    started = time.perf_counter()
    figures = tasks.train(config)
    seconds = time.perf_counter() - started
    shutil.rmtree(features, ignore_errors=True)
    return {**figures, "seconds": seconds}


def overfit(data: Path, out: Path, boxes: str) -> Figures:
    """Learn eight images by heart."""
    folder = out / "eight"
    config = configure(data, folder, boxes, "light")
    chips = load_detection_parts(config.data).train
    full = [index for index in range(len(chips)) if len(chips.load_boxes(index)[0])][:8]
    lists = out / "eight.txt"
    lists.write_text("\n".join(Path(chips.names[index]).stem for index in full))
    alone = (
        *(f"data.lists={lists}", "data.train=trainval", "data.val=trainval"),
        *("data.scale=[1.0,1.0]", "data.flips=none", "data.batch_size=8", "cache.views=1"),
        *("training.epochs=90", "training.evaluate_every=90", "training.warmup_epochs=5"),
    )
    return train(data, out, boxes, "eight", *alone)


@torch.inference_mode()
def rate(data: Path, out: Path, boxes: str) -> Figures:
    """Images a second that trained detectors predict at one side, and how many times DINO's."""
    side = f"data.image_size={RATE_SIDE}"
    runs = {"light": out / f"{boxes}-light-training.seed=0", "dino": out / f"{boxes}-dino"}
    models = {}
    for kind, run in runs.items():
        config = configure(data, run, boxes, kind, side, "training.precision=fp32")
        models[kind] = tasks.load(pipeline_for(config), run, torch.device("cpu"))[0].eval()
    chips = load_detection_parts(config.data).test
    images = torch.stack([torch.as_tensor(chips[n]["image"]) for n in range(BATCH)])
    seconds: dict[str, list[float]] = {kind: [] for kind in models}
    for turn in range(ROUNDS + 1):
        for kind, model in models.items():
            started = time.perf_counter()
            model.predict_windows(images)
            if turn:
                seconds[kind].append(time.perf_counter() - started)
    light, dino = (statistics.median(seconds[kind]) for kind in ("light", "dino"))
    return {"rate": BATCH / light, "rate of dino": BATCH / dino, "times": dino / light}


def faster_rcnn(data: Path, budget: float) -> Figures:
    """torchvision's, from scratch, on the crops that the light detector is given."""
    config = configure(data, Path("unused"), "horizontal", "light")
    parts = load_detection_parts(config.data)
    side, train = config.data.image_size, parts.train
    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=len(parts.classes) + 1,
        trainable_backbone_layers=6,
        min_size=side,
        max_size=side,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RCNN_LR, weight_decay=1e-2)
    started, step = time.perf_counter(), 0
    while (done := (time.perf_counter() - started) / budget) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RCNN_LR * min(1, (step + 1) / 50) * (1 + math.cos(math.pi * done)) / 2
        chosen = torch.randint(len(train), (RCNN_BATCH,)).tolist()
        samples = [train[n, derive_seed("rcnn", step, n)] for n in chosen]
        images = [torch.as_tensor(sample["image"]).float() / 255 for sample in samples]
        targets = [
            {"boxes": torch.as_tensor(sample["boxes"]), "labels": sample["labels"] + 1}
            for sample in samples
        ]
        losses = model(images, targets)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        step += 1
    model.eval()
    metrics = DetectionMetrics(len(parts.classes), oriented=False)
    with torch.inference_mode():
        for index in range(len(parts.test)):
            sample = parts.test[index]
            scale = max(sample["size"].tolist()) / side
            (preds,) = model([torch.as_tensor(sample["image"]).float() / 255])
            found = Detections(preds["boxes"] * scale, preds["scores"], preds["labels"] - 1)
            truth = torch.as_tensor(sample["boxes"])
            metrics.update(index, found, truth, sample["labels"], sample["ignored"])
    metrics.load_states([metrics.state()])
    return {**metrics.compute(), "seconds": time.perf_counter() - started, "steps": step}


if __name__ == "__main__":
    main()
