"""A task small enough to see through, and a program that trains it on several processes.

python -m torch.distributed.run --nproc_per_node 2 toy.py FOLDER SHARDING BATCH ACCUMULATE
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cgeartheye.config import Backbone, SceneClassification, SceneData, Training
from cgeartheye.training import distributed
from cgeartheye.training.checkpoint import all_tensors
from cgeartheye.training.run_dir import Run, read_history
from cgeartheye.training.trainer import Data, Trainer

CHIPS = 53  # divides by nothing


class Hits:
    def __init__(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.int64)

    def state(self) -> Tensor:
        return self.sums

    def load_states(self, states: list[Tensor]) -> None:
        self.sums = torch.stack(states).sum(0)

    def compute(self) -> dict[str, float]:
        return {"hits": self.sums[0].item() / self.sums[1].item()}


class ToyTask(nn.Module):
    """A two-layer network with dropout that learns the sign of its inputs' sum."""

    monitor = "hits"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 16)])
        self.head = nn.Linear(16, 2)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.dropout = nn.Dropout(0.0)

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"]
        for block in self.blocks:
            x = self.dropout(torch.tanh(block(x)))
        return self.head(x)

    def training_loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"ce": nn.functional.cross_entropy(self.logits(batch), batch["label"])}

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.training_loss(batch)

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        return self.logits(batch)

    def metrics(self) -> Hits:
        return Hits()

    def measure(self, metrics: Hits, prediction: Tensor, batch: dict[str, Tensor]) -> None:
        hits = prediction.argmax(1) == batch["label"]
        metrics.sums += torch.tensor([int(hits.sum()), len(hits)])


class ToySource:
    """Points that an augmentation moves a little, by its seed."""

    def __init__(self, poison: int | None = None) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(CHIPS, 6, generator=generator)
        self.label = (self.x.sum(1) > 0).long()
        if poison is not None:
            self.x[poison] = float("nan")

    def __len__(self) -> int:
        return CHIPS

    def load(self, batches: Iterable[list[Any]]) -> Iterator[dict[str, Tensor]]:
        for keys in batches:
            rows = []
            for key in keys:
                index, seed = key if isinstance(key, tuple) else (key, None)
                noise = torch.zeros(6)
                if seed is not None:
                    noise = torch.randn(6, generator=torch.Generator().manual_seed(seed)) * 0.1
                rows.append((self.x[index] + noise, self.label[index]))
            x, label = zip(*rows, strict=True)
            yield {"x": torch.stack(x), "label": torch.stack(label)}


def toy_config(folder: Path, **training: Any) -> SceneClassification:
    settings = {
        "epochs": 4,
        "lr": 1e-2,
        "decoder_lr_mult": 1.0,
        "warmup_epochs": 1,
        "log_every": 1,
        "device": "cpu",
    }
    return SceneClassification(
        backbone=Backbone(name="tiny", weights="random"),
        data=SceneData(root=Path("unused"), batch_size=12),
        training=Training(**(settings | training)),
        work_dir=folder,
    )


def train_toy(
    config: SceneClassification,
    batch: int = 12,
    resume: Path | None = None,
    train: ToySource | None = None,
    task: ToyTask | None = None,
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return the final weights and the log."""
    task = task or ToyTask()
    assert config.work_dir is not None
    data = Data(train=train or ToySource(), train_batch=batch, val=ToySource(), val_batch=batch)
    with Run(config, resume is not None) as run:
        trainer = Trainer(
            task, task.blocks, data, config.training, run, export=lambda model: None, resume=resume
        )
        trainer.train()
    return all_tensors(trainer.model), read_history(config.work_dir)


if __name__ == "__main__":
    folder, sharding, batch, grad_accum_steps = sys.argv[1:]
    settings = toy_config(
        Path(folder), sharding=sharding, grad_accum_steps=int(grad_accum_steps), clip_norm=0.5
    )
    with distributed.process_group("cpu"):
        weights, history = train_toy(settings, int(batch))
        if distributed.is_main():
            torch.save(weights, Path(folder) / "weights.pt")
            (Path(folder) / "history.json").write_text(json.dumps(history))
