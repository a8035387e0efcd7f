"""Class tokens of all chips by a frozen backbone, on the disk in half precision, in shards.

    FOLDER/<key>/000000.npy   float16 [chips of the shard, C]

The key is of the backbone and of the chips, so that another number to keep, or other clusters, need
no second look at the chips.
"""

from collections.abc import Iterator, Sequence
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


def encode_chips(
    paths: Sequence[Path],
    built: BackboneBundle,
    config: Curation,
    workers: int,
    folder: Path,
    device: torch.device,
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
    rows = [range(n, min(n + SHARD, len(paths))) for n in range(0, len(paths), SHARD)]
    shards = {here / f"{number:06d}.npy": chips for number, chips in enumerate(rows)}
    own = list(shards)[distributed.rank() :: distributed.world_size()]
    todo = [shard for shard in own if not shard.exists()]
    mine = sum(len(shards[shard]) for shard in todo)
    with bar("encoding", mine, "chips") as progress:
        encoder = _Encoder(paths, built, config, workers, device)
        for shard in todo:
            features = np.empty((len(shards[shard]), built.module.embed_dim), np.float16)
            for indices, tokens in encoder.encode(shards[shard]):
                features[[index - shards[shard].start for index in indices]] = tokens
                progress.advance(len(indices))
            with replacing(shard) as temporary:
                np.save(temporary, features)
    distributed.barrier()
    return Features([np.load(shard, mmap_mode="r") for shard in shards])


class _Encoder:
    """A backbone on its device, and the processes that read for it."""

    def __init__(
        self,
        paths: Sequence[Path],
        built: BackboneBundle,
        config: Curation,
        workers: int,
        device: torch.device,
    ):
        self._paths, self._config, self._device = paths, config, device
        self._backbone = built.module.to(self._device).eval()
        normalization = built.normalization
        self._normalize = Normalize(normalization.mean, normalization.std).to(self._device)
        images = _Chips(paths, config.image_size)
        self._source = FileSource(images, workers, self._device)

    def encode(self, rows: range) -> Iterator[tuple[list[int], Array]]:
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
