from pathlib import Path

import numpy as np
import rasterio
from tests import processes
from toy_map import NORTH_UP, UTM

CODE = """
import sys, resource
from pathlib import Path
sys.path.insert(0, {folder!r})
import torch
from toy_map import Toy, run_toy
torch.set_num_threads(1)
class Quick(Toy):
    def predict(self, images):
        found = torch.empty(len(images), 3, 126, 126)
        found[:] = torch.tensor([0.2, 0.3, 0.5])[:, None, None]
        return found
run_toy(Path(sys.argv[1]), Path(sys.argv[2]), Quick(window=126), batch_size=8)
Path(sys.argv[3]).write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))
"""

OBJECTS = """
import sys, resource
from pathlib import Path
sys.path.insert(0, {folder!r})
import torch
from toy_detector import ToyDetector
from toy_map import run_toy
from cgeartheye.boxes import Detections
from cgeartheye.mapping.outputs import objects as object_outputs
torch.set_num_threads(1)
object_outputs._CHUNK, object_outputs.SHOWN = 2000, 1000
places = torch.cartesian_prod(torch.arange(4, 126, 10), torch.arange(4, 126, 10))
boxes = torch.cat([places, torch.tensor([6.0, 3.0, 0.5]).expand(len(places), 3)], 1)
found = Detections(boxes, torch.full((len(boxes),), 0.9), torch.zeros(len(boxes)).long())
class Quick(ToyDetector):
    def predict(self, images):
        return [found] * len(images)
run_toy(Path(sys.argv[1]), Path(sys.argv[2]), Quick(126, True, 8), batch_size=8, overlap=0.0)
Path(sys.argv[3]).write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))
"""


def peak(scene: Path, out: Path, code: str = CODE) -> int:
    """Megabytes of a process that maps a scene."""
    noted = out.with_suffix(".peak")
    code = code.format(folder=str(Path(__file__).parent))
    processes.run(["-c", code, scene, out, noted])
    return int(noted.read_text())


def write_large(path: Path, side: int, height: int | None = None) -> Path:
    """A scene that takes no room on the disk, compressed and in tiles."""
    height = height or side
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=height, count=3, dtype="uint8", crs=UTM,
        transform=NORTH_UP, tiled=True, compress="deflate", zlevel=1,
    ) as file:  # fmt: skip
        rows = np.arange(512, dtype=np.uint8)[:, None] + np.arange(side, dtype=np.uint8)
        block = np.broadcast_to(rows, (3, 512, side))
        for top in range(0, height, 512):
            rows_here = min(512, height - top)
            window = rasterio.windows.Window(0, top, side, rows_here)
            file.write(block[:, :rows_here], window=window)
    return path


def test_memory_grows_with_the_width_of_a_band_at_most(tmp_path: Path) -> None:
    """Nine times the pixels; held are a few rows of windows of one band."""
    small = peak(write_large(tmp_path / "small.tif", 1000), tmp_path / "small")
    large = peak(write_large(tmp_path / "large.tif", 3000), tmp_path / "large")
    held = 3000 * (127 * 4 * 4 + 3 * 512 * 5) / 2**20  # sums, and slabs of pixels
    assert large - small < held + 120, (small, large)


def test_memory_does_not_grow_with_the_number_of_objects(tmp_path: Path) -> None:
    """5 times as many, 70,000: held are those of two rows of windows, a chunk and the best."""
    scenes = [write_large(tmp_path / f"{height}.tif", 1000, height) for height in (1000, 5000)]
    small, large = (peak(scene, tmp_path / scene.stem, OBJECTS) for scene in scenes)
    assert large - small < 60, (small, large)
