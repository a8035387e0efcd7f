"""Mapping from file to file beside the model alone, and beside tiled inference of the peers.

    python benchmarks/mapping_rate.py [--side 6144] [--peers terratorch slide] [--peer-side 6144]
    python benchmarks/mapping_rate.py --memory 5000 10000 20000 40000

The model is `tiny` with the light head, windows of 280 px, overlap one third, float32, random
weights. The scene is a world drawn by code, repeated to the asked size, a deflated GeoTIFF on the
disk. The first form shows rates: the model alone works on ready tensors before and after each
other run, so that a machine that slows down shows; ours reads, stretches, predicts, blends and
writes the finished map. `terratorch` is its `tiled_inference` (delta 8), `slide` the scheme of
mmsegmentation's slide mode (sums of padded logits, windows one by one); both get the whole scene
as a tensor in memory and write nothing. Where a peer needs more than --limit GiB, this is printed.

The second form shows peak memory above that of the loaded model, with a model that answers at once.

    pip install terratorch  # for --peers terratorch
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from rasterio.windows import Window
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cgeartheye.commands.map import TaskPredictor
from cgeartheye.config import Backbone, SegmentationData, SegmentationDecoder, SemanticSegmentation
from cgeartheye.inference.windows import window_offsets
from cgeartheye.mapping.options import Options
from cgeartheye.mapping.run import map_scene
from cgeartheye.models import backbone
from cgeartheye.synthetic import LAND_COVER, make_world
from cgeartheye.tasks.registry import build_task

SIDE, OVERLAP, BATCH, GSD, TILE = 280, 1 / 3, 16, 0.75, 2048
STRIDE = SIDE - round(SIDE * OVERLAP)
ALONE = 20.0  # seconds that the model works alone


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=6144, help="of the scene, in pixels")
    parser.add_argument("--peers", nargs="*", default=[], choices=["terratorch", "slide"])
    parser.add_argument("--peer-side", type=int, help="of the peers' scene [--side]")
    parser.add_argument("--limit", type=float, default=20, help="GiB that a peer may take")
    parser.add_argument("--memory", nargs="+", type=int, help="sides of scenes")
    parser.add_argument("--folder", type=Path, help="for the scenes [a temporary one]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        if given.memory:
            Console().print(memory(given, Path(folder)))
        else:
            Console().print(rates(given, Path(folder)))


def rates(given: argparse.Namespace, folder: Path) -> Table:
    """Measure rates."""
    sides = {"ours": given.side, **dict.fromkeys(given.peers, given.peer_side or given.side)}
    scenes = {side: write_scene(folder / f"{side}.tif", side) for side in set(sides.values())}
    runs: dict[str, Callable[..., None]] = {"ours": ours, "terratorch": terratorch, "slide": slide}
    title = f"tiny, light head, {SIDE} px, {torch.get_num_threads()} threads, km2 at {GSD} m"
    columns = "", "scene", "model alone, windows/s", "windows/s", "of the model alone", "km2/s"
    table = Table(*columns, "peak memory above the model's", title=title)
    before = in_process(alone)["rate"]
    for name, side in sides.items():
        found = in_process(partial(measure, runs[name], scenes[side]), given.limit)
        after = in_process(alone)["rate"]
        model = (before + after) / 2
        before = after
        if "failure" in found:
            table.add_row(name, f"{side:,} px", f"{model:.2f}", found["failure"])
            continue
        count = len(window_offsets(side, SIDE, OVERLAP)) ** 2
        rate = count / found["seconds"]
        km2 = (side * GSD / 1000) ** 2 / found["seconds"]
        figures = f"{model:.2f}", f"{rate:.2f}", f"{rate / model:.1%}", f"{km2:.3f}"
        table.add_row(name, f"{side:,} px", *figures, f"{found['memory']:,.0f} MB")
    return table


def memory(given: argparse.Namespace, folder: Path) -> Table:
    """Measure the memory of ours."""
    table = Table("scene", "peak memory above the model's", "seconds", title="a model of no cost")
    for side in given.memory:
        scene = write_scene(folder / f"{side}.tif", side)
        found = in_process(partial(measure, partial(ours, free=True), scene))
        table.add_row(f"{side:,} px", f"{found['memory']:,.0f} MB", f"{found['seconds']:.0f}")
        scene.unlink()
    return table


def in_process(job: Callable[[], dict[str, Any]], limit: float | None = None) -> dict[str, Any]:
    """Do a job in a new process, whose memory is its own."""
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    process = context.Process(target=_answer, args=(job, limit, answers))
    process.start()
    while process.is_alive() and answers.empty():
        process.join(0.1)
    found = {"failure": "killed"} if answers.empty() else answers.get()
    process.join()
    return dict(found)


def _answer(job: Callable[[], dict[str, Any]], limit: float | None, answers: Any) -> None:
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (round(limit * 2**30), resource.RLIM_INFINITY))
    try:
        answers.put(job())
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        answers.put({"failure": f"needs more than {limit:g} GiB"})


def alone() -> dict[str, float]:
    """Return windows/s of the model on ready tensors: the median over batches."""
    predictor = load_model()
    batch = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    predictor.predict(batch)
    seconds: list[float] = []
    while sum(seconds) < ALONE:
        begin = time.perf_counter()
        predictor.predict(batch)
        seconds.append(time.perf_counter() - begin)
    return {"rate": BATCH / statistics.median(seconds)}


def measure(run: Callable[..., None], scene: Path) -> dict[str, float]:
    """Return seconds, and the peak of memory in MB above that of the loaded, warm model."""
    predictor = load_model()
    predictor.predict(torch.zeros(BATCH, 3, SIDE, SIDE, dtype=torch.uint8))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=scene.parent) as folder:
        run(predictor, scene, Path(folder) / "map")
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "memory": (peak - base) / 1024}


def load_model() -> TaskPredictor:
    """Build the model with random weights."""
    config = SemanticSegmentation(
        backbone=Backbone(name="tiny", weights="random", gsd=GSD),
        data=SegmentationData(root=Path("none"), classes=LAND_COVER, image_size=SIDE),
        decoder=SegmentationDecoder(kind="light"),
    )
    torch.manual_seed(0)
    built = backbone.build(config.backbone, SIDE)
    task = build_task(config, built, LAND_COVER, tta=False)
    return TaskPredictor(task, config, GSD)


def ours(predictor: TaskPredictor, scene: Path, out: Path, free: bool = False) -> None:
    """Map from file to file."""
    if free:
        cheap = torch.full((len(LAND_COVER), SIDE, SIDE), 1 / len(LAND_COVER))
        predictor.predict = lambda images: cheap.expand(len(images), -1, -1, -1)  # type: ignore[method-assign]
    map_scene(predictor, [scene], out, {}, Options(overlap=OVERLAP, batch_size=BATCH))


@torch.inference_mode()
def terratorch(predictor: TaskPredictor, scene: Path, _: Path) -> None:
    """Predict a scene in memory with TerraTorch's tiled inference."""
    from terratorch.tasks.tiled_inference import tiled_inference

    image = read(scene)[None].float()  # as its data loaders give it
    sums = tiled_inference(
        lambda windows: predictor.predict(windows.to(torch.uint8)),
        image,
        crop=SIDE,
        stride=STRIDE,
        delta=8,
        batch_size=BATCH,
    )
    sums.argmax(1)


