"""What tasks read: image files, and features that are encoded once."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cgeartheye.config import Config
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.training import distributed
from cgeartheye.training.feature_cache import Encoder, cached
from cgeartheye.training.loaders import FileSource
from cgeartheye.training.samplers import derive_seed, test_order
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.console import bar, log_info


class Views(Dataset[dict[str, Any]]):
    """All views of a sample at once, so that its files are decoded once.

    Attributes:
        views: augmented views of each; 0: the one that tests see.
        facts: what they depend on beside the samples; JSON values.
    """

    def __init__(self, count: int, views: int, seed: int, load: Callable[[int, list[int]], Tensor]):
        """Take samples.

        Args:
            count: how many there are.
            views: augmented views of each; 0: the one that tests see.
            seed: of the augmentations.
            load: returns the views of a sample `[max(views, 1), ...]` by its index and their seeds.
        """
        self.views, self._count, self._seed, self._load = views, count, seed, load
        self.facts = {"views": views, "seed": seed if views else None}

    def __len__(self) -> int:
        return self._count

    def __str__(self) -> str:
        views = f" with {self.views} views" if self.views else ""
        return f"{self._count:,} images{views}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        seeds = [derive_seed(self._seed, "view", view, index) for view in range(self.views)]
        return {"views": self._load(index, seeds), "index": index}


def encode(
    config: Config, device: torch.device, samples: Views, compute: Callable[[Tensor], Tensor]
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield, for this process's share of the samples, indices and `[n, views, ...]`.

    Args:
        config: batch size, precision, loader processes.
        device: where to compute.
        samples: what to encode.
        compute: maps a batch of views to what is wanted of each.
    """
    source = FileSource(samples, config.data.workers, device)
    count = max(1, config.cache.batch_size // max(samples.views, 1))
    order = test_order(len(samples), count, distributed.rank(), distributed.world_size())
    title = f"encoding ({samples.views} views an image)" if samples.views else "encoding"
    with bar(title, sum(map(len, order)), "images") as progress, torch.no_grad():
        for batch in source.load(order):
            views = batch["views"]
            with autocast(device, config.training.precision):
                encoded = compute(views.flatten(0, 1))
            yield batch["index"].tolist(), encoded.unflatten(0, views.shape[:2])
            progress.advance(len(views))


def cached_features(
    config: Config,
    built: BackboneBundle,
    shape: tuple[int, ...],
    encode: Encoder,
    facts: Mapping[str, object],
    what: str,
) -> np.ndarray | None:
    """Return features of a frozen backbone, or none where they take too much of the disk.

    Args:
        config: the run.
        built: facts of the backbone.
        shape: samples, views, and what one view has.
        encode: makes them; see `training.feature_cache`.
        facts: what they depend on beside the backbone.
        what: they are of, for messages.

    Returns:
        float16 of that shape.
    """
    size = 2 * math.prod(shape) / 1e9
    if size > config.cache.budget_gb:
        log_info(
            f"note: the features of {what} take {size:,.1f} GB, more than "
            f"cache.budget_gb={config.cache.budget_gb:g}: they are computed anew each time"
        )
        return None
    facts = {
        "backbone": built.fingerprint,
        "normalisation": built.normalization.model_dump(mode="json"),
        "precision": config.training.precision,
        **facts,
    }
    return cached(cache_folder(config), facts, shape, encode)


def cache_folder(config: Config) -> Path:
    """Return where features are kept."""
    assert config.work_dir is not None
    return config.cache.folder or config.work_dir.parent / "features"
