"""A small store and a small pre-training."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cgeartheye.config import (
    Heads,
    Network,
    Objective,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Teacher,
    Views,
)
from cgeartheye.models.backbone.variants import Size
from cgeartheye.pretraining import trainer
from cgeartheye.pretraining.trainer import Pretrainer
from cgeartheye.training import distributed
from cgeartheye.training.run_dir import Run, read_history

SIZE = Size(width=24, depth=2, heads=2, hidden=48)


class ToyStore:
    """16 pictures of one colour and some noise; pictures 2 k and 2 k + 1 are of one place."""

    fingerprint = "toy"

    def __init__(self, side: int = 40):
        self.side = side

    def __len__(self) -> int:
        return 16

    def size(self, index: int) -> tuple[int, int]:
        return self.side, self.side

    def decode(self, index: int) -> Tensor:
        random = np.random.default_rng(index)
        color = np.random.default_rng(1000 + index // 2).integers(40, 215, (3, 1, 1))
        noise = random.integers(-40, 40, (3, self.side, self.side))
        return torch.from_numpy((color + noise).clip(0, 255).astype(np.uint8))

    def seasons(self, index: int) -> Sequence[int]:
        return [index ^ 1]


def toy_config(folder: Path, batch: int = 4, **changes: Any) -> Pretraining:
    sections = {
        "training": {
            "steps": 6,
            "lr": 1e-3,
            "base_batch_size": None,
            "log_every": 1,
            "checkpoint_every": 2,
            "device": "cpu",
        },
        "objective": {},
        "backbone": {"name": "tiny", "gsd": 1.0, "layer_scale": 1.0},
        "views": {
            "global_size": 28,
            "local_size": 14,
            "local_crops": 3,
            "season_crops": 1,
        },
        "heads": {"prototypes": 32, "hidden": 16, "bottleneck": 8},
        "data": {"store": Path("toy"), "batch_size": batch, "workers": 0},
        "teacher": {},
    }
    for name, value in changes.items():
        section, field = name.split("__")
        sections[section][field] = value
    return Pretraining(
        backbone=Network(**sections["backbone"]),
        data=PretrainingData(**sections["data"]),
        views=Views(**sections["views"]),
        heads=Heads(**sections["heads"]),
        objective=Objective(**sections["objective"]),
        teacher=Teacher(**sections["teacher"]) if sections["teacher"] else None,
        training=PretrainingSchedule(**sections["training"]),
        work_dir=folder,
    )


def toy_trainer(config: Pretraining, run: Run) -> Pretrainer:
    return Pretrainer(config, ToyStore(), run, torch.device("cpu"))


def pretrain_toy(config: Pretraining, resume: Path | None = None) -> Pretrainer:
    with Run(config, resume is not None) as run:
        trainer = toy_trainer(config, run)
        if resume:
            trainer.resume(resume)
        trainer.train()
    return trainer


if __name__ == "__main__":
    folder, batch, overrides = sys.argv[1:]
    trainer.SIZES["tiny"] = SIZE
    with distributed.process_group("cpu"):
        pretrain_toy(toy_config(Path(folder), int(batch), **json.loads(overrides)))
        if distributed.is_main():
            (Path(folder) / "history.json").write_text(json.dumps(read_history(Path(folder))))
