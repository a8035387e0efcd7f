"""A map of a mosaic of many small files in a bucket, into the bucket, against the same of a folder.

    python benchmarks/s3_mosaic.py [--files 2000] [--side 32] [--window 280]

A server of S3 on the loopback (moto, one process of Python) holds small files with pieces of a
drawn scene, side by side. A light head on `tiny` maps them as one mosaic, in a process of its own:
from a folder into another, and from the bucket into the bucket. Of each the wall time, and the
processor's time and the peak memory of that process; both maps must have the same bytes.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import rasterio
from affine import Affine
from map_engines import draw, train
from obstore.store import S3Store
from rasterio.windows import Window
from rich.console import Console
from rich.table import Table
from s3_server import make_bucket, s3_server, variables

from cgeartheye.utils.console import bar, muted

DRAWN = 768  # pixels a side of the scene


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--side", type=int, default=32, help="of a file, in pixels")
    parser.add_argument("--window", type=int, default=280)
    asked = parser.parse_args()
    title = f"{asked.files:,} files of {asked.side} x {asked.side} px"
    table = Table("map of", "seconds", "processor", "memory", title=title)
    with tempfile.TemporaryDirectory() as name, s3_server() as address:
        folder, bucket = Path(name), make_bucket(address)
        environment = variables(address) | {
            "XDG_CACHE_HOME": str(folder / "cache"),
            "MPLCONFIGDIR": matplotlib.get_cachedir(),  # or the first would look for fonts
        }
        store = S3Store(
            bucket,
            endpoint=address,
            access_key_id=environment["AWS_ACCESS_KEY_ID"],
            secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
        )
        with muted():
            scene = draw(folder, DRAWN)
            run = train(folder, "tiny", asked.window)
        upload(cut(scene, folder / "pieces", asked.side, asked.files), store)
        ways = {
            "a folder": (str(folder / "pieces"), str(folder / "map")),
            "s3://": (f"s3://{bucket}/pieces/", f"s3://{bucket}/map"),
        }
        for way, (source, out) in ways.items():
            wall, busy, memory = measure([run, source, "--out", out], environment)
            table.add_row(way, f"{wall:.1f}", f"{busy:.1f}", f"{memory / 2**20:.0f} MB")
        assert bytes(store.get("map/map.tif").bytes()) == (folder / "map/map.tif").read_bytes()
    Console().print(table)


def cut(scene: Path, folder: Path, side: int, count: int) -> list[Path]:
    """Cut a scene into files of a few pixels a side, again and again until there are enough."""
    folder.mkdir()
    paths = []
    across, there = math.ceil(math.sqrt(count)), DRAWN // side
    with rasterio.open(scene) as file:
        for number in range(count):
            row, column = divmod(number, across)
            window = Window(side * (column % there), side * (row % there), side, side)
            place = file.transform @ Affine.translation(float(side * column), float(side * row))
            profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "crs": file.crs}
            path = folder / f"{number:06d}.tif"
            with rasterio.open(
                path, "w", width=side, height=side, transform=place, compress="deflate", **profile
            ) as piece:
                piece.write(file.read(window=window))
            paths.append(path)
    return paths


def upload(paths: list[Path], store: S3Store) -> None:
    """Put files into a bucket."""
    with bar("uploading", len(paths), "files") as progress:
        for path in paths:
            store.put(f"pieces/{path.name}", path)
            progress.advance()


def measure(words: list[str | Path], environment: dict[str, str]) -> tuple[float, float, int]:
    """Map in a process of its own; return seconds, seconds of the processor and bytes."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "cgeartheye", "map", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    wall = time.perf_counter() - started
    return wall, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss


if __name__ == "__main__":
    main()
