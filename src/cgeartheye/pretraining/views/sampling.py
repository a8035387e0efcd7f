"""Views of a sample for teacher and student: drawn here, made into pixels by `crops.py`.

Sample number n of a run owns row n of a few endless tables of uniform numbers. Its views depend on
the seed and on n alone, so a step sees the same views whatever process, worker or device makes
them, and a training resumes with nothing stored but its step.
"""

from collections.abc import Callable, Sequence
from math import log
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cgeartheye.config import Teacher, Views
from cgeartheye.models.backbone.block import PATCH
from cgeartheye.training.samplers import derive_seed

GLOBAL_CROPS = 2

# One of the 8 symmetries of a square is a sum of these, carried out in this order: overhead images
# have no up.
FLIP_ROWS, FLIP_COLUMNS, TRANSPOSE = 1, 2, 4

_ASPECT = 4 / 3  # of a crop, either way, as usual (Szegedy et al. 2015)
_BLOCK_ASPECT = 1 / 0.3  # of a masked block, either way (Bao et al. 2021)
_SMALLEST_BLOCK = 4  # patches
_BLOCKS = 32  # tries a mask; in practice more than ever needed

_Floats = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]
_Booleans = npt.NDArray[np.bool_]


class Plan(NamedTuple):
    """Drawn values for B samples with V crops each: 2 global ones, then local ones.

    Attributes:
        images: int64 `[V, B]`, index in the store of the image that the crop is cut from.
        seasonal: bool `[V, B]`, whether that is another season of the sample's place.
        placement: float64 `[V, B, 4]`, share of the image's area that the crop covers, then
            numbers in 0..1 for its aspect, row and column; see `place`.
        symmetry: int64 `[V, B]`, 0..7, a sum of `FLIP_ROWS`, `FLIP_COLUMNS` and `TRANSPOSE`.
        jitter: float32 `[V, B, 3]`, factors of brightness, contrast and saturation; 1 leaves the
            crop as it is.
        masks: bool `[2, B, g, g]`, true where a patch of a global crop is masked.
        kept: int64 `[2, B, n]` and `[V - 2, B, m]`, the patches that a student of distillation
            sees of the global and of the local crops; none: all.
        own: float32 `[B]`, weight of a sample's own crops where they are mixed with those of its
            neighbour: samples 2 k and 2 k + 1 of a run are neighbours; none: not mixed.
    """

    images: _Integers
    seasonal: _Booleans
    placement: _Floats
    symmetry: _Integers
    jitter: npt.NDArray[np.float32]
    masks: _Booleans
    kept: tuple[_Integers, _Integers] | None = None
    own: npt.NDArray[np.float32] | None = None


def count_local_crops(views: Views) -> int:
    """Return how many crops of local size a sample has."""
    return views.local_crops + (views.season_crops if views.seasons == "extra" else 0)


