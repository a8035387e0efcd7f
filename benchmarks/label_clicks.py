"""Time that a click costs, and worth of clicks.

    python benchmarks/label_clicks.py [--side 4000] [--turns 9]
    python benchmarks/label_clicks.py --data DIR [--sets EPFL-roads GSI-solar] [--full]

The first form: after one more label, logistic regression is fitted again and the whole view of
`side` pixels is drawn again, from an embedding of synthetic vectors (64 components, int8) with
three classes.

The second form lays images of the training part and of the test part side by side as one scene,
enlarged twice, as the light head's benchmark enlarges them, and embeds it by `tiny`. Clicks go to
the training images alone; a click gives the class of the pixel in the middle of a patch. The tool
chooses each next one by `label suggest`; random ones are drawn from all patches (mean of 5 draws).
mIoU is that of the test images, drawn at their pixels. `all patches`: every patch of the training
images is labelled, the most that this decoder can learn. `--full` trains the light head on the
whole training part by `default_backbone.py` and tests it on the whole test part (minutes).
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from PIL import Image
from rich.console import Console
from rich.table import Table

from cgeartheye.commands.embed import embed_scenes
from cgeartheye.embeddings.calibration import calibrated
from cgeartheye.embeddings.decoder import Decoder, fit_decoder
from cgeartheye.embeddings.labels import LabelledPatches
from cgeartheye.embeddings.redraw import draw_classes
from cgeartheye.embeddings.store import Embedding, Projection, open_embedding
from cgeartheye.embeddings.suggest import suggest
from cgeartheye.utils.console import muted

SHOWN = (5, 10, 20)
DRAWS = 5
ZOOM, GSD = 2.0, 0.6  # of the light head's benchmark, and of the weights


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=4000, help="of the view, in pixels")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--data", type=Path, help="holds the sets, {train,test}/{Img,Label}")
    parser.add_argument("--sets", nargs="+", default=["EPFL-roads", "GSI-solar"])
    parser.add_argument("--images", type=int, default=12, help="of each part")
    parser.add_argument("--full", action="store_true", help="train the light head too")
    given = parser.parse_args()
    Console().print(clicks(given) if given.data else refit(given))


def refit(given: argparse.Namespace) -> Table:
    """Measure fit and drawing."""
    random = np.random.default_rng(0)
    count = -(-given.side // 14)
    shape = count, count
    vectors = random.integers(-127, 128, (*shape, 64)).astype(np.int8)
    scale = np.linspace(1, 0.1, 64).astype(np.float32)
    projection = Projection(np.zeros(64, np.float32), np.eye(64, dtype=np.float32), scale)
    pixels, patches = Affine.identity(), Affine.scale(14)
    size = given.side, given.side
    valid = np.ones(shape, bool)
    name = Path("view")
    embedding = Embedding(name, vectors, valid, projection, patches, None, size, pixels, "", "", 0)
    seconds: dict[str, list[float]] = {"fit": [], "decode": [], "draw": [], "all": []}
    for turn in range(given.turns + 1):
        labelled = _patches(random, shape, 30 + turn)
        begin = time.perf_counter()
        decoder = fit_decoder(labelled, embedding)
        fitted = time.perf_counter()
        probabilities = decoder.decode(embedding)
        decoded = time.perf_counter()
        draw_classes(probabilities, valid, (14, 14), (0, given.side), (0, given.side))
        end = time.perf_counter()
        spent = fitted - begin, decoded - fitted, end - decoded, end - begin
        if turn:  # the first warms up
            for what, one in zip(seconds, spent, strict=True):
                seconds[what].append(one)
    title = (
        f"{given.side:,} px, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    )
    table = Table("", "ms, median", "ms, best", title=title)
    for what, own in seconds.items():
        table.add_row(what, f"{1000 * statistics.median(own):.0f}", f"{1000 * min(own):.0f}")
    return table


def _patches(random: np.random.Generator, shape: tuple[int, int], count: int) -> LabelledPatches:
    rows, columns = (random.integers(0, side, count) for side in shape)
    names, covered = ("field", "house", "water"), np.zeros(shape, bool)
    return LabelledPatches(rows, columns, np.arange(count) % 3, np.arange(count), names, covered)


def clicks(given: argparse.Namespace) -> Table:
    """Measure what clicks are worth."""
    columns = "data", "clicks", *(str(count) for count in SHOWN), "all patches", "light head"
    table = Table(*columns, title=f"mIoU %, tiny, {given.images} images of each part at most")
    for name in given.sets:
        with tempfile.TemporaryDirectory() as folder, muted(True):
            scene, truth, part = join(given.data / name, given.images, Path(folder))
            options = {"input_gsd": ZOOM * GSD}
            (made,) = embed_scenes([scene], Path(folder) / "e", "tiny", "patch", options)
            embedding = open_embedding(made)
            full = light_head(name, given, Path(folder)) if given.full else None
        every = _every_patch(embedding, truth, part)
        most = measure(fit_decoder(every, embedding), embedding, truth, part)
        tool = run_tool(embedding, truth, part)
        draws = [run_random(embedding, truth, part, seed) for seed in range(DRAWS)]
        drawn = [float(np.mean([draw[n] for draw in draws])) for n in range(len(SHOWN))]
        limits = f"{most:.1f}", "" if full is None else f"{full:.1f}"
        table.add_row(name, "chosen", *(f"{figure:.1f}" for figure in tool), *limits)
        table.add_row(name, "random", *(f"{figure:.1f}" for figure in drawn))
    return table


def join(root: Path, count: int, folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Write images side by side; return the scene, its classes, and 1 (training) or 2 (test)."""
    chosen = [
        (1 + number, path)
        for number, part in enumerate(("train", "test"))
        for path in sorted((root / part / "Img").iterdir())[:count]
    ]
    side = max(Image.open(path).size[0] for _, path in chosen)
    wide = int(np.ceil(np.sqrt(len(chosen))))
    shape = -(-len(chosen) // wide) * side, wide * side
    pixels, truth = np.zeros((3, *shape), np.uint8), np.zeros(shape, np.uint8)
    part = np.zeros(shape, np.uint8)
    for number, (kind, path) in enumerate(chosen):
        top, left = (side * n for n in divmod(number, wide))
        image = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)
        mask = next((path.parents[1] / "Label").glob(f"{path.stem}.*"))
        at = slice(top, top + image.shape[1]), slice(left, left + image.shape[2])
        pixels[:, *at] = image
        truth[at], part[at] = np.asarray(Image.open(mask)) > 0, kind
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": shape[0]}
    with rasterio.open(folder / "scene.tif", "w", width=shape[1], **profile) as file:
        file.write(pixels)
    return folder / "scene.tif", truth, part


