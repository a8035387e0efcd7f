"""Cost of a pair of dates against that of one scene, and our BAN against Open-CD's.

    python benchmarks/change_ban.py [--size base] [--side 252] [--batch 4] [--turns 7]
    python benchmarks/change_ban.py --opencd FOLDER ...

The first table is the frozen backbone with the light decoder: pairs, both dates in one batch,
against as many single scenes. With `--opencd`, a folder that holds the package `opencd` of
https://github.com/likyoo/open-cd, the second compares a training step of BAN (ViT at 224 px,
MiT-B2 at `--side`, forward, backward, AdamW of everything but the ViT) and the logits, with the
same random weights. Open-CD's ViT is the published one, mmpretrain's. Its code needs
`pip install mmengine mmcv-lite==2.1.0 mmsegmentation==1.2.2 mmdet==3.3.0 mmpretrain==1.2.0`; what
mmcv compiles, which BAN does not use, is replaced by empty classes. Rounds take turns.
"""

import argparse
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from cgeartheye.config import (
    Backbone,
    ChangeData,
    ChangeDecoder,
    ChangeDetection,
    SegmentationData,
    SegmentationDecoder,
    SemanticSegmentation,
)
from cgeartheye.models.backbone import SIZES, build
from cgeartheye.models.backbone.key_mapping import to_native
from cgeartheye.tasks.change.module import ChangeTask
from cgeartheye.tasks.segmentation.module import SegmentationTask

VIT_SIDE, MOST, LIMIT = 224, 2.1, 1e-4


