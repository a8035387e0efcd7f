"""Batches of views, from the store to the network."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cgeartheye.config import Normalization, Pretraining, Teacher, Views
from cgeartheye.models.backbone.block import PATCH
from cgeartheye.pretraining.store.preload import PreloadedStore
from cgeartheye.pretraining.views.augment import augment
from cgeartheye.pretraining.views.crops import Images, cut
from cgeartheye.pretraining.views.sampling import GLOBAL_CROPS, Plan, draw, place
from cgeartheye.training.samplers import derive_seed
from cgeartheye.utils.errors import UserError

# Number in the run of the first sample of a batch, and the images of its samples.
_Key = tuple[int, npt.NDArray[np.int64]]
_Crops = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ViewBatch:
    """The views of B samples on the device, view by view: the first of all samples, the second...

    Attributes:
        globals: float32 `[2 * B, 3, G, G]`, jittered and normalised.
        locals: float32 `[L * B, 3, S, S]`, jittered and normalised.
        masks: bool `[2 * B, g, g]`, true where a patch of a global crop is masked.
        seasonal: bool `[L * B]`, which local crops show another season.
        index: int64 `[B]`, the samples' images in the store.
        kept: int64 `[2 * B, n]` and `[L * B, m]`, the patches that the student sees of them; none:
            all.
        origins: where the crops come from.
        shown: float32 `[2 * B, 3, T, T]`, the global crops as a teacher sees them: 0..255, neither
            jittered nor normalised; none where the teacher does not see crops.
    """

    globals: Tensor
    locals: Tensor
    masks: Tensor
    seasonal: Tensor
    index: Tensor
    kept: tuple[Tensor, Tensor] | None
    origins: "Origins"
    shown: Tensor | None


@dataclass(frozen=True)
class Origins:
    """Source of V * B crops, view by view; on the CPU.

    Attributes:
        images: int64 `[V * B]`, index in the store.
        boxes: float32 `[V * B, 4]`, left, top, right and bottom, as shares of the image's sides.
        symmetry: int64 `[V * B]`; see `views.Plan`.
        own: float32 `[V * B]`, weights of the crops in what `mix` makes of them; none: not mixed.
    """

    images: npt.NDArray[np.int64]
    boxes: Tensor
    symmetry: Tensor
    own: Tensor | None


class Loader:
    """Makes the batches of one process, ahead of their use.

    The order is a new permutation of the images for every pass over them, batches run over the
    border of two passes. A step takes `batch_size * world_size` samples and each process its
    share, so all processes together see the same whatever their number.
    """

    def __init__(
        self,
        store: Images,
        config: Pretraining,
        normalization: Normalization,
        device: torch.device,
        rank: int,
        world_size: int,
    ):
        """Decode the images first, where they are held.

        Args:
            store: the images.
            config: `data`, `views` and the seed are used.
            normalization: what the network expects.
            device: where the batches go.
            rank: this process.
            world_size: number of processes.

        Raises:
            UserError: the images do not fit where they are to be held, or one is damaged.
        """
        self._views, self._data = config.views, config.data
        self._seed, self._normalization, self._device = config.training.seed, normalization, device
        self._rank, self._world_size = rank, world_size
        self._store = store
        self._held: PreloadedStore | None = None
        images = store
        if config.data.preload == "memory":
            images = PreloadedStore(store, torch.device("cpu"))
        elif config.data.preload == "device":
            self._held = PreloadedStore(store, device)
        # A teacher that sees crops may see more of them than the student does.
        sees_crops = config.teacher is not None and config.teacher.view == "crop"
        self._shown_side = config.teacher.image_size if config.teacher and sees_crops else None
        side = self._shown_side or self._views.global_size
        self._cut_views = self._views.model_copy(update={"global_size": side})
        self._samples = _Samples(
            images, self._views, self._cut_views, config.teacher, self._seed, self._held is None
        )

    def batches(self, first_step: int, last_step: int) -> Iterator[ViewBatch]:
        """Yield the batches of steps `first_step` up to, but without, `last_step`.

        Raises:
            UserError: an image cannot be decoded.
        """
        loader: DataLoader[Any] = DataLoader(
            self._samples,
            batch_size=None,
            sampler=self._keys(first_step, last_step),
            num_workers=self._data.workers,
            collate_fn=_unchanged,
            pin_memory=self._device.type == "cuda",
        )
        for made in loader:
            if isinstance(made, UserError):
                raise made
            yield self._finish(*made)

    def _keys(self, first_step: int, last_step: int) -> Iterator[_Key]:
        for step in range(first_step, last_step):
            first = (step * self._world_size + self._rank) * self._data.batch_size
            yield first, shuffled(len(self._samples), self._seed, first, self._data.batch_size)

    def _finish(self, plan: Plan, crops: _Crops | None) -> ViewBatch:
        """Do what is done on the device."""
        if crops is None:
            assert self._held
            crops = self._held.cut(plan, self._cut_views)
        jitter, masks, seasonal, index = (
            torch.from_numpy(values).to(self._device, non_blocking=True)
            for values in (plan.jitter, plan.masks, plan.seasonal, plan.images[0])
        )
        large, small = (part.to(self._device, non_blocking=True) for part in crops)
        shown = None
        if self._shown_side:
            shown = large.float()
            side = self._views.global_size, self._views.global_size
            large = F.interpolate(shown, side, mode="bilinear", antialias=True)
        origins = self._origins(plan)
        large, small = (
            augment(part, factors.flatten(0, 1), self._normalization)
            for part, factors in zip(
                (large, small), jitter.tensor_split([GLOBAL_CROPS]), strict=True
            )
        )
        if origins.own is not None:
            own = origins.own.to(self._device, non_blocking=True).tensor_split([len(large)])
            large, small = mix(large, own[0]), mix(small, own[1])
            shown = None if shown is None else mix(shown, own[0])
        kept = None
        if plan.kept is not None:
            first, second = (torch.from_numpy(part).flatten(0, 1) for part in plan.kept)
            kept = first.to(self._device), second.to(self._device)
        return ViewBatch(
            large,
            small,
            masks.flatten(0, 1),
            seasonal[GLOBAL_CROPS:].flatten(),
            index,
            kept,
            origins,
            shown,
        )

    def _origins(self, plan: Plan) -> Origins:
        images = plan.images.flatten()
        sizes = np.array([self._store.size(index) for index in images.tolist()])
        top, left, height, width = place(plan.placement.reshape(-1, 4), sizes).T
        boxes = np.stack([left, top, left + width, top + height], axis=1) / sizes[:, [1, 0, 1, 0]]
        own = None if plan.own is None else torch.from_numpy(np.tile(plan.own, len(plan.images)))
        return Origins(
            images,
            torch.from_numpy(boxes.astype(np.float32)),
            torch.from_numpy(plan.symmetry.flatten()),
            own,
        )


def mix(values: Tensor, own: Tensor) -> Tensor:
    """Mix each row with its neighbour, rows 2 k and 2 k + 1 with each other (mixup).

    Args:
        values: float `[N, ...]`, N even.
        own: `[N]`, the weight of the row itself; the neighbour has the rest.
    """
    neighbors = values.unflatten(0, (len(values) // 2, 2)).flip(1).flatten(0, 1)
    return torch.lerp(neighbors, values, own.view(-1, *[1] * (values.ndim - 1)))


def shuffled(count: int, seed: int, first: int, length: int) -> npt.NDArray[np.int64]:
    """Return the images of samples `first`... of a run.

    Args:
        count: images in the store.
        seed: of the run.
        first: number of the first sample in the run.
        length: how many samples.
    """
    images: list[npt.NDArray[np.int64]] = []
    end = first + length
    while first < end:
        turn, start = divmod(first, count)
        images.append(_permutation(count, seed, turn)[start : start + end - first])
        first += len(images[-1])
    return np.concatenate(images)


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, turn: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(derive_seed(seed, "order", turn)).permutation(count)


class _Samples(Dataset[Any]):
    """Whole batches, as worker processes make them: a plan, and its crops as uint8."""

    def __init__(
        self,
        images: Images,
        views: Views,
        cut_views: Views,
        teacher: Teacher | None,
        seed: int,
        cuts: bool,
    ):
        self._images, self._views, self._cut_views = images, views, cut_views
        self._teacher, self._seed, self._cuts = teacher, seed, cuts

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: _Key) -> tuple[Plan, _Crops | None] | UserError:
        first, anchors = key
        try:
            grid = self._views.global_size // PATCH
            plan = draw(
                self._views, grid, self._seed, first, anchors, self._images.seasons, self._teacher
            )
            return plan, cut(self._images, plan, self._cut_views) if self._cuts else None
        except UserError as error:  # as a value it comes without the worker's traceback
            return UserError(str(error))


def _unchanged(made: Any) -> Any:
    return made
