"""Sources of a task's batches: files, or features that were encoded once."""

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
from cgeartheye.tasks.model_io import device_of
from cgeartheye.training import distributed
from cgeartheye.training.feature_cache import Encoder, Stored, cached, stored
from cgeartheye.training.loaders import FileSource, Source
from cgeartheye.training.samplers import derive_seed, test_order
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.console import bar, warn

CacheKey = Mapping[str, object]


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


class SourceFactory:
    """Makes the sources of one task, which are cached where its backbone is frozen.

    Attributes:
        device: where batches go.
        caches: whether features are cached at all.
    """

    def __init__(self, config: Config, task: Any, built: BackboneBundle):
        """Take a task.

        Args:
            config: loader processes, batch size, precision, cache.
            task: on its device; its `encode` makes features of shape `encoded_shape`, which depend
                on its `encoder_facts`.
            built: the backbone.
        """
        self._config, self._task, self._built = config, task, built
        self.device = device_of(task)
        frozen = config.backbone.tuning == "frozen"
        self.caches: bool = frozen and config.cache.enabled and task.cacheable
        assert config.work_dir is not None
        self._folder = config.cache.folder or config.work_dir.parent / "features"

    def files(self, samples: Dataset[dict[str, Any]], listed: tuple[str, ...] = ()) -> FileSource:
        """Return a source that reads samples from files; see `FileSource` for the arguments."""
        return FileSource(samples, self._config.data.workers, self.device, listed)

    def features_of(
        self,
        samples: Views,
        facts: Callable[[], CacheKey],
        wrap: Callable[[np.ndarray], Source],
        files: Source,
    ) -> Source:
        """Return a source of the features of samples.

        Those of a test view follow from `exact_features` where these are stored.

        Args:
            samples: what is encoded.
            facts: all that the samples depend on beside their views.
            wrap: makes the source of features float16 `[samples, views, ...]`.
            files: the source where nothing is cached.
        """
        return self.cached(
            (len(samples), max(samples.views, 1)),
            lambda: self._stored(samples, facts()) or self.encode(samples, self._task.encode),
            lambda: {**facts(), **samples.facts},
            str(samples),
            wrap,
            files,
        )

    def cached(
        self,
        shape: tuple[int, int],
        encode: Encoder,
        facts: Callable[[], CacheKey],
        what: str,
        wrap: Callable[[np.ndarray], Source],
        files: Source,
    ) -> Source:
        """Return a source of cached features, or `files` where they take too much of the disk.

        Args:
            shape: samples and views.
            encode: makes the features; see `training.feature_cache`.
            facts: all that they depend on beside the backbone.
            what: they are of, for messages.
            wrap: makes the source of features float16 `[samples, views, ...]`.
            files: the source where nothing is cached.
        """
        if not self.caches:
            return files
        config, task = self._config, self._task
        rows = *shape, *task.encoded_shape
        size = 2 * math.prod(rows) / 1e9
        if size > config.cache.budget_gb:
            warn(
                f"the features of {what} take {size:,.1f} GB, more than "
                f"cache.budget_gb={config.cache.budget_gb:g}: they are computed anew each time"
            )
            return files
        task.eval()
        return wrap(cached(self._folder, {**self._encoder_facts(), **facts()}, rows, encode))

    def exact_features(self, samples: Views, facts: CacheKey) -> np.ndarray:
        """Return features of samples `[samples, ...]` in float32, whether features are cached.

        Args:
            samples: as tests see them.
            facts: all that they depend on.
        """
        self._task.eval()
        place = self._exact_place(samples, facts)
        rows = cached(*place, lambda: self.encode(samples, self._task.encode), np.float32)
        return np.array(rows[:, 0])

    def _exact_place(
        self, samples: Views, facts: CacheKey
    ) -> tuple[Path, CacheKey, tuple[int, ...]]:
        """Return where float32 features of the test views are: folder, facts and shape."""
        known = {**self._encoder_facts(), **facts, **samples.facts, "exact": True}
        return self._folder, known, (len(samples), 1, *self._task.encoded_shape)

    def _stored(self, samples: Views, facts: CacheKey) -> Iterator[tuple[list[int], Tensor]] | None:
        """Return what `encode` would yield, from stored float32 features; none: there are none."""
        exact = None
        if not samples.views:
            exact = stored(*self._exact_place(samples, facts), np.float32)
        if exact is None:
            return None
        return ((batch, torch.from_numpy(exact[batch])) for batch in self._order(samples))

    def _order(self, samples: Views) -> list[list[int]]:
        """Return the batches of samples that this process encodes."""
        images = self._config.cache.images_at_once(self.device.type)
        count = max(1, images // max(samples.views, 1))
        return test_order(len(samples), count, distributed.rank(), distributed.world_size())

    def _encoder_facts(self) -> dict[str, object]:
        return {
            "backbone": self._built.fingerprint,
            "network": self._config.backbone.name,
            "normalisation": self._built.normalization.model_dump(mode="json"),
            "precision": self._config.training.precision,
            **self._task.encoder_facts,
        }

    def labels_of(
        self,
        name: str,
        samples: Views,
        facts: CacheKey,
        shape: tuple[int, ...],
        dtype: Stored,
    ) -> np.ndarray:
        """Return what is kept beside the features of views, `[samples, views, *shape]`.

        Args:
            name: of these labels in the cache.
            samples: loads the labels of views.
            facts: all that they depend on beside their views.
            shape: of those of one view.
            dtype: of their numbers.
        """
        return cached(
            self._folder,
            {name: True, **samples.facts, **facts},
            (len(samples), samples.views, *shape),
            lambda: self.encode(samples, torch.clone),
            dtype,
        )

    def encode(
        self, samples: Views, compute: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield, for this process's share of the samples, indices and `[n, views, ...]`.

        Args:
            samples: what to encode.
            compute: maps a batch of views to what is wanted of each.
        """
        source, order = self.files(samples), self._order(samples)
        title = f"encoding ({samples.views} views an image)" if samples.views else "encoding"
        with bar(title, sum(map(len, order)), "images") as progress, torch.no_grad():
            for batch in source.load(order):
                views = batch["views"]
                with autocast(self.device, self._config.training.precision):
                    encoded = compute(views.flatten(0, 1))
                yield batch["index"].tolist(), encoded.unflatten(0, views.shape[:2])
                progress.advance(len(views))
