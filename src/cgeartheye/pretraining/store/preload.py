"""The images of a store, decoded once and held in memory or on an accelerator."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cgeartheye.config import Views
from cgeartheye.pretraining.views.crops import Images, crop_batch
from cgeartheye.pretraining.views.sampling import GLOBAL_CROPS, Plan, place
from cgeartheye.utils.console import bar
from cgeartheye.utils.errors import UserError


class PreloadedStore:
    """All images as one tensor of pixels, which worker processes share.

    Attributes:
        pixels: uint8 `[P, 3]`, row after row, image after image.
        sizes: int64 `[N, 2]`, height and width of each image.
        starts: int64 `[N]`, where each image begins in `pixels`.
    """

    def __init__(self, store: Images, device: torch.device):
        """Decode a store.

        Args:
            store: the images.
            device: where their pixels are kept.

        Raises:
            UserError: they do not fit in the free memory, or one cannot be decoded.
        """
        self._store = store
        self.sizes = np.array([store.size(index) for index in range(len(store))], dtype=np.int64)
        ends = self.sizes.prod(axis=1).cumsum()
        self.starts = ends - self.sizes.prod(axis=1)
        _check_room(3 * int(ends[-1]), device)
        self.pixels = torch.empty((int(ends[-1]), 3), dtype=torch.uint8, device=device)
        with bar("decoding", len(store), "images") as progress:
            for index in range(len(store)):
                self.decode(index).copy_(store.decode(index))
                progress.advance()

    def __len__(self) -> int:
        return len(self.sizes)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self.sizes[index].tolist()
        return height, width

    def decode(self, index: int) -> Tensor:
        """Return an image, uint8 `[3, H, W]`; a view, so leave it as it is."""
        height, width = self.size(index)
        rows = self.pixels[self.starts[index] :][: height * width]
        return rows.view(height, width, 3).permute(2, 0, 1)

    def seasons(self, index: int) -> Sequence[int]:
        """Indices of the other images of its place."""
        return self._store.seasons(index)

    def cut(self, plan: Plan, views: Views) -> tuple[Tensor, Tensor]:
        """Make all planned crops where the pixels are.

        Returns:
            The global crops, float32 `[2 * B, 3, G, G]`, and the local ones, `[L * B, 3, S, S]`.
        """
        sizes = self.sizes[plan.images]
        boxes = place(plan.placement, sizes)
        top, left = boxes[..., 0], boxes[..., 1]
        boxes[..., 0] = self.starts[plan.images] + top * sizes[..., 1] + left
        boxes[..., 1] = sizes[..., 1]
        large, small = (
            crop_batch(
                self.pixels,
                torch.from_numpy(boxes[part]).flatten(0, 1),
                torch.from_numpy(plan.symmetry[part]).flatten(),
                size,
            )
            for part, size in (
                (slice(None, GLOBAL_CROPS), views.global_size),
                (slice(GLOBAL_CROPS, None), views.local_size),
            )
        )
        return large, small


def _check_room(needed: int, device: torch.device) -> None:
    free, where = _free_memory(device)
    if needed > free:
        raise UserError(
            f"the decoded images take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free "
            f"{where}: set data.preload=disk, or pack fewer images"
        )


def _free_memory(device: torch.device) -> tuple[int, str]:
    """Return bytes that this process may take, and of what, in words."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0], f"on {device}"
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Every process of torchrun on this machine holds the images.
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), "in memory for each process"
