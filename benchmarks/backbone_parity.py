"""Difference of our backbone's output from those of timm, transformers and mmpretrain.

All networks have random weights in which every layer matters, in float32. What is shown is the
largest difference relative to the largest value of the peer's output; 1e-4 is the limit.

    python benchmarks/backbone_parity.py [--reference FOLDER] [--side 98]

`FOLDER` holds mmpretrain-swiglu-d96.pth and what mmpretrain computes from it.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from backbone_peers import ours_like, randomize, timm_model, transformers_model
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from cgeartheye.models.backbone.checkpoint_io import read_weights
from cgeartheye.models.backbone.load_weights import load_into
from cgeartheye.models.backbone.variants import SIZES, Size
from cgeartheye.models.backbone.vit import VisionTransformer

LIMIT = 1e-4
GIANT_DEPTH = 6
Differences = tuple[str, str, float, float, float]


def main() -> int:
    """Print the table; return 1 if a difference is too large."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", type=Path, metavar="FOLDER")
    parser.add_argument("--side", type=int, default=98, help="pixels a side [98]")
    arguments = parser.parse_args()
    table = Table("network", "peer", "class token", "middle map", "last map")
    worst = 0.0
    for name, peer, *differences in compare(arguments.side, arguments.reference):
        table.add_row(name, peer, *(f"{d:.1e}" for d in differences))
        worst = max(worst, *differences)
    Console().print(table, f"largest {worst:.1e}, limit {LIMIT:.0e}")
    return int(worst > LIMIT)


@torch.no_grad()
def compare(side: int, reference: Path | None) -> Iterator[Differences]:
    """Yield the differences of every network and peer."""
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    for name, size in SIZES.items():
        if name == "giant":
            size = replace(size, depth=GIANT_DEPTH)
            name = f"giant ({GIANT_DEPTH} layers)"
        for registers in (0, 4):
            label = f"{name} + {registers} registers" if registers else name
            yield label, "timm", *against_timm(size, registers, images)
            yield label, "transformers", *against_transformers(size, registers, images)
    if reference:
        for reference_side in (98, 224):
            label = f"SwiGLU, width 96, {reference_side} px"
            yield label, "mmpretrain", *against_mmpretrain(reference, reference_side)


def against_timm(size: Size, registers: int, images: Tensor) -> list[float]:
    """Return the relative differences of class token, middle map and last map."""
    grid, middle = images.shape[-1] // 14, size.depth // 2
    peer = timm_model(size, grid, registers)
    randomize(peer)
    vit = ours_like(peer, size, grid, registers)
    features, (theirs,) = peer.forward_intermediates(images, indices=[middle])
    last = features[:, 1 + registers :].transpose(1, 2)
    return differences(vit, images, middle, features[:, 0], theirs, last)


def against_transformers(size: Size, registers: int, images: Tensor) -> list[float]:
    """Return the relative differences of class token, middle map and last map."""
    grid, middle = images.shape[-1] // 14, size.depth // 2
    peer = transformers_model(size, grid, registers)
    randomize(peer)
    vit = ours_like(peer, size, grid, registers)
    output = peer(images, output_hidden_states=True)
    maps = [
        tokens[:, 1 + registers :].transpose(1, 2)
        for tokens in (output.hidden_states[middle + 1], output.last_hidden_state)
    ]
    return differences(vit, images, middle, output.last_hidden_state[:, 0], *maps)


def against_mmpretrain(folder: Path, side: int) -> list[float]:
    """Return the relative differences of class token, middle map and last map."""
    weights = read_weights(folder / "mmpretrain-swiglu-d96.pth")
    expected = load_file(folder / "mmpretrain-swiglu-d96.expected.safetensors")
    hidden = weights.state["blocks.0.mlp.w3.weight"].shape[1]
    size = Size(weights.width, weights.depth, heads=3, hidden=hidden, swiglu=True)
    vit = VisionTransformer(size, grid=weights.grid)
    load_into(vit, weights)
    outputs = [expected[f"{output}_{side}"] for output in ("cls", "mid_map", "last_map")]
    return differences(vit, expected[f"images_{side}"], 1, *outputs)


def differences(
    vit: VisionTransformer,
    images: Tensor,
    middle: int,
    cls: Tensor,
    middle_map: Tensor,
    last_map: Tensor,
) -> list[float]:
    """Return the largest difference of each output, relative to the peer's largest value."""
    ours, maps = vit(images, [middle, -1])
    pairs = zip((ours, *maps), (cls, middle_map, last_map), strict=True)
    return [((a.flatten() - b.flatten()).abs().max() / b.abs().max()).item() for a, b in pairs]


if __name__ == "__main__":
    sys.exit(main())
