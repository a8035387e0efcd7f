"""Land cover and elevation of cells of 1 km: ours, beside exactextract's zonal statistics.

    python benchmarks/jlssd_design.py [--side 300] [--pixel 10] [--workers 2] [--crs 4326]
    python benchmarks/jlssd_design.py --side 60 --peer 2000

The rasters are generated: land cover of patches of many sizes as WorldCover's values and pixels
(deflated tiles of 1,024), elevation of three times the pixel as int16. Shown are cells a minute by
wall time and by processor time (the start of processes counts in the former only), and the peak
memory of the largest process: twice the side shows whether it grows with the area. `--peer` takes
that many cells of the same rasters through exactextract (shares of values and mean, one process,
polygons made beforehand), and compares the results; it counts the part of a pixel that a cell
covers, ours the pixels whose center is in it.

    pip install exactextract  # for --peer
"""

import argparse
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter

from cgeartheye.jlssd.sampling.cells import Counts, Survey, blocks_of, read_block, write_block
from cgeartheye.jlssd.sampling.equal_area_grid import Block, Grid
from cgeartheye.jlssd.sampling.land_cover_classes import WORLDCOVER, read_classes
from cgeartheye.jlssd.sampling.rasters import METERS_PER_DEGREE, find_source, open_raster
from cgeartheye.jlssd.sampling.regions import read_regions
from cgeartheye.jlssd.workers import spread

GRID, TABLE = Grid(1000), read_classes(WORLDCOVER)
WEST, NORTH = 10.0, 50.0
TILE = 2048


