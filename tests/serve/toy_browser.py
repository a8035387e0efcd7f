"""The page in a real browser, with the server and its worker as processes of their own."""

import base64
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Without a sandbox as containers run as root; the page is ours.
SOFTWARE_GL = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PATIENCE = 180_000  # milliseconds; a busy machine takes its time


def start_server(*options: str | Path) -> tuple[subprocess.Popen[str], str]:
    """Start the command; return it and the address that it prints."""
    command = [sys.executable, "-m", "cgeartheye", "serve", *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"http://[\d.:]+/", line):
            # A pipe that nobody reads is full some day, and the server waits for its log.
            Thread(target=process.stdout.read, daemon=True).start()
            return process, found[0]
    pytest.fail(f"the server has ended: {said}")


@contextmanager
def served(*options: str | Path) -> Iterator[str]:
    """Serve at any free port, and yield the address."""
    process, address = start_server("--port", "0", *options)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(20)


def opened(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("body[data-ready]")


def settled(page: Any) -> None:
    """Wait until all tiles are drawn."""
    page.evaluate(
        "() => new Promise((done) => { const { map } = window.cgeartheye;"
        "map.once('idle', done); map.triggerRepaint(); })"
    )


def drop(page: Any, path: Path, name: str) -> None:
    data = page.evaluate_handle(
        """([text, name]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name));
            return data;
        }""",
        [base64.b64encode(path.read_bytes()).decode(), name],
    )
    page.dispatch_event("body", "drop", {"dataTransfer": data})


def places_of(page: Any, path: Path) -> Callable[[float, float], tuple[float, float]]:
    """Return where on the page a share of a scene's width and height is drawn."""
    box = page.locator("#map").bounding_box()

    def place(across: float, down: float) -> tuple[float, float]:
        with rasterio.open(path) as file:
            x, y = file.transform @ (across * file.width, down * file.height)
            (longitude,), (latitude,) = transform(file.crs, "EPSG:4326", [x], [y])
        point = page.evaluate(
            "(place) => { const { x, y } = window.cgeartheye.map.project(place); return [x, y]; }",
            [longitude, latitude],
        )
        return box["x"] + point[0], box["y"] + point[1]

    return place


def color_at(page: Any, place: tuple[float, float]) -> tuple[int, ...]:
    settled(page)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    pixel: Any = picture.getpixel((round(place[0]), round(place[1])))
    return tuple(pixel)
