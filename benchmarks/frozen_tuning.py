"""Frozen tuning by the published 100-epoch schedule: the cache against encoding every epoch.

Ours is `cgeartheye train` as a user runs it: encoding, 100 epochs with an evaluation after each,
the final test and the report. The peer is the plain loop that one writes with timm: the same
backbone with the same weights, frozen, under a linear head; every epoch encodes the augmented
training images, and every `--validate-every` epochs the test images.

python benchmarks/frozen_tuning.py DATA --train val_20per.txt --val train_80per.txt \
    [--weights W.safetensors] [--size 98]
DATA is a folder of class folders; without lists it is split 80/20 by class.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from backbone_peers import timm_model
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cgeartheye.commands import tasks
from cgeartheye.config import Backbone, Config, SceneClassification, SceneData, Training
from cgeartheye.data.datasets.scene import SceneChips, load_parts
from cgeartheye.models import backbone
from cgeartheye.models.backbone import SIZES
from cgeartheye.training.optimizer import learning_rate


class Augmented(Dataset):
    """Training chips, augmented anew at each visit."""

    def __init__(self, chips: SceneChips):
        self.chips = chips

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> dict:
        return self.chips[index, int(torch.randint(2**62, ()))]


def plain_loop(config: Config, state: dict, validate_every: int) -> tuple[float, float, float]:
    """Return top-1 in percent, seconds in all, seconds of them in validation."""
    parts = load_parts(config.data)
    size, data, training = config.data.image_size, config.data, config.training
    begin = time.perf_counter()
    torch.manual_seed(training.seed)
    network = timm_model(SIZES[config.backbone.name], size // 14)
    network.load_state_dict(state)
    network.eval().requires_grad_(False)
    head = nn.Linear(network.num_features, len(parts.classes))
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    mean = torch.tensor(config.backbone.normalization.mean).view(3, 1, 1)
    std = torch.tensor(config.backbone.normalization.std).view(3, 1, 1)
    settings = {"num_workers": data.workers, "persistent_workers": data.workers > 0}
    train = DataLoader(Augmented(parts.train), data.batch_size, shuffle=True, **settings)
    test = DataLoader(parts.test, 64, **settings)
    groups = [{"params": [head.weight]}, {"params": [head.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, weight_decay=training.weight_decay)
    step, validation, top1 = 0, 0.0, 0.0
    for epoch in range(training.epochs):
        for batch in train:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, len(train), data.batch_size, training)
            with torch.no_grad():
                features = network((batch["image"] - mean) / std)
            loss = nn.functional.cross_entropy(
                head(features), batch["label"], label_smoothing=config.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        if (epoch + 1) % validate_every == 0 or epoch + 1 == training.epochs:
            started = time.perf_counter()
            hits = 0
            with torch.no_grad():
                for batch in test:
                    predicted = head(network((batch["image"] - mean) / std)).argmax(1)
                    hits += int((predicted == batch["label"]).sum())
            top1 = 100 * hits / len(parts.test)
            validation += time.perf_counter() - started
        print(f"peer: epoch {epoch + 1}, {time.perf_counter() - begin:.0f} s", flush=True)
    return top1, time.perf_counter() - begin, validation


def main() -> None:
    """Run both, one after the other, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train")
    parser.add_argument("--val")
    parser.add_argument("--weights", type=Path, help="of a tiny backbone; without, random ones")
    parser.add_argument("--size", type=int, default=98)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--validate-every", type=int, default=1000, help="epochs, in the peer")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        config = SceneClassification(
            backbone=Backbone(
                name="tiny", weights=given.weights or "random", normalization={}, gsd=0.75
            ),
            data=SceneData(
                root=given.data,
                train=given.train,
                val=given.val,
                image_size=given.size,
                batch_size=given.batch,
            ),
            training=Training(
                lr=given.lr,
                decoder_lr_mult=1.0,
                base_batch_size=128,
                epochs=given.epochs,
                device="cpu",
            ),
            work_dir=Path(folder) / "run",
        )
        begin = time.perf_counter()
        tasks.train(config)
        ours = time.perf_counter() - begin
        top1 = json.loads((Path(folder) / "run" / "test.json").read_text())["top1"]

        torch.manual_seed(config.training.seed)
        built = backbone.build(config.backbone, given.size)
        state = built.module.state_dict()
        del state["mask_token"]  # only pre-training has it
        peer_top1, peer, validation = plain_loop(config, state, given.validate_every)

    table = Table("", "top-1 %", "seconds", "of which validation", "speed-up of ours")
    table.add_row("ours, 100 epochs from the cache", f"{top1:.2f}", f"{ours:.0f}", "", "")
    table.add_row(
        "timm, encoding every epoch",
        f"{peer_top1:.2f}",
        f"{peer:.0f}",
        f"{validation:.0f}",
        f"{peer / ours:.1f}x",
    )
    Console().print(table)


if __name__ == "__main__":
    main()
