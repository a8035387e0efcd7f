"""Validation images whose windows a frozen backbone encoded before."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from cgeartheye.data import MaskedChips
from cgeartheye.data.datasets.segmentation import refuse_sizes
from cgeartheye.inference.sliding_window import Encoded, cut_windows
from cgeartheye.tasks.dense.module import DenseConfig, DenseTask
from cgeartheye.tasks.model_io import device_of
from cgeartheye.training import distributed
from cgeartheye.training.loaders import Batch, FileSource, Key
from cgeartheye.training.samplers import test_order
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.console import bar


@torch.no_grad()
def encode_windows(
    config: DenseConfig, task: DenseTask, source: FileSource, ends: Sequence[int]
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield the numbers of windows and their feature maps `[n, 1, layers, C, h, w]`.

    Args:
        config: the run.
        task: on its device.
        source: of whole images.
        ends: number of the first window of each image, and of all windows.
    """
    order = test_order(len(source), 1, distributed.rank(), distributed.world_size())
    with bar("encoding windows", len(order), "images") as progress:
        for batch in source.load(order):
            number = ends[int(batch["index"][0])]
            windows = cut_windows(task.image_stacks(batch)[0], task.side, config.window.overlap)
            for some in windows.split(config.cache.images_at_once(windows.device.type)):
                with autocast(device_of(task), config.training.precision):
                    features = task.encode(some)
                yield list(range(number, number + len(some))), features[:, None]
                number += len(some)
            progress.advance()


class WindowSource:
    """Reads the feature maps of images' windows, and the images' masks; see `Source`."""

    def __init__(
        self,
        features: np.ndarray,
        ends: Sequence[int],
        shapes: Sequence[tuple[int, int]],
        chips: MaskedChips,
        device: torch.device,
    ):
        """Take encoded images.

        Args:
            features: float16 `[windows, 1, layers, C, h, w]`.
            ends: number of the first window of each image, and of all windows.
            shapes: rows and columns of each image.
            chips: the images.
            device: where masks go.
        """
        self._features, self._ends, self._shapes = features, ends, shapes
        self._chips, self._device = chips, device

    def __len__(self) -> int:
        return len(self._chips)

    def load(self, batches: Iterable[Sequence[Key]]) -> Iterator[Batch]:
        """Yield `encoded` images, `mask` and `index`."""
        for keys in batches:
            indices = [key[0] if isinstance(key, tuple) else key for key in keys]
            yield {
                "encoded": [self._encoded(index) for index in indices],
                "mask": [self._mask(index).to(self._device) for index in indices],
                "index": torch.tensor(indices),
            }

    def _encoded(self, index: int) -> Encoded:
        first, end = self._ends[index], self._ends[index + 1]
        return Encoded(self._features[first:end, 0], self._shapes[index])

    def _mask(self, index: int) -> Tensor:
        chips, mask = self._chips, self._chips.load_mask(index)
        image = torch.empty(3, *self._shapes[index], device="meta")
        refuse_sizes(chips.paths[index], image, chips.mask_paths[index], mask)
        return mask
