"""What a scene task reads: image files, or features that are encoded once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cgeartheye.backbone import Built
from cgeartheye.config import SceneClassification
from cgeartheye.data.scenes import SceneChips, fingerprint
from cgeartheye.tasks.scene import SceneTask
from cgeartheye.training import distributed
from cgeartheye.training.batches import derive_seed, test_order
from cgeartheye.training.features import cached
from cgeartheye.training.loop import autocast
from cgeartheye.training.progress import bar, say
from cgeartheye.training.sources import FeatureSource, FileSource, Source


def scene_source(
    config: SceneClassification, built: Built, task: SceneTask, chips: SceneChips, views: int
) -> Source:
    """Return where batches of chips come from.

    Features from the cache where the backbone is frozen and the cache is enabled, else files.

    Args:
        config: the run.
        built: facts of the backbone.
        task: on its device.
        chips: one part of the data.
        views: augmented views of each chip that the cache keeps; 0: the one that tests see.
    """
    device = next(task.parameters()).device
    if config.backbone.tuning == "frozen" and config.cache.enabled:
        features = encode(config, built, task, chips, views)
        return FeatureSource(features, chips.labels, device)
    return FileSource(chips, config.data.workers, device)


def encode(
    config: SceneClassification, built: Built, task: SceneTask, chips: SceneChips
) -> np.ndarray:
    """Return class tokens `[chips, views, C]` float16 from the cache, encoding them once.

    Chips for training have `cache.views` augmented views, chips for a test their one view.
    """
    device = next(task.parameters()).device
    views = config.cache.views if chips.augmented else 1
    data, assert_folder = config.data, config.work_dir
    assert assert_folder is not None
    facts = {
        "backbone": built.fingerprint,
        "normalisation": built.normalisation.model_dump(mode="json"),
        "transform": repr(chips.transform),
        "pixels": {"bands": data.bands, "stretch": data.stretch},
        "precision": config.training.precision,
        "views": views,
        "seed": config.training.seed if chips.augmented else None,
        "data": fingerprint(chips),
    }

    def run() -> Iterator[tuple[list[int], Tensor]]:
        task.eval()
        source = FileSource(_Views(chips, views, config.training.seed), data.workers, device)
        order = test_order(
            len(chips),
            max(1, config.cache.batch_size // views),
            distributed.rank(),
            distributed.world_size(),
        )
        title = f"encoding {len(chips)} images x {views} views"
        with bar(title, len(order) * config.cache.batch_size, "views") as progress, torch.no_grad():
            for batch in source.load(order):
                images = batch["image"]
                with autocast(device, config.training.precision):
                    tokens = task.encode(images.flatten(0, 1))
                progress.advance(images.shape[0] * views)
                yield batch["index"].tolist(), tokens.float().unflatten(0, images.shape[:2])

    folder = config.cache.folder or assert_folder.parent / "features"
    return cached(folder, facts, (len(chips), views, task.backbone.embed_dim), run)
