"""Mapping from file to file by each engine: torch, plain and compiled (`backbone.compile=true`, its
compilation included), ONNX Runtime and OpenVINO, in each precision.

    python benchmarks/map_engines.py [--size tiny] [--window 280] [--side 1120] [--rounds 3]

The model is a backbone with the light head, with the weights of `tiny`, or random ones; the scene
is drawn by code. Every engine maps it once a round, the rounds one after the other, so that a
machine that slows down shows in all. Of each the median of km2/s end to end, of the processor's
seconds a km2 (what a busy machine does not change as much), the share of the time that is
inference, and the share of the pixels that get the class that torch in float32 gives them. The
last row maps with an overlap of a third, in torch and float32. No round is begun after --limit
minutes.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from export_accuracy import one_graph
from PIL import Image
from rasterio.transform import from_origin
from rich.console import Console
from rich.table import Table

from cgeartheye.commands import tasks
from cgeartheye.commands.export import export
from cgeartheye.commands.map import map_scenes
from cgeartheye.config.loader import load
from cgeartheye.mapping.options import Options
from cgeartheye.synthetic import LAND_COVER, make_world
from cgeartheye.utils.console import bar, log_info, muted
from cgeartheye.utils.errors import UserError

COMPILED = ("torch, compiled", "fp32")
WAYS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    COMPILED,
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
THIRD = ("torch, overlap 1/3", "fp32")
GSD = 0.75


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--window", type=int, default=280)
    parser.add_argument("--side", type=int, default=1120, help="of the scene, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=10, help="minutes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    began = time.perf_counter()
    exported = [way for way in WAYS if not way[0].startswith("torch")]
    steps = 1 + len(exported) + asked.rounds * (len(WAYS) + 1)
    with (
        tempfile.TemporaryDirectory() as name,
        bar("measuring", steps, "models and maps") as progress,
        one_graph(),
    ):
        folder = Path(name)
        scene = draw(folder, asked.side)
        with muted():
            run = train(folder, asked.size, asked.window)
        progress.advance()
        ways = list(WAYS)
        for engine, precision in exported:
            images = [folder / "data/train/Img"] if precision == "int8" else None
            try:
                with muted():
                    export(run, engine, precision, images)
            except UserError as error:  # int8 that costs too much, or that this processor has not
                log_info(f"{engine} in {precision} is left out: {error}")
                ways.remove((engine, precision))
            progress.advance()
        taken: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        same: dict[tuple[str, str], float] = {}
        maps: dict[tuple[str, str], np.ndarray] = {}
        km2 = (asked.side * GSD / 1000) ** 2
        for number in range(asked.rounds):
            if number and time.perf_counter() - began > 60 * asked.limit:
                break
            for way in (*ways, THIRD):
                out = folder / f"{number}-{way[0]}-{way[1]}".replace("/", "-")
                options = {"overlap": 1 / 3 if way == THIRD else Options().overlap}
                started, busy = time.perf_counter(), time.process_time()
                engine, precision = way[0].split(",")[0], way[1]
                extra = ["backbone.compile=true"] if way == COMPILED else []
                with muted():
                    map_scenes(
                        run, [scene], out, options, extra, engine=engine, precision=precision
                    )
                wall, spent = time.perf_counter() - started, time.process_time() - busy
                shares = json.loads((out / "map.json").read_text())["time"]["shares"]
                taken.setdefault(way, []).append((km2 / wall, spent / km2, shares["inference"]))
                with rasterio.open(out / "map.tif") as file:
                    maps[way] = file.read(1)
                same[way] = float((maps[way] == maps[WAYS[0]]).mean())
                progress.advance()
    table = Table("engine", "precision", "km2/s", "CPU s/km2", "inference", "same pixels")
    for way, rows in taken.items():
        rate, spent, share = (statistics.median(column) for column in zip(*rows, strict=True))
        row = f"{rate:.4f}", f"{spent:.0f}", f"{share:.0%}", f"{same[way]:.2%}"
        table.add_row(*way, *row)
    Console(width=100).print(table)


def draw(folder: Path, side: int) -> Path:
    """Draw chips to train on in `data`, and a scene; return the scene."""
    for part, seed in (("train", 1), ("val", 2)):
        world = make_world(1200, seed=seed)
        image, mask = world.image("summer"), world.land_cover()
        for kind, pixels in (("Img", image), ("Label", mask)):
            (folder / "data" / part / kind).mkdir(parents=True)
            for n in range(9):
                top, left = 400 * (n // 3), 400 * (n % 3)
                piece = np.ascontiguousarray(pixels[top : top + 400, left : left + 400])
                Image.fromarray(piece).save(folder / "data" / part / kind / f"{n}.png")
    picture = np.moveaxis(make_world(max(side, 768), seed=0).image("summer"), -1, 0)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "crs": "EPSG:32650", "tiled": True}
    place = from_origin(500_000, 4_400_000, GSD, GSD)
    path = folder / "scene.tif"
    with rasterio.open(path, "w", width=side, height=side, transform=place, **profile) as file:
        file.write(picture[:, :side, :side])
    return path


def train(folder: Path, size: str, window: int) -> Path:
    """Train the light head for an epoch; return the run directory."""
    weights = "" if size == "tiny" else ", weights: random"
    path = folder / "run.yaml"
    path.write_text(
        f"""task: semantic_segmentation
backbone: {{name: {size}{weights}}}
data: {{root: {folder / "data"}, classes: [{", ".join(LAND_COVER)}], image_size: {window},
  gsd: {GSD}, workers: 0, batch_size: 4}}
decoder: {{kind: light}}
training: {{epochs: 2, lr: 1e-3, device: cpu}}
cache: {{views: 2}}
work_dir: {folder / "run"}
"""
    )
    tasks.train(load(path))
    return folder / "run"


if __name__ == "__main__":
    main()
