"""Memory and time of tuning on a frozen backbone: the peak, and the time of AID's whole protocol.

    python benchmarks/frozen_memory.py [--size giant] [--image-size 518] [--batch 32] [--compile]

Measured: the peak memory of a training step without the cache (encode a batch, train the linear
layer), the seconds of encoding a batch, and the seconds of a training step from cached features.
Extrapolated from these, without reading images: 100 epochs on the 2,000 training images of AID
with the 8,000 others evaluated after each, with the cache (8 views) and without it.
"""

import argparse
from pathlib import Path

import torch
from backbone_forward import median_seconds
from rich.console import Console
from rich.table import Table

from cgeartheye.config import Backbone, SceneClassification, SceneData
from cgeartheye.models import backbone
from cgeartheye.tasks.scene.module import SceneTask
from cgeartheye.training.trainer import autocast

TRAIN, TEST, EPOCHS, VIEWS, CLASSES = 2_000, 8_000, 100, 8, 30


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="giant")
    parser.add_argument("--image-size", type=int, default=518)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    device = torch.device(given.device)
    config = SceneClassification(
        backbone=Backbone(name=given.size, weights="random", compile=given.compile),
        data=SceneData(root=Path("unused"), image_size=given.image_size),
    )
    built = backbone.build(config.backbone, given.image_size)
    classes = tuple(map(str, range(CLASSES)))
    task = SceneTask(built.module, built.normalization, classes, config).to(device).train()
    optimizer = torch.optim.AdamW(task.decoder.parameters(), lr=1e-4)
    images = torch.randint(
        0, 256, (given.batch, 3, given.image_size, given.image_size), dtype=torch.uint8
    ).to(device)
    label = torch.randint(0, CLASSES, (given.batch,)).to(device)
    features = torch.randn(given.batch, built.module.embed_dim, device=device)

    def step(batch: dict[str, torch.Tensor]) -> None:
        with autocast(device, given.precision):
            loss = task.training_loss(batch)["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    encoding = median_seconds(
        lambda: step({"image": images, "label": label}), device.type, given.repeats
    )
    peak = "not measured on a CPU"
    if device.type == "cuda":
        peak = f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB (published: 12 GB)"
    cached = median_seconds(
        lambda: step({"features": features, "label": label}), device.type, 10 * given.repeats
    )
    image = encoding / given.batch
    without = EPOCHS * (TRAIN + TEST) * image
    with_cache = (VIEWS * TRAIN + TEST) * image + EPOCHS * (TRAIN + TEST) / given.batch * cached
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    table = Table("", "", title=f"{given.size}, {given.image_size} px, batch {given.batch}, {name}")
    table.add_row("peak memory of a step", peak)
    table.add_row("encoding", f"{1 / image:,.1f} images/s")
    table.add_row("a step from the cache", f"{1e3 * cached:.2f} ms")
    table.add_row("AID, 100 epochs, without the cache (extrapolated)", f"{without / 60:,.1f} min")
    table.add_row("with the cache (extrapolated)", f"{with_cache / 60:,.1f} min")
    table.add_row("ratio", f"{without / with_cache:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
