"""Tiles a second of this server and of titiler, on the same COG, in turns.

    python benchmarks/serve_tiles.py COG OUT [--clients 8] [--tiles 200] [--rounds 3]

Both serve from one process at loopback; 8 clients ask for the same random tiles of 256 px at the
zoom of the pixels and up to 3 above. titiler is not a dependency: pip install titiler.core uvicorn.
Prints tiles a second and the 95th percentile of the latency, medians of the rounds, and what an
answer from the client's cache (If-None-Match) takes here.
"""

import argparse
import http.client
import json
import math
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import rasterio
from rasterio.warp import transform_bounds
from rich.console import Console
from rich.table import Table

TITILER = (
    "import uvicorn; from fastapi import FastAPI; from titiler.core.factory import TilerFactory; "
    "app = FastAPI(); app.include_router(TilerFactory().router); "
    "uvicorn.run(app, port={port}, log_level='warning')"
)


def main() -> None:
    """Start both, ask in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cog", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    cog, out = given.cog.resolve(), given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    base = 20_000 + random.randrange(5000)
    serve = [sys.executable, "-m", "cgeartheye", "serve", "--registry", str(out / "apps")]
    serve += ["--folder", str(out / "data"), "--scenes", str(cog.parent), "--port", str(base)]
    processes = [
        subprocess.Popen([*serve, "--workers", "0", "--max-requests", "1000000"]),
        subprocess.Popen([sys.executable, "-c", TITILER.format(port=base + 1)]),
    ]
    try:
        wait(base, "/health")
        wait(base + 1, "/openapi.json")
        scene = next(
            one["id"]
            for one in json.loads(get(base, "/scenes")[1])["scenes"]
            if one["label"] == cog.name
        )
        places = chosen(cog, given.tiles)
        url = quote(str(cog))
        paths = {
            "cgeartheye": (base, [f"/scenes/{scene}/tiles/{z}/{x}/{y}" for z, x, y in places]),
            "titiler": (
                base + 1,
                [f"/tiles/WebMercatorQuad/{z}/{x}/{y}?url={url}" for z, x, y in places],
            ),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
        for turn in range(given.rounds + 1):
            for name, (port, asked) in paths.items():
                figures = measure(port, asked, given.clients)
                if turn:  # the first fills what each keeps open
                    found[name].append(figures)
        port, asked = paths["cgeartheye"]
        tag = get(port, asked[0])[2]
        started = time.perf_counter()
        for _ in range(100):
            assert get(port, asked[0], {"If-None-Match": tag})[0] == 304
        cached = (time.perf_counter() - started) * 10
    finally:
        for process in processes:
            process.terminate()
    table = Table(title=f"{cog.name}, {given.clients} clients, {len(places)} tiles")
    for column in ("", "tiles/s", "95th percentile, ms"):
        table.add_column(column)
    rates: dict[str, float] = {}
    for name, figures in found.items():
        rates[name] = statistics.median(rate for rate, _ in figures)
        late = statistics.median(late for _, late in figures)
        table.add_row(name, f"{rates[name]:.1f}", f"{1000 * late:.0f}")
    table.add_row("ratio", f"{rates['cgeartheye'] / rates['titiler']:.2f}", "")
    table.add_row("unchanged (304), ms", f"{cached:.2f}", "")
    Console().print(table)


def chosen(cog: Path, count: int) -> list[tuple[int, int, int]]:
    """Return random tiles that the raster touches."""
    with rasterio.open(cog) as file:
        west, south, east, north = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
        metres = transform_bounds(file.crs, "EPSG:3857", *file.bounds)
    zoom = round(math.log2(156_543.03 / ((metres[2] - metres[0]) / file.width)))
    random.seed(0)
    places = []
    for _ in range(count):
        z = zoom - random.randrange(4)
        lon, lat = random.uniform(west, east), random.uniform(south, north)
        y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**z
        places.append((z, int((lon + 180) / 360 * 2**z), int(y)))
    return places


def measure(port: int, paths: list[str], clients: int) -> tuple[float, float]:
    """Return tiles a second and the 95th percentile of the seconds of one."""
    seconds: list[float] = []
    left = iter(paths)
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                path = next(left, None)
            if path is None:
                return
            started = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            seconds.append(time.perf_counter() - started)
            assert answer.status in (200, 204), (answer.status, path)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(paths) / (time.perf_counter() - started), statistics.quantiles(seconds, n=20)[-1]


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, str]:
    """Return status, body and ETag."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers or {})
    answer: Any = connection.getresponse()
    return answer.status, answer.read(), answer.headers.get("ETag") or ""


def wait(port: int, path: str) -> None:
    """Wait until a server answers."""
    for _ in range(600):
        try:
            get(port, path)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing answers at port {port}: pip install titiler.core uvicorn")


if __name__ == "__main__":
    main()