def main() -> None:
    """Print figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=300, help="of the area, in km")
    parser.add_argument("--pixel", type=float, default=10.0, help="of the land cover, in metres")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--crs", type=int, default=4326, choices=[4326, 32633])
    parser.add_argument("--peer", type=int, default=0, help="cells for exactextract")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, so that its memory is not counted.
        writer = get_context("spawn").Process(target=write_inputs, args=(Path(folder), options))
        writer.start()
        writer.join()
        survey = open_inputs(Path(folder))
        measure(survey, Path(folder) / "cells", options)
        if options.peer:
            compare(survey, Path(folder), options.peer)


def write_inputs(folder: Path, options: argparse.Namespace) -> None:
    """Write rasters and one region that covers them."""
    pixels = max(1, round(options.side * 1000 / options.pixel / TILE)) * TILE
    step = options.pixel
    place = Affine(step, 0, 400_000, 0, -step, 5_600_000)
    if options.crs == 4326:
        step /= METERS_PER_DEGREE
        # As WorldCover's, pixels are as many degrees wide as high.
        place = Affine(step, 0, WEST, 0, -step, NORTH)
    profile = {"crs": options.crs, "tiled": True, "compress": "deflate", "driver": "GTiff"}
    write(folder / "cover.tif", pixels, place, draw_cover, np.uint8, profile | {"nodata": 0})
    coarse = place @ Affine.scale(3)
    write(folder / "height.tif", pixels // 3, coarse, draw_height, np.int16, profile)
    corners = [place @ (x * pixels, y * pixels) for x, y in ((0, 1), (1, 0))]
    box = shapely.box(*corners[0], *corners[1]).segmentize(abs(step) * 1000)
    frame = geopandas.GeoDataFrame({"name": ["all"]}, geometry=[box], crs=options.crs)
    frame.to_file(folder / "regions.gpkg")


def open_inputs(folder: Path) -> Survey:
    """Look at what was written."""
    return Survey(
        GRID,
        read_regions(folder / "regions.gpkg"),
        open_raster(find_source([str(folder / "cover.tif")])),
        TABLE,
        open_raster(find_source([str(folder / "height.tif")])),
    )


def write(path, side, place, draw, dtype, profile):  # type: ignore[no-untyped-def]
    """Write a raster of squares that repeat every eight, which differ enough for that."""
    squares = [draw(np.random.default_rng(seed)).astype(dtype) for seed in range(8)]
    with rasterio.open(
        path,
        "w",
        width=side,
        height=side,
        count=1,
        dtype=dtype,
        transform=place,
        blockxsize=1024,
        blockysize=1024,
        **profile,
    ) as file:
        for row in range(0, side, TILE):
            for column in range(0, side, TILE):
                height, width = min(TILE, side - row), min(TILE, side - column)
                square = squares[(row // TILE * 3 + column // TILE) % 8][:height, :width]
                file.write(square, 1, window=Window(column, row, width, height))


def draw_cover(random: np.random.Generator) -> np.ndarray:
    """Patches from some pixels to some hundred, with single pixels strewn in."""
    coarse = gaussian_filter(random.normal(size=(TILE // 4, TILE // 4)), 12)
    fine = gaussian_filter(random.normal(size=(TILE, TILE)), 2)
    field = np.kron(coarse / coarse.std(), np.ones((4, 4))) + 0.6 * fine / fine.std()
    levels = np.quantile(field[::8, ::8], [0.1, 0.3, 0.4, 0.65, 0.75, 0.9])
    return np.array([80, 40, 30, 10, 20, 60, 50])[np.searchsorted(levels, field)]


def draw_height(random: np.random.Generator) -> np.ndarray:
    """Hills with a metre of noise, as in measured ones."""
    hills = gaussian_filter(random.normal(size=(TILE // 8, TILE // 8)), 10)
    smooth = np.kron(hills / hills.std(), np.ones((8, 8)))
    return 700 + 250 * smooth + random.normal(0, 1, (TILE, TILE))


def measure(survey: Survey, folder: Path, options: argparse.Namespace) -> None:
    """Make all cells, each process noting what it has used."""
    blocks = blocks_of(GRID, survey.regions)
    paths = [folder / f"{number:06}.parquet" for number in range(len(blocks))]
    start = time.monotonic()
    for _ in spread(write_and_note, survey, zip(blocks, paths, strict=True), options.workers):
        pass
    seconds = time.monotonic() - start
    notes = np.loadtxt(notes_of(folder), ndmin=2)
    used, peak = notes[:, 0].sum(), notes[:, 1].max()
    tally = Counts()
    for path in paths:
        tally.add(read_block(path)[1])
    cells = tally.cells.total()
    with rasterio.open(survey.cover.source.path) as file:
        pixels = file.width * file.height
    print(
        f"{cells:,} cells, {pixels / 1e6:,.0f} M pixels of land cover, {len(paths)} blocks, "
        f"{options.workers} processes, EPSG:{options.crs}"
    )
    print(f"wall time: {seconds:.1f} s, {60 * cells / seconds:,.0f} cells/min")
    print(
        f"processor time without the start of the processes: {used:.1f} s, "
        f"{60 * cells / used:,.0f} cells/min and {pixels / used / 1e6:,.0f} M pixels/s a core"
    )
    print(f"peak memory of a process: {peak:,.0f} MB")


def write_and_note(survey: Survey, task: tuple[Block, Path]) -> None:
    """Write a block, and note the seconds of processor time for it and the peak memory so far."""
    start = time.process_time()
    write_block(survey, task)
    with notes_of(task[1].parent).open("a") as file:
        file.write(f"{time.process_time() - start} {peak_memory()}\n")


def notes_of(folder: Path) -> Path:
    """Return the folder of the processes' notes on their use of resources for a folder's blocks."""
    return folder.with_suffix(".txt")


def peak_memory() -> float:
    """MB that this process has held at most."""
    # That of getrusage begins with what the parent held.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def compare(survey: Survey, folder: Path, count: int) -> None:
    """Take cells through exactextract and compare."""
    from exactextract import exact_extract

    found = pq.read_table(folder / "cells").to_pandas()
    # Next to each other, so that the other side reads no more than it must.
    own = found[found["cover"] >= 0].sort_values("cell").head(count).reset_index(drop=True)
    boxes = shapely.box(*survey.grid.bounds(own["cell"].to_numpy()))
    frame = geopandas.GeoDataFrame(geometry=boxes, crs=4326)
    paths = survey.cover.source.path, survey.height.source.path
    start = time.monotonic()
    values = exact_extract(paths[0], frame, ["unique", "frac"], output="pandas")
    height = exact_extract(paths[1], frame, ["mean"], output="pandas")["mean"]
    seconds = time.monotonic() - start
    # Its majority would be of values, but shrubs and bare ground are one class.
    shares = np.zeros((len(own), len(TABLE.names)))
    for row, (unique, parts) in enumerate(zip(values["unique"], values["frac"], strict=True)):
        np.add.at(shares[row], [TABLE.class_of[int(value)] for value in unique], parts)
    same = (shares.argmax(1) == own["cover"]).mean()
    apart = (height - own["elevation"]).abs()
    print(
        f"exactextract: {len(own):,} cells in {seconds:.1f} s, {60 * len(own) / seconds:,.0f}/min"
    )
    print(
        f"same class {100 * same:.2f} %; "
        f"elevation {apart.mean():.3f} m apart, {apart.max():.3f} m at most"
    )


if __name__ == "__main__":
    main()
