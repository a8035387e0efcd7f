"""Class tokens of all chips by a frozen backbone, on the disk in half precision, in shards.

    FOLDER/<key>/000000.npy   float16 [chips of the shard, C]

The key is of the backbone and of the chips, so that another number to keep, or other clusters, need
no second look at the chips.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from cgeartheye.config import Curation
from cgeartheye.data import eval_transform, read_image
from cgeartheye.data.transforms.image import Normalize
from cgeartheye.jlssd.resumable import key_of, only_folder
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.training import distributed
from cgeartheye.training.loaders import FileSource
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.console import bar
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

SHARD = 8192  # chips; what a kill costs at most

Array = np.ndarray


class Features:
    """Features of chips, read from the files they are stored in."""

    def __init__(self, shards: Sequence[Array]):
        """Take shards, memory-mapped: all of `SHARD` rows but the last."""
        self._shards = shards

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    @property
    def width(self) -> int:
        """Channels."""
        return int(self._shards[0].shape[1])

    def pieces(self) -> Iterator[tuple[slice, Array]]:
        """Yield the rows of each shard and its features, float32."""
        first = 0
        for shard in self._shards:
            yield slice(first, first + len(shard)), shard.astype(np.float32)
            first += len(shard)


Shard = tuple[Path, int, int]
"""A file, and the first chip of its features and the one after the last."""

Spread = Callable[[Sequence[Shard]], Iterable[int]]
"""Encodes shards elsewhere; yields the number of chips of each as it is there."""


def encode_chips(
    paths: Sequence[Path],
    built: BackboneBundle,
    config: Curation,
    workers: int,
    folder: Path,
    device: torch.device,
    spread: Spread | None = None,
) -> Features:
    """Encode chips, or read what was encoded before.

    Killed, the same call goes on after the last shard. Of several processes each encodes every
    n-th shard, into a folder that they share.

    Args:
        paths: of the chips.
        built: the backbone.
        config: of the curation: size, batches, precision.
        workers: processes that read.
        folder: for the features of these chips.
        device: where to compute.
        spread: encodes shards on other machines, which share the folder; none: they are encoded
            here.

    Raises:
        UserError: a chip cannot be read, no room on the disk, or features that are not finite.
    """
    facts = {
        "chips": [str(path.resolve()) for path in paths],
        "backbone": built.fingerprint,
        "normalisation": built.normalization.model_dump(),
        "image_size": config.image_size,
        "precision": config.precision,
    }
    here = folder / key_of(facts)
    if distributed.is_main():
        only_folder(folder, here.name)
    distributed.barrier()
    starts = range(0, len(paths), SHARD)
    shards = [
        (here / f"{number:06d}.npy", first, min(first + SHARD, len(paths)))
        for number, first in enumerate(starts)
    ]
    own = shards[distributed.rank() :: distributed.world_size()]
    todo = [shard for shard in own if not shard[0].exists()]
    with bar("encoding", sum(end - first for _, first, end in todo), "chips") as progress:
        if spread is None:
            encoder = ShardEncoder(paths, built, config, workers, device)
            for shard in todo:
                encoder.encode(shard, progress.advance)
        else:
            shared = [(path.resolve(), first, end) for path, first, end in todo]
            for count in spread(shared):
                progress.advance(count)
    distributed.barrier()
    return Features([np.load(path, mmap_mode="r") for path, *_ in shards])


class ShardEncoder:
    """A backbone on its device, and the processes that read for it."""

    def __init__(
        self,
        paths: Sequence[Path],
        built: BackboneBundle,
        config: Curation,
        workers: int,
        device: torch.device,
    ):
        """Bring together what is needed; see `encode_chips`."""
        self._paths, self._config, self._device = paths, config, device
        self._backbone = built.module.to(self._device).eval()
        normalization = built.normalization
        self._normalize = Normalize(normalization.mean, normalization.std).to(self._device)
        images = _Chips(paths, config.image_size)
        self._source = FileSource(images, workers, self._device)
        self._width = built.module.embed_dim

    def encode(self, shard: Shard, on_encoded: Callable[[int], None] = lambda _: None) -> None:
        """Encode chips into a file, which is there when it is whole.

        Args:
            shard: the file and the chips.
            on_encoded: gets the number of chips of each batch.

        Raises:
            UserError: see `encode_chips`.
        """
        path, first, end = shard
        features = np.empty((end - first, self._width), np.float16)
        for indices, tokens in self._encode(range(first, end)):
            features[[index - first for index in indices]] = tokens
            on_encoded(len(indices))
        with replacing(path) as temporary:
            np.save(temporary, features)

    def _encode(self, rows: range) -> Iterator[tuple[list[int], Array]]:
        """Yield the indices of chips and their class tokens, float16 `[n, C]`."""
        size = self._config.batch_size
        batches = [rows[first : first + size] for first in range(0, len(rows), size)]
        for batch in self._source.load(batches):
            with torch.no_grad(), autocast(self._device, self._config.precision):
                tokens, _ = self._backbone(self._normalize(batch["image"]))
            indices = batch["index"].tolist()
            with np.errstate(over="ignore"):
                features = tokens.float().cpu().numpy().astype(np.float16)
            if not np.isfinite(features).all():
                raise UserError(
                    f"the features of {self._paths[indices[0]]} and the {len(indices) - 1} chips "
                    "after it are not finite: check the backbone's weights, or set precision to "
                    "fp32"
                )
            yield indices, features


class _Chips(Dataset[dict[str, Any]]):
    """Chips as a test sees them: the whole of each, resized."""

    def __init__(self, paths: Sequence[Path], size: int):
        self._paths, self._transform = paths, eval_transform(size, size)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self._transform(tv_tensors.Image(read_image(self._paths[index])))
        return {"image": image, "index": index}
