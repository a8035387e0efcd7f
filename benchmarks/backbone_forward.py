"""Speed of our backbone: on a CPU beside timm's same network, on a GPU beside its matrix rate.

    python benchmarks/backbone_forward.py [--sizes tiny small base] [--repeats 9] [--device cpu]

CPU: float32, the same weights, both in one process in turn, medians. GPU: bfloat16, every block
compiled, image to class token; the rate is that of a large product of matrices measured before.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from backbone_peers import ours_like, randomize, timm_model
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cgeartheye.models.backbone.block import PATCH
from cgeartheye.models.backbone.variants import SIZES, Size
from cgeartheye.models.backbone.vit import VisionTransformer

SIDES = (224, 518)
CPU_BATCH = {224: 8, 518: 1}
GPU_BATCH = {224: 128, 518: 32}


def main() -> None:
    """Print the table of the CPU or of the GPU."""
    gpu = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default=gpu)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES))
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        table = on_cpu(arguments.sizes or ["tiny", "small", "base"], arguments.repeats)
    else:
        table = on_gpu(arguments.sizes or list(SIZES), arguments.repeats)
    Console().print(table)


def on_cpu(names: list[str], repeats: int) -> Table:
    """Compare ours with timm's."""
    title = f"float32, {torch.get_num_threads()} threads, median of {repeats}"
    table = Table("size", "px", "batch", "output", "ours", "timm", "timm / ours", title=title)
    for name, side in track([(n, s) for n in names for s in SIDES], "measuring", transient=True):
        for output, (ours, theirs) in cpu_seconds(SIZES[name], side, repeats).items():
            times = f"{ours * 1e3:.0f} ms", f"{theirs * 1e3:.0f} ms", f"{theirs / ours:.2f}"
            table.add_row(name, str(side), str(CPU_BATCH[side]), output, *times)
    return table


@torch.inference_mode()
def cpu_seconds(size: Size, side: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Return our seconds and timm's for a batch, by output."""
    peer = timm_model(size, side // PATCH)
    randomize(peer)
    vit = ours_like(peer, size, side // PATCH)
    images = torch.randn(CPU_BATCH[side], 3, side, side)
    assert torch.allclose(vit(images)[0], peer(images), rtol=1e-3, atol=1e-3)
    last = [size.depth - 1]
    return {
        "class token": in_turn(lambda: vit(images), lambda: peer(images), repeats),
        "last map": in_turn(
            lambda: vit(images, last),
            lambda: peer.forward_intermediates(images, indices=last, norm=True),
            repeats,
        ),
    }


def in_turn(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Return the median seconds of two functions, called in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for function, found in zip((first, second), seconds, strict=True):
            begin = time.perf_counter()
            function()
            found.append(time.perf_counter() - begin)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


def on_gpu(names: list[str], repeats: int, device: str = "cuda") -> Table:
    """Compare our compiled networks with the card's measured matrix rate."""
    rate = matrix_rate(device, repeats)
    card = torch.cuda.get_device_name() if device == "cuda" else device
    title = f"{card}, bfloat16, {rate / 1e12:.0f} TFLOP/s measured for matrices"
    table = Table("size", "px", "batch", "images/s", "TFLOP/s", "of the rate", title=title)
    for name, side in track([(n, s) for n in names for s in SIDES], "measuring", transient=True):
        speed = GPU_BATCH[side] / gpu_seconds(SIZES[name], side, device, repeats)
        done = speed * operations(SIZES[name], side)
        figures = f"{speed:,.0f}", f"{done / 1e12:.0f}", f"{done / rate:.0%}"
        table.add_row(name, str(side), str(GPU_BATCH[side]), *figures)
    return table


@torch.inference_mode()
def gpu_seconds(size: Size, side: int, device: str, repeats: int) -> float:
    """Return our seconds for a batch, from images to class tokens."""
    torch.compiler.reset()
    with torch.device(device):
        vit = VisionTransformer(size, grid=side // PATCH).eval().bfloat16()
        images = torch.randn(GPU_BATCH[side], 3, side, side, dtype=torch.bfloat16)
    for block in vit.blocks:
        block.compile()
    return median_seconds(lambda: vit(images), device, repeats)


def matrix_rate(device: str, repeats: int, side: int = 8192) -> float:
    """Return the operations a second of a product of two large bfloat16 matrices."""
    a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / median_seconds(lambda: a @ b, device, repeats)


def median_seconds(function: Callable[[], object], device: str, repeats: int) -> float:
    """Return the median seconds of a function on a device, after three calls that do not count."""
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    seconds = []
    for _ in range(repeats + 3):
        synchronize()
        begin = time.perf_counter()
        function()
        synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[3:])


def operations(size: Size, side: int) -> float:
    """Return the floating-point operations from one image to its class token.

    A product of matrices counts 2 for each multiplication; the last layer has one query only.
    """
    patches, c = (side // PATCH) ** 2, size.width
    n = patches + 1
    mlp = (3 if size.swiglu else 2) * c * size.hidden
    layer = 2 * n * (4 * c**2 + mlp) + 4 * n**2 * c
    last = 2 * n * 3 * c**2 + 2 * (c**2 + mlp) + 4 * n * c
    return 2 * patches * 3 * PATCH**2 * c + (size.depth - 1) * layer + last


if __name__ == "__main__":
    main()
