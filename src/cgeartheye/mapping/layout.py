"""Which windows a model sees of a scene, by what it is and what the user asks."""

import torch

from cgeartheye.geo.pair import AnyScene
from cgeartheye.inference.merge_boxes import largest_object, required_overlap
from cgeartheye.inference.windows import (
    Grid,
    axes,
    make_grid,
    make_object_grid,
    make_patch_grid,
)
from cgeartheye.mapping.options import Options
from cgeartheye.mapping.predictor import Detector, Encoder, Predictor
from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError

_ENLARGED = 4  # times; beyond, somebody may have mistaken the scene
_ABSURD = 12  # times; 30 m/px for a model of 2.5 m/px
_MOST_OVERLAP = 0.5  # share of a window, for the objects of the training; more costs much
_MOST_OVERLAP_ASKED = 0.75  # for those that the user names


def lay_grid(predictor: Predictor, scene: AnyScene, options: Options) -> Grid:
    """Return the grid of windows, after one prediction: its shape shows pixels or whole windows.

    Args:
        predictor: the model.
        scene: one or two dates.
        options: whose GSD and overlap are used.

    Raises:
        UserError: the scene is far coarser than what the model has learned.
    """
    side, count = predictor.window, len(predictor.classes)
    with torch.inference_mode():
        blank = torch.zeros(
            1, scene.channels, side, side, dtype=torch.uint8, device=predictor.device
        )
        shape = tuple(predictor.predict(blank).shape)
    assert shape in {(1, count, side, side), (1, count)}, f"a prediction of shape {shape}"
    gsd = options.gsd or predictor.gsd
    grid = make_grid(scene, gsd, side, options.overlap, count, dense=len(shape) == 4)
    _check_enlarged(grid, scene, options, gsd)
    return grid


def lay_vector_grid(encoder: Encoder, scene: AnyScene, options: Options) -> Grid:
    """Return the grid of windows whose patches, or which as wholes, have a vector each.

    Args:
        encoder: the backbone.
        scene: of one date.
        options: whose GSD and overlap are used.

    Raises:
        UserError: the scene is far coarser than what the model has learned.
    """
    gsd, side, patch = options.gsd or encoder.gsd, encoder.window, encoder.patch_size
    if patch == side:
        grid = make_grid(scene, gsd, side, options.overlap, 1, dense=False)
    else:
        width = encoder.num_components
        grid = make_patch_grid(scene, gsd, side, options.overlap, patch, width)
    _check_enlarged(grid, scene, options, gsd)
    return grid


def lay_object_grid(detector: Detector, scene: AnyScene, options: Options) -> Grid:
    """Return windows that overlap by the largest object, as far as that is possible.

    Args:
        detector: the model.
        scene: one or two dates.
        options: whose GSD, overlap and `max_object_size` are used.

    Raises:
        UserError: the scene is far coarser than what the model has learned.
    """
    side = detector.window
    gsd = options.gsd or detector.gsd
    rows, columns = axes(scene, gsd)
    pixel = min(
        scene.ground[0] * columns.scene / columns.model, scene.ground[1] * rows.scene / rows.model
    )
    largest, most = detector.max_object_size or 0.0, _MOST_OVERLAP
    if options.max_object_size is not None:
        largest, most = options.max_object_size / pixel, _MOST_OVERLAP_ASKED
    elif options.gsd and detector.gsd:
        largest *= detector.gsd / options.gsd
    share = max(options.overlap, required_overlap(largest, side) if largest else 0.0)
    grid = make_object_grid(rows, columns, side, min(share, max(most, options.overlap)))
    _check_enlarged(grid, scene, options, gsd)
    if share > grid.overlap:
        safe = largest_object(grid.overlap, side) * pixel
        warn(
            f"windows of {side * pixel:.0f} m overlap by {grid.overlap * side * pixel:.0f} m: "
            f"objects larger than {safe:.0f} m may be found in pieces: a model with larger "
            "windows finds them whole"
        )
    return grid


def _check_enlarged(grid: Grid, scene: AnyScene, options: Options, gsd: float | None) -> None:
    enlarged = grid.columns.model / grid.columns.scene
    own = f"{scene.ground[0]:.3g}"
    if enlarged > _ABSURD and options.gsd is None:
        raise UserError(
            f"{scene.name} has {own} m/px, {enlarged:.0f} times coarser than the model's "
            f"{gsd:.3g} m/px, and shows nothing of what the model has learned: take a finer scene, "
            f"or set --gsd {own} to map it all the same"
        )
    if enlarged > _ENLARGED:
        warn(
            f"the scene's {own} m/px are resampled {enlarged:.0f} times finer, to the model's "
            f"{gsd:.3g} m/px; set --gsd {own} to keep them"
        )
