"""An embedding of a scene beside a map of it by the light head: time, and bytes on the disk.

    python benchmarks/embed_rate.py [--side 3000] [--turns 3]

Both read the same GeoTIFF, see windows of the same model (tiny, 280 px, 0.75 m, float32) with the
overlap that each has by default, and write their finished files; they take turns in one process,
after a look at the model. An embedding keeps 64 principal components in int8.
"""

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from mapping_rate import BATCH, GSD, SIDE, load_model, write_scene
from rich.console import Console
from rich.table import Table

from cgeartheye.commands.embed import OVERLAP, SceneEncoder
from cgeartheye.config import Backbone
from cgeartheye.mapping.options import Options
from cgeartheye.mapping.run import map_scene
from cgeartheye.models import backbone
from cgeartheye.utils.console import muted


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=3000, help="of the scene, in pixels")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    predictor = load_model()
    torch.manual_seed(0)
    built = backbone.build(Backbone(name="tiny", weights="random", gsd=GSD), SIDE)
    encoder = SceneEncoder(built, torch.device("cpu"), "patch", SIDE, 64, "int8")
    seconds: dict[str, list[float]] = {"map, light head": [], "embed": []}
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, muted(True):
        folder = Path(name)
        scene = write_scene(folder / "scene.tif", given.side)
        for turn in range(given.turns):
            for what in seconds:
                out = folder / f"{what[:3]}{turn}"
                begin = time.perf_counter()
                if what == "embed":
                    options = Options(overlap=OVERLAP, batch_size=BATCH)
                    facts = {"backbone": built.fingerprint}
                    map_scene(encoder, [scene], out, facts, options)
                else:
                    map_scene(predictor, [scene], out, {}, Options(batch_size=BATCH))
                seconds[what].append(time.perf_counter() - begin)
                own = out / ("features.zarr" if what == "embed" else "map.tif")
                parts = [own] if own.is_file() else [p for p in own.rglob("*") if p.is_file()]
                sizes[what] = sum(p.stat().st_size for p in parts) / given.side**2
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    title = (
        f"{given.side:,} px, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    table = Table("", "seconds, median", "time of the map's", "bytes a pixel", title=title)
    for what, spent in seconds.items():
        ratio = f"{statistics.median(ratios):.3f}" if what == "embed" else ""
        table.add_row(what, f"{statistics.median(spent):.1f}", ratio, f"{sizes[what]:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