def main() -> int:
    """Print the tables; return 1 if logits disagree or a pair costs more than 2.1 scenes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="base", choices=list(SIZES))
    parser.add_argument("--side", type=int, default=252, help="pixels a side")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--opencd", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    threads = torch.get_num_threads()
    ratio = compare_pair(given, Console(), threads)
    difference = compare_opencd(given, Console(), threads) if given.opencd else 0.0
    return int(ratio > MOST or difference > LIMIT)


@torch.inference_mode()
def compare_pair(given: argparse.Namespace, console: Console, threads: int) -> float:
    """Print what pairs cost; return the ratio to single scenes."""
    change = change_task(given, ChangeDecoder(kind="light"))
    config = SemanticSegmentation(
        backbone=Backbone(name=given.size, weights="random"),
        data=SegmentationData(root=".", classes=("a", "b"), image_size=given.side),
        decoder=SegmentationDecoder(kind="light"),
    )
    built = build(config.backbone, given.side)
    single = SegmentationTask(built.module, built.normalization, ("a", "b"), config).eval()
    pairs = torch.randint(0, 256, (given.batch, 6, given.side, given.side), dtype=torch.uint8)
    scenes = pairs[:, :3].contiguous()
    seconds = take_turns(
        {
            "a pair": lambda: change.probabilities(pairs),
            "a scene": lambda: single.probabilities(scenes),
            "the backbone on a pair": lambda: change.encode(pairs),
            "the backbone on a scene": lambda: single.encode(scenes),
        },
        given.turns,
    )
    title = f"{given.size}, {given.side} px, batches of {given.batch}, {threads} threads"
    table = Table("light decoder", "ms each", title=title)
    for name, value in seconds.items():
        table.add_row(name, f"{1e3 * value / given.batch:.1f}")
    whole = seconds["a pair"] / seconds["a scene"]
    encoded = seconds["the backbone on a pair"] / seconds["the backbone on a scene"]
    console.print(table, f"a pair costs {whole:.2f} scenes, its backbone {encoded:.2f}")
    return whole


def compare_opencd(given: argparse.Namespace, console: Console, threads: int) -> float:
    """Print steps and agreement; return the largest difference relative to the largest logit."""
    size = SIZES[given.size]
    layers = tuple(size.depth * n // 4 - 1 for n in (1, 2, 3, 4))
    torch.manual_seed(0)
    peer = OpenCD(given.opencd, size.width, layers, given.size).eval()
    for p in peer.parameters():
        nn.init.normal_(p, std=p[0].numel() ** -0.5 if p.ndim > 1 else 0.3)
    decoder = ChangeDecoder(kind="ban", layers=layers, backbone_size=VIT_SIDE)
    ours = change_task(given, decoder, VIT_SIDE)
    ours.decoder.load_state_dict(peer.head.state_dict())
    vit = to_native(peer.vit.state_dict(), {}, given.opencd)[1]
    ours.backbone.load_state_dict({"mask_token": torch.zeros(1, size.width), **vit})
    pairs = torch.randint(0, 256, (given.batch, 6, given.side, given.side), dtype=torch.uint8)
    images = torch.cat([ours.normalize(date) for date in pairs.split(3, dim=1)], dim=1)
    sides = given.side, given.side
    with torch.no_grad():
        one, other = ours.logits(pairs, sides), peer(images)
    difference = ((one - other).abs().max() / other.abs().max()).item()
    mask = torch.randint(0, 2, (given.batch, *sides))
    seconds = take_turns(
        {
            "ours": step(ours, ours.decoder, lambda: ours.logits(pairs, sides), mask),
            "Open-CD": step(peer, peer.head, lambda: peer(images), mask),
        },
        given.turns,
    )
    title = f"{given.size} at {VIT_SIDE} px, MiT-B2 at {given.side}, batch {given.batch}, "
    table = Table("BAN", "s a step", "pairs/s", title=f"{title}{threads} threads")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.2f}", f"{given.batch / value:.2f}")
    ratio = seconds["Open-CD"] / seconds["ours"]
    console.print(table, f"Open-CD takes {ratio:.2f} times as long; logits {difference:.1e} apart")
    return difference


def change_task(
    given: argparse.Namespace, decoder: ChangeDecoder, backbone_side: int | None = None
) -> ChangeTask:
    """Return a task with random weights."""
    config = ChangeDetection(
        backbone=Backbone(name=given.size, weights="random"),
        data=ChangeData(root=".", image_size=given.side),
        decoder=decoder,
    )
    built = build(config.backbone, backbone_side or given.side)
    return ChangeTask(built.module, built.normalization, ("unchanged", "changed"), config).eval()


def step(
    model: nn.Module, decoder: nn.Module, logits: Callable[[], Tensor], mask: Tensor
) -> Callable[[], None]:
    """Return a training step of a decoder."""
    model.train()
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-6)

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(logits(), mask).backward()
        optimizer.step()

    return run


def take_turns(jobs: Mapping[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Run the jobs by turns; return their median seconds, the first turn left out."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(turns + 1):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - begin)
    return {name: median(values[1:]) for name, values in seconds.items()}


class OpenCD(nn.Module):
    """Open-CD's BAN with its own modules; only the data samples of its toolbox are left out."""

    def __init__(self, folder: Path, width: int, layers: tuple[int, ...], size: str):
        super().__init__()
        sys.modules["mmcv.ops"] = _Compiled("mmcv.ops")
        sys.path.insert(0, str(folder))
        import opencd.models.decode_heads  # noqa: F401
        from mmengine.config import ConfigDict
        from mmpretrain.models.backbones import VisionTransformer
        from opencd.registry import MODELS

        encoder = {
            "type": "mmseg.MixVisionTransformer",
            "in_channels": 3,
            "embed_dims": 64,
            "num_stages": 4,
            "num_layers": [3, 4, 6, 3],
            "num_heads": [1, 2, 5, 8],
            "patch_sizes": [7, 3, 3, 3],
            "sr_ratios": [8, 4, 2, 1],
            "out_indices": (0, 1, 2, 3),
            "mlp_ratio": 4,
            "qkv_bias": True,
            "drop_path_rate": 0.1,
        }
        head = {
            "type": "BitemporalAdapterHead",
            "ban_cfg": {
                "clip_channels": width,
                "fusion_index": [0, 1, 2, 3],
                "side_enc_cfg": ConfigDict(encoder),
            },
            "ban_dec_cfg": ConfigDict(
                {
                    "type": "BAN_MLPDecoder",
                    "in_channels": [64, 128, 320, 512],
                    "channels": 128,
                    "dropout_ratio": 0.1,
                    "num_classes": 2,
                    "norm_cfg": {"type": "BN"},  # SyncBN of one process, which a CPU lacks
                    "align_corners": False,
                }
            ),
            "loss_decode": {"type": "mmseg.CrossEntropyLoss"},
        }
        self.head = MODELS.build(head)
        self.vit = VisionTransformer(
            arch={
                "embed_dims": width,
                "num_layers": SIZES[size].depth,
                "num_heads": SIZES[size].heads,
                "feedforward_channels": SIZES[size].hidden,
            },
            img_size=VIT_SIDE,
            patch_size=14,
            out_indices=layers,
            out_type="featmap",
            layer_scale_init_value=1e-5,
            frozen_stages=SIZES[size].depth,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised pairs `[B, 6, H, W]` to logits `[B, 2, H, W]`, as its detector does."""
        dates = images.split(3, dim=1)
        with torch.no_grad():
            small = [F.interpolate(date, (VIT_SIDE, VIT_SIDE), mode="bilinear") for date in dates]
            maps = [self.vit(date) for date in small]
        logits = self.head.forward([*dates, *maps])
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


class _Compiled(types.ModuleType):
    """Stands for mmcv's compiled operators, none of which is called."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


if __name__ == "__main__":
    sys.exit(main())
