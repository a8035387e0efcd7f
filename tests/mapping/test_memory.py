import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
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
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(scene: Path, out: Path) -> int:
    """Megabytes of a process that maps a scene."""
    code = CODE.format(folder=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(scene), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return int(done.stdout.split()[-1])


def write_large(path: Path, side: int) -> Path:
    """A scene that takes no room on the disk, compressed and in tiles."""
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", crs=UTM,
        transform=NORTH_UP, tiled=True, compress="deflate", zlevel=1,
    ) as file:  # fmt: skip
        rows = np.arange(512, dtype=np.uint8)[:, None] + np.arange(side, dtype=np.uint8)
        block = np.broadcast_to(rows, (3, 512, side))
        for top in range(0, side, 512):
            height = min(512, side - top)
            window = rasterio.windows.Window(0, top, side, height)
            file.write(block[:, :height], window=window)
    return path


def test_memory_grows_with_the_width_of_a_band_at_most(tmp_path: Path) -> None:
    """16 times the pixels; held are a few rows of windows of one band."""
    small = peak(write_large(tmp_path / "small.tif", 2000), tmp_path / "small")
    large = peak(write_large(tmp_path / "large.tif", 8000), tmp_path / "large")
    held = 8000 * (127 * 4 * 4 + 3 * 512 * 5) / 2**20  # sums, and slabs of pixels
    assert large - small < held + 150, (small, large)