def _middles(embedding: Embedding, values: np.ndarray) -> np.ndarray:
    """Return the values of the pixels in the middles of patches."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * size).astype(int), side - 1)
        for n, size, side in zip(embedding.shape, embedding.cell, values.shape, strict=True)
    )
    return values[rows][:, columns]


def _labelled(embedding: Embedding, truth: np.ndarray, places: list) -> LabelledPatches:
    rows, columns = (np.array([place[n] for place in places]) for n in (0, 1))
    classes = _middles(embedding, truth)[rows, columns].astype(np.int64)
    names, covered = ("other", "target"), np.zeros(embedding.shape, bool)
    covered[rows, columns] = True
    return LabelledPatches(rows, columns, classes, np.arange(len(rows)), names, covered)


def _every_patch(embedding: Embedding, truth: np.ndarray, part: np.ndarray) -> LabelledPatches:
    return _labelled(embedding, truth, np.argwhere(_middles(embedding, part) == 1).tolist())


def run_tool(embedding: Embedding, truth: np.ndarray, part: np.ndarray) -> list[float]:
    """Click where the tool suggests; return mIoU after `SHOWN` clicks."""
    seen = replace(embedding, valid=_middles(embedding, part) == 1)
    places: list[tuple[int, int]] = []
    figures = []
    for number in range(1, max(SHOWN) + 1):
        labelled = _labelled(embedding, truth, places) if places else None
        both = labelled is not None and len(set(labelled.classes.tolist())) == 2
        if labelled is not None and both:
            decoder = calibrated(fit_decoder(labelled, embedding), labelled, embedding)
            rows, columns = suggest(seen, decoder, labelled, 1)
        else:  # walk through what is spread over the features
            rows, columns = (each[number - 1 :] for each in suggest(seen, None, None, number))
        places.append((int(rows[0]), int(columns[0])))
        if number in SHOWN:
            figures.append(_score(embedding, truth, part, places))
    return figures


def run_random(embedding: Embedding, truth: np.ndarray, part: np.ndarray, seed: int) -> list[float]:
    """Click anywhere; return mIoU after `SHOWN` clicks."""
    inside = np.argwhere(_middles(embedding, part) == 1)
    places = np.random.default_rng(seed).permutation(inside)[: max(SHOWN)].tolist()
    return [_score(embedding, truth, part, places[:count]) for count in SHOWN]


def _score(embedding: Embedding, truth: np.ndarray, part: np.ndarray, places: list) -> float:
    labelled = _labelled(embedding, truth, places)
    if len(set(labelled.classes.tolist())) < 2:  # all is taken for the one class
        weights = np.zeros((embedding.vectors.shape[-1], 2), np.float32)
        bias = np.eye(2, dtype=np.float32)[labelled.classes[0]]
        return measure(Decoder(weights, bias, labelled.names), embedding, truth, part)
    return measure(fit_decoder(labelled, embedding), embedding, truth, part)


def measure(decoder: Decoder, embedding: Embedding, truth: np.ndarray, part: np.ndarray) -> float:
    """Return the mIoU of the test images, percent."""
    rows, columns = truth.shape
    probabilities = decoder.decode(embedding)
    drawn = draw_classes(probabilities, embedding.valid, embedding.cell, (0, rows), (0, columns))
    found, right = drawn[part == 2], truth[part == 2]
    return 100 * float(
        np.mean(
            [
                ((found == k) & (right == k)).sum() / max(1, ((found == k) | (right == k)).sum())
                for k in (0, 1)
            ]
        )
    )


def light_head(name: str, given: argparse.Namespace, folder: Path) -> float:
    """Return the mIoU of the light head after a whole training, percent."""
    from default_backbone import backbone_of, dense

    asked = argparse.Namespace(data=given.data, precision="fp32", part="test")
    return dense(name, backbone_of("tiny"), 0, asked, folder)["mIoU"]


if __name__ == "__main__":
    main()