def draw(
    views: Views,
    grid: int,
    seed: int,
    first: int,
    anchors: _Integers,
    seasons_of: Callable[[int], Sequence[int]],
    teacher: Teacher | None = None,
) -> Plan:
    """Draw the views of consecutive samples of a run.

    The last `season_crops` crops of a sample show the other seasons of its place, each at most
    once. Where there are fewer, or none, the remaining ones are local crops of the anchor, so that
    all samples have the same number.

    Args:
        views: what to draw from.
        grid: patches a side of a global crop.
        seed: of the run.
        first: number, in the run, of the first of these samples.
        anchors: int64 `[B]`, indices of their images in the store.
        seasons_of: gives the indices of the other images of an image's place.
        teacher: of a distillation; sets how many patches are kept, and what is mixed.
    """
    samples, crops = len(anchors), GLOBAL_CROPS + count_local_crops(views)
    images = np.tile(anchors, (crops, 1))
    seasonal = np.zeros((crops, samples), dtype=bool)
    if views.seasons != "off":
        picks = _uniform(seed, "seasons", first, samples, views.season_crops)
        for b, anchor in enumerate(anchors.tolist()):
            others = list(seasons_of(anchor))
            chosen = [others.pop(int(pick * len(others))) for pick in picks[b, : len(others)]]
            slots = slice(crops - views.season_crops, crops - views.season_crops + len(chosen))
            images[slots, b], seasonal[slots, b] = chosen, True

    area, aspect, row, column, symmetry = _per_crop(seed, "crops", first, samples, crops, 5)
    low, high = np.empty((crops, samples)), np.empty((crops, samples))
    low[:GLOBAL_CROPS], high[:GLOBAL_CROPS] = views.global_area
    low[GLOBAL_CROPS:], high[GLOBAL_CROPS:] = views.local_area
    low[seasonal], high[seasonal] = views.season_area

    happens, *factors = _per_crop(seed, "jitter", first, samples, crops, 4)
    strength = np.array([views.brightness, views.contrast, views.saturation])
    jitter = 1 + strength * (2 * np.stack(factors, axis=-1) - 1)
    jitter[(happens >= views.jitter_probability) | seasonal] = 1

    masks = np.zeros((GLOBAL_CROPS, samples, grid, grid), dtype=bool)
    which, *blocks = _uniform(seed, "masks", first, samples, 2 + 4 * _BLOCKS).T
    masks[(which * GLOBAL_CROPS).astype(int), np.arange(samples)] = block_masks(
        np.stack(blocks, axis=-1), grid, views.masked_share
    )
    return Plan(
        images,
        seasonal,
        np.stack([low + (high - low) * area, aspect, row, column], axis=-1),
        (symmetry * 8).astype(np.int64),
        jitter.astype(np.float32),
        masks,
        _kept(teacher, (grid, views.local_size // PATCH), seed, first, (samples, crops)),
        _own_weights(teacher, seed, first, samples),
    )


def place(placement: _Floats, sizes: _Integers) -> _Integers:
    """Turn what was drawn into pixels.

    The area is uniform and the aspect log-uniform in 3/4..4/3, both as far as the box fits: unlike
    drawing until one fits, this does not favour small crops.

    Args:
        placement: `[..., 4]`, as in `Plan`.
        sizes: `[..., 2]`, height and width of the image.

    Returns:
        int64 `[..., 4]`, top, left, height and width of the crop in its image.
    """
    area, aspect, row, column = placement.T
    height, width = sizes.T
    ratio = width / height
    # An oblong image has no large crop of a moderate aspect.
    area = np.minimum(area, _ASPECT * np.minimum(ratio, 1 / ratio))
    low = np.maximum(-log(_ASPECT), np.log(area * ratio))
    high = np.minimum(log(_ASPECT), np.log(ratio / area))
    aspect = np.exp(low + (high - low) * aspect)
    pixels = area * height * width
    box_height = np.rint(np.sqrt(pixels / aspect)).clip(1, height)
    box_width = np.rint(np.sqrt(pixels * aspect)).clip(1, width)
    top, left = row * (height - box_height + 1), column * (width - box_width + 1)
    return np.array([top, left, box_height, box_width]).astype(np.int64).T


def block_masks(numbers: _Floats, grid: int, masked_share: tuple[float, float]) -> _Booleans:
    """Mask rectangles of patches until a share of the grid is masked (BEiT, Bao et al. 2021).

    The share is uniform and met to the patch (at least one): of the last rectangle, lower rows are
    left out.

    Args:
        numbers: `[B, n]`, uniform in 0..1: one for the share, then four for each rectangle.
        grid: patches a side.
        masked_share: lowest and highest share.

    Returns:
        bool `[B, grid, grid]`.
    """
    low, high = masked_share
    wanted = np.rint((low + (high - low) * numbers[:, 0]) * grid**2).clip(1).astype(np.int64)
    tries = (numbers.shape[1] - 1) // 4
    # Which rectangle covered a patch first; `tries` where none did.
    cover = np.full((len(numbers), grid, grid), tries)
    for number in range(tries):
        missing = wanted - (cover < tries).sum(axis=(1, 2))
        if not (missing > 0).any():
            break
        area, aspect, row, column = numbers[:, 1 + 4 * number : 5 + 4 * number].T
        area = _SMALLEST_BLOCK + (missing - _SMALLEST_BLOCK).clip(0) * area
        aspect = np.exp(log(_BLOCK_ASPECT) * (2 * aspect - 1))
        inside_rows = _span(np.sqrt(area / aspect), row, grid)
        inside_columns = _span(np.sqrt(area * aspect), column, grid)
        inside = inside_rows[:, :, None] & inside_columns[:, None, :]
        cover[inside] = cover[inside].clip(max=number)
    order = cover.reshape(len(numbers), -1) * grid**2 + np.arange(grid**2)
    last = np.take_along_axis(np.sort(order), wanted[:, None] - 1, axis=1)
    masked: _Booleans = (order <= last).reshape(cover.shape)
    return masked


def _kept(
    teacher: Teacher | None, grids: tuple[int, int], seed: int, first: int, shape: tuple[int, int]
) -> tuple[_Integers, _Integers] | None:
    """Choose the patches of global and local crops that the student sees."""
    if teacher is None or teacher.kept_patches == 1:
        return None
    samples, crops = shape
    counts = GLOBAL_CROPS, crops - GLOBAL_CROPS
    kept = []
    for name, grid, count in zip(("global", "local"), grids, counts, strict=True):
        numbers = _uniform(seed, f"kept {name}", first, samples, max(count, 1) * grid**2)
        order = numbers.reshape(samples, -1, grid**2)[:, :count].argsort(axis=2, kind="stable")
        chosen = order[:, :, : max(1, round(teacher.kept_patches * grid**2))]
        kept.append(np.sort(chosen, axis=2).transpose(1, 0, 2).copy())
    return kept[0], kept[1]


def _own_weights(
    teacher: Teacher | None, seed: int, first: int, samples: int
) -> npt.NDArray[np.float32] | None:
    """Draw the weights of mixup, one for each pair of neighbours; 1 where they are not mixed."""
    if teacher is None or not teacher.mixup:
        return None
    happens, weights = _uniform(seed, "mixing", first // 2, samples // 2, 2).T
    return np.where(happens < teacher.mixup, weights, 1).repeat(2).astype(np.float32)


def _span(length: _Floats, position: _Floats, grid: int) -> _Booleans:
    """Return bool `[B, grid]`, true in an interval of rounded length inside."""
    length = np.rint(length).clip(1, grid)
    start = np.floor(position * (grid - length + 1))
    places = np.arange(grid)
    inside: _Booleans = (places >= start[:, None]) & (places < (start + length)[:, None])
    return inside


def _per_crop(seed: int, table: str, first: int, samples: int, crops: int, count: int) -> _Floats:
    """Return `count` uniform numbers for each crop, `[count, crops, samples]`."""
    numbers = _uniform(seed, table, first, samples, crops * count)
    return numbers.reshape(samples, crops, count).transpose(2, 1, 0)


def _uniform(seed: int, table: str, first: int, samples: int, count: int) -> _Floats:
    """Return rows `first`... of a table of numbers in 0..1, `[samples, count]`."""
    # Philox (Salmon et al. 2011) computes number n from n, four at a time, so a row costs the same
    # wherever it is.
    ticks = -(-count // 4)
    source = np.random.Philox(key=derive_seed(seed, table), counter=first * ticks)
    bits = source.random_raw(samples * ticks * 4) >> np.uint64(11)
    numbers = (bits * 2.0**-53).astype(np.float64)
    return numbers.reshape(samples, -1)[:, :count]