@torch.inference_mode()
def slide(predictor: TaskPredictor, scene: Path, _: Path) -> None:
    """Predict a scene in memory, window by window, as mmsegmentation does."""
    image = read(scene)[None]
    height, width = image.shape[-2:]
    sums, count = torch.zeros(1, len(LAND_COVER), height, width), torch.zeros(1, 1, height, width)
    for top in window_offsets(height, SIDE, OVERLAP):
        for left in window_offsets(width, SIDE, OVERLAP):
            scores = predictor.predict(image[..., top : top + SIDE, left : left + SIDE])
            around = left, width - left - SIDE, top, height - top - SIDE
            sums += F.pad(scores, around)
            count[..., top : top + SIDE, left : left + SIDE] += 1
    (sums / count).argmax(1)


def read(scene: Path) -> Tensor:
    """Read a whole scene, uint8 `[3, H, W]`."""
    with rasterio.open(scene) as file:
        return torch.from_numpy(file.read())


def write_scene(path: Path, side: int) -> Path:
    """Write a world that repeats itself."""
    picture = np.moveaxis(make_world(TILE, seed=0).image("summer"), -1, 0)
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 3,
        "crs": "EPSG:32650",
        "transform": rasterio.transform.from_origin(500_000, 4_400_000, GSD, GSD),
        "tiled": True,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "if_safer",
    }
    with rasterio.open(path, "w", width=side, height=side, **profile) as file:
        for window in _tiles(side):
            file.write(picture[:, : window.height, : window.width], window=window)
    return path


def _tiles(side: int) -> Iterator[Window]:
    for top in range(0, side, TILE):
        for left in range(0, side, TILE):
            yield Window(left, top, min(TILE, side - left), min(TILE, side - top))


if __name__ == "__main__":
    main()
