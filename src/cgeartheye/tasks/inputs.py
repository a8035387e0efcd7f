"""What a scene task reads: image files, or features that are encoded once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from cgeartheye.backbone import Built
from cgeartheye.config import SceneClassification, SceneData
from cgeartheye.data import SceneChips, eval_transform, fingerprint, images_below, read_image
from cgeartheye.errors import UserError
from cgeartheye.tasks.scene import SceneTask
from cgeartheye.training import distributed
from cgeartheye.training.batches import derive_seed, test_order
from cgeartheye.training.features import cached
from cgeartheye.training.loop import autocast
from cgeartheye.training.progress import bar
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
        features = _cached_features(config, built, task, chips, views)
        return FeatureSource(features, chips.labels, device)
    return FileSource(chips, config.data.workers, device)


def encode(
    config: SceneClassification, task: SceneTask, chips: SceneChips, views: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield, for this process's share of the chips, indices and class tokens `[n, views, C]`.

    See `scene_source` for the arguments.
    """
    task.eval()
    device = next(task.parameters()).device
    source = FileSource(_Views(chips, views, config.training.seed), config.data.workers, device)
    count = max(1, config.cache.batch_size // max(views, 1))
    order = test_order(len(chips), count, distributed.rank(), distributed.world_size())
    title = f"encoding ({views} views an image)" if views else "encoding"
    with bar(title, sum(map(len, order)), "images") as progress, torch.no_grad():
        for batch in source.load(order):
            images = batch["image"]
            with autocast(device, config.training.precision):
                tokens = task.encode(images.flatten(0, 1))
            yield batch["index"].tolist(), tokens.float().unflatten(0, images.shape[:2])
            progress.advance(len(images))


def _cached_features(
    config: SceneClassification, built: Built, task: SceneTask, chips: SceneChips, views: int
) -> np.ndarray:
    """Return class tokens `[chips, max(views, 1), C]` float16."""
    assert config.work_dir is not None
    pixels = {"image_size", "bands", "stretch"} | ({"crop_area"} if views else set())
    facts = {
        "backbone": built.fingerprint,
        "normalisation": built.normalisation.model_dump(mode="json"),
        "images": config.data.model_dump(mode="json", include=pixels),
        "resize_to": None if views else config.data.resize_to,
        "precision": config.training.precision,
        "views": views,
        "seed": config.training.seed if views else None,
        "data": fingerprint(chips),
    }
    return cached(
        config.cache.folder or config.work_dir.parent / "features",
        facts,
        (len(chips), max(views, 1), task.backbone.embed_dim),
        lambda: encode(config, task, chips, views),
    )


class Images(Dataset[dict[str, Any]]):
    """Images without labels, as a test sees them."""

    def __init__(self, paths: list[Path], data: SceneData):
        self.paths, self._data = paths, data
        self._transform = eval_transform(data.image_size, data.resize_to)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = read_image(self.paths[index], self._data.bands, self._data.stretch)
        return {"image": self._transform(tv_tensors.Image(image)), "index": index}


def find_images(inputs: list[Path]) -> list[Path]:
    """Return images, and the images in folders and their subfolders.

    Raises:
        UserError: a path does not exist, or a folder has no image.
    """
    found = []
    for path in inputs:
        if not path.exists():
            raise UserError(f"no image or folder {path}")
        images = images_below(path) if path.is_dir() else [path]
        if not images:
            raise UserError(f"{path} holds no JPEG, PNG, TIFF or BMP image")
        found += images
    return found


class _Views(Dataset[dict[str, Any]]):
    """All views of a chip at once, so that its image is decoded once."""

    def __init__(self, chips: SceneChips, views: int, seed: int):
        self._chips, self._views, self._seed = chips, views, seed

    def __len__(self) -> int:
        return len(self._chips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        seeds = [derive_seed(self._seed, "view", view, index) for view in range(self._views)]
        return {"image": self._chips.load_views(index, seeds), "index": index}
