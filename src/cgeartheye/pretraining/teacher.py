"""A frozen teacher: what it makes of whole images, kept on the disk, or of crops, in every step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from cgeartheye.config import Backbone, Teacher
from cgeartheye.models import backbone
from cgeartheye.models.backbone import Model, TimmBackbone, weights_file
from cgeartheye.pretraining.views.crops import Images
from cgeartheye.training import distributed
from cgeartheye.training.feature_cache import cached
from cgeartheye.training.loaders import FileSource
from cgeartheye.training.samplers import test_order
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.console import bar, log_info
from cgeartheye.utils.errors import UserError


class Features(NamedTuple):
    """Features of B images from a teacher.

    Attributes:
        images: float32 `[B, D]`, pooled features or class tokens; `[B, D, h, w]`, what is pooled,
            where the class tokens learn of their crops.
        maps: float32 `[B, D', h, w]`, one for each of the teacher's layers.
    """

    images: Tensor
    maps: list[Tensor]


class FrozenTeacher:
    """A frozen backbone that is asked about images.

    Attributes:
        backbone: the network, on its device.
    """

    def __init__(
        self,
        settings: Teacher,
        store: Images,
        precision: str,
        workers: int,
        device: torch.device,
    ):
        """Build the teacher.

        Args:
            settings: which teacher, and the size of what it sees.
            store: the images.
            precision: of its products.
            workers: processes that decode images.
            device: where it computes.

        Raises:
            UserError: no weights, or weights that do not fit.
        """
        self._settings, self._precision, self._device = settings, precision, device
        self._images = _WholeImages(store, settings.image_size)
        self._workers = workers
        network = settings.backbone
        if network.weights is None and weights_file(network) is None:
            raise UserError(
                f"teacher.backbone.weights is not set: name the weights file of {network.name}, "
                "or random for random weights"
            )
        built = backbone.build(
            Backbone(**network.model_dump(), tuning="frozen"), settings.image_size
        )
        for note in built.notes:
            log_info(f"teacher: {note}")
        # In this layout convolutions are fastest.
        self.backbone: Model = built.module.to(memory_format=torch.channels_last).to(device)
        self._mean, self._std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (built.normalization.mean, built.normalization.std)
        )
        self._facts = {
            "teacher": built.fingerprint,
            "network": settings.backbone.name,
            "normalisation": built.normalization.model_dump(mode="json"),
            "precision": precision,
            "image_size": settings.image_size,
            "layers": settings.layers,
        }
        self._rows: npt.NDArray[np.float16] | None = None
        image = self._images[0]["image"][None].to(device)
        if settings.class_target == "crop":
            self._check_pooling(image)
        sample = self.encode(image)
        self._shapes = [part.shape[1:] for part in (sample.images, *sample.maps)]

    @torch.no_grad()
    def encode(self, images: Tensor) -> Features:
        """Compute features.

        Args:
            images: `[B, 3, S, S]`, values 0..255.
        """
        scaled = (images.float() - self._mean) / self._std
        scaled = scaled.contiguous(memory_format=torch.channels_last)
        with autocast(self._device, self._precision):
            if self._settings.class_target == "image":
                features, maps = self.backbone(scaled, self._settings.layers)
            else:
                assert isinstance(self.backbone, TimmBackbone)  # see `_check_pooling`
                features, maps = self.backbone.forward_maps(scaled, self._settings.layers)
        return Features(features.float(), [features.float() for features in maps])

    def _check_pooling(self, image: Tensor) -> None:
        """Raise a UserError unless the teacher's features are the mean of a map."""
        if isinstance(self.backbone, TimmBackbone):
            features, _ = self.backbone.forward_maps(image.float())
            if features.ndim == 4 and torch.allclose(
                features.mean((2, 3)), self.backbone(image.float())[0], rtol=1e-3, atol=1e-4
            ):
                return
        raise UserError(
            f"teacher.class_target=crop needs a network that pools a map, and "
            f"{self._settings.backbone.name} does not: set it to image"
        )

    def see_images(self, fingerprint: str, folder: Path) -> None:
        """Encode all images of the store, unless they were before; then `recall` knows them.

        Args:
            fingerprint: of the store.
            folder: for the cache, where the settings name none.

        Raises:
            UserError: no room on the disk, features that are not finite, a damaged image.
        """
        cache = self._settings.cache
        shape = len(self._images), sum(part.numel() for part in self._shapes)
        size = 2 * shape[0] * shape[1] / 1e9
        if size > cache.budget_gb:
            raise UserError(
                f"the teacher's features of {shape[0]:,} images take {size:,.1f} GB, more than "
                f"teacher.cache.budget_gb={cache.budget_gb:g}: raise it, or set teacher.view=crop"
            )
        facts = {**self._facts, "images": fingerprint}
        if self._settings.class_target == "crop":
            facts["class_target"] = "crop"  # older caches do not name it
        self._rows = cached(cache.folder or folder, facts, shape, self._encode_all)

    def recall(self, images: npt.NDArray[np.int64]) -> Features:
        """Return the features of images that `see_images` encoded, by index."""
        assert self._rows is not None
        rows = torch.from_numpy(self._rows[images]).to(self._device, non_blocking=True)
        parts = rows.split([part.numel() for part in self._shapes], dim=1)
        first, *maps = (
            values.unflatten(1, shape).float()
            for values, shape in zip(parts, self._shapes, strict=True)
        )
        return Features(first, maps)

    def encode_few(self, count: int) -> Features:
        """Return the features of about `count` images from all over the store."""
        chosen = np.linspace(0, len(self._images) - 1, min(count, len(self._images))).astype(int)
        if self._rows is not None:
            return self.recall(chosen)
        source = FileSource(self._images, self._workers, self._device)
        size = self._settings.cache.images_at_once(self._device.type)
        batches = [chosen[n : n + size].tolist() for n in range(0, len(chosen), size)]
        pieces = [self.encode(batch["image"]) for batch in source.load(batches)]
        maps = [torch.cat(layer) for layer in zip(*(p.maps for p in pieces), strict=True)]
        return Features(torch.cat([piece.images for piece in pieces]), maps)

    def _encode_all(self) -> Iterator[tuple[list[int], Tensor]]:
        """Yield, for this process's share of the images, indices and rows of the cache."""
        source = FileSource(self._images, self._workers, self._device)
        order = test_order(
            len(self._images),
            self._settings.cache.images_at_once(self._device.type),
            distributed.rank(),
            distributed.world_size(),
        )
        with bar("teacher", sum(map(len, order)), "images") as progress:
            for batch in source.load(order):
                features = self.encode(batch["image"])
                rows = [part.flatten(1) for part in (features.images, *features.maps)]
                yield batch["index"].tolist(), torch.cat(rows, dim=1)
                progress.advance(len(batch["index"]))


class _WholeImages(Dataset[dict[str, Any]]):
    """The whole of each image, as a square."""

    def __init__(self, store: Images, side: int):
        self._store, self._side = store, side

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self._store.decode(index)[None]
        side = self._side, self._side
        resized = F.interpolate(image, side, mode="bilinear", antialias=True)
        return {"image": resized[0], "index": index}
