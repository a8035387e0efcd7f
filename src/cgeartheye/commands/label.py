"""From labels to a map, to the next places to label, and to a data set for training."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import yaml
from affine import Affine
from PIL import Image
from rasterio.features import rasterize
from shapely import STRtree, box

from cgeartheye import __version__
from cgeartheye.config.loader import make
from cgeartheye.embeddings import suggest as suggesting
from cgeartheye.embeddings.calibration import Calibration, calibrate, calibrated
from cgeartheye.embeddings.crossval import leave_places_out
from cgeartheye.embeddings.decoder import Decoder, fit_decoder
from cgeartheye.embeddings.labels import (
    LabelledPatches,
    class_numbers,
    classes_of,
    colors_of,
    named_classes,
    patches_of,
    read_labels,
)
from cgeartheye.embeddings.redraw import draw_classes
from cgeartheye.embeddings.store import Embedding, open_embeddings
from cgeartheye.geo.reader import Scene, Span, open_scene
from cgeartheye.mapping.geotiff import RasterStyle, RawRaster, write_geotiff
from cgeartheye.utils.colors import RGB
from cgeartheye.utils.console import bar, warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_image, write_text

CHIPS = (280, 140, 70)
"""Pixels a side of the images of a data set: the largest of these of which there are enough."""

_ENOUGH = 10  # images
_ORDERS = 200  # of squares, of which the best is taken
_PARTS = {"train": 0.7, "val": 0.15, "test": 0.15}
_ROWS = 2048  # of the map that are drawn at a time


@dataclass(frozen=True)
class LabelFit:
    """Result of a fit to labels.

    Attributes:
        decoder: of the classes.
        patches: that are labelled.
        accuracy: estimated by leaving out places, 0..1; none where labels are too few.
        calibration: of the decoder's probabilities, from the same places.
        seconds: that the fit took.
        shares: of the classes in the scene, 0..1.
    """

    decoder: Decoder
    patches: LabelledPatches
    accuracy: float | None
    calibration: Calibration | None
    seconds: float
    shares: tuple[float, ...]


def one_embedding(folder: Path) -> Embedding:
    """Read the embedding of a folder that holds that of one scene.

    Raises:
        UserError: it holds none, or several.
    """
    found = open_embeddings(folder)
    if len(found) > 1:
        names = ", ".join(each.name for each in found[:5])
        raise UserError(f"{folder} holds embeddings of several scenes: name one: {names}")
    return found[0]


def fit_labels(folder: Path, labels: Path, out: Path | None, user: str | None = None) -> LabelFit:
    """Fit a decoder to labels on an embedding, and draw its map.

    Args:
        folder: of the embedding of a scene.
        labels: a vector file, see `read_labels`.
        out: a GeoTIFF of the scene's pixels; none: no map.
        user: whose labels count; none: everybody's.

    Raises:
        UserError: labels of one class, or outside; no embedding; or a map that cannot be written.
    """
    embedding = one_embedding(folder)
    read = read_labels(labels, user)
    patches = patches_of(read, embedding)
    began = time.perf_counter()
    decoder = fit_decoder(patches, embedding)
    probabilities = decoder.decode(embedding)
    spent = time.perf_counter() - began
    held = leave_places_out(patches, embedding)
    if out is not None:
        _write_map(embedding, probabilities, patches.names, colors_of(read, patches.names), out)
    likeliest = probabilities[embedding.valid].argmax(-1)
    counts = np.bincount(likeliest, minlength=len(decoder.names))
    shares = tuple((counts / max(1, counts.sum())).tolist())
    return LabelFit(
        decoder,
        patches,
        held.accuracy if held else None,
        calibrate(held) if held else None,
        spent,
        shares,
    )


def _write_map(
    embedding: Embedding, probabilities: Any, names: Sequence[str], colors: Sequence[RGB], out: Path
) -> None:
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise UserError(f"--out {out}: name a file that ends with .tif")
    height, width = embedding.scene_shape
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        plane = RawRaster(Path(folder) / "classes.raw", 1, height, width)
        for top in range(0, height, _ROWS):
            rows = top, min(top + _ROWS, height)
            drawn = draw_classes(probabilities, embedding.valid, embedding.cell, rows, (0, width))
            plane.write(rows, 0, drawn[None])
        tags = {"GENERATOR": f"CGEarthEye {__version__}"}
        style = RasterStyle(embedding.scene_transform, embedding.crs, names, colors, tags)
        write_geotiff(plane, out, style)
        plane.close()


def suggest_labels(
    folder: Path, labels: Path | None, count: int, user: str | None = None
) -> geopandas.GeoDataFrame:
    """Choose places to label next; see `embeddings.suggest`.

    Args:
        folder: of the embedding of a scene.
        labels: so far; none, or of one class: places are spread over what is not labelled.
        count: of places.
        user: whose labels count; none: everybody's.

    Raises:
        UserError: no embedding, or labels outside of it or on all of it.
    """
    embedding = one_embedding(folder)
    decoder = patches = None
    if labels is not None:
        read = read_labels(labels, user)
        names = named_classes(read)
        patches = patches_of(read, embedding, names)
        if len(names) > 1:
            decoder = calibrated(fit_decoder(patches, embedding), patches, embedding)
    rows, columns = suggesting.suggest(embedding, decoder, patches, count)
    guesses: Sequence[str] = ()
    if decoder is not None:
        found = decoder.probabilities(embedding.components(rows, columns)).argmax(-1)
        guesses = [decoder.names[number] for number in found]
    return suggesting.frame_of(embedding, rows, columns, guesses)


def write_dataset(
    scenes: Sequence[Path],
    labels: Path,
    out: Path,
    user: str | None = None,
    chip: int | None = None,
    patch: int = 14,
    bands: tuple[int, int, int] = (1, 2, 3),
) -> dict[str, int]:
    """Cut labels and their scene into a data set of segmentation, with a config to train it.

    The scene is divided into squares; those with a label become images, whole ones into one part
    each, so that no two parts share ground. What is not labelled, or has no data, is 255 in the
    masks. A point stands for the square of a patch, a line is as wide as one.

    Args:
        scenes: rasters that are one mosaic, georeferenced.
        labels: a vector file, see `read_labels`.
        out: a folder that is not there, or is empty.
        user: whose labels count; none: everybody's.
        chip: pixels a side of an image; none: see `CHIPS`.
        patch: pixels a side of a patch, of which an image has whole ones.
        bands: of the scenes, that are red, green and blue.

    Returns:
        The number of images of each part.

    Raises:
        UserError: labels of one class, or in fewer than three squares; images of no whole patches;
            or a folder that is not empty.
    """
    if chip and chip % patch:
        near = patch * max(1, round(chip / patch))
        raise UserError(f"--chip {chip} is no multiple of {patch}: give {near}")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: delete it, or name another folder")
    scene = open_scene(scenes, bands)
    read = read_labels(labels, user)
    names = classes_of(read)
    shapes = _on_pixels(read, scene, patch)
    # Where a class is only excluded, -1, it becomes 255.
    values = (class_numbers(read, names) % 256).tolist()
    colors = colors_of(read, names)
    for side in (chip,) if chip else CHIPS:
        masks, left_out = _masks(shapes, values, scene, side)
        if len(masks) >= _ENOUGH:
            break
    if left_out:
        warn(f"{left_out} squares have labels only where {scene.name} has no data: left out")
    if len(masks) < len(_PARTS):
        raise UserError(
            f"{labels} has labels in {len(masks)} squares of {side} pixels of {scene.name}, but "
            f"a data set needs {len(_PARTS)} at least, for training, validation and test: label "
            "more places, farther apart"
        )
    nothing = next((n, n, n) for n in range(255, -1, -1) if (n, n, n) not in colors)
    palette = [level for color in colors for level in color]
    palette += nothing * (256 - len(colors))
    counts = dict.fromkeys(_PARTS, 0)
    with bar("cutting", len(masks), "images") as progress:
        for ((top, left), mask), part in zip(
            masks.items(), _split(list(masks.values())), strict=True
        ):
            rows, columns = _square(scene, top, left, side)
            pixels, _ = scene.read(rows, columns)
            image = np.zeros((side, side, 3), np.uint8)  # squares at the scene's end are filled up
            image[: rows[1] - top, : columns[1] - left] = pixels.transpose(1, 2, 0)
            name = f"{top:06d}_{left:06d}.png"
            write_image(out / part / "Img" / name, Image.fromarray(image))
            drawn = Image.fromarray(mask)
            drawn.putpalette(palette)
            write_image(out / part / "Label" / name, drawn)
            counts[part] += 1
            progress.advance()
    _write_config(out, dict(zip(names, colors, strict=True)), nothing, scene, side)
    return counts


def _masks(
    shapes: Any, values: Sequence[int], scene: Scene, chip: int
) -> tuple[dict[tuple[int, int], npt.NDArray[np.uint8]], int]:
    """Masks of the squares that have a label on data, by their first row and column.

    And how many have labels only where there is no data.
    """
    tree = STRtree(shapes)
    masks, left_out = {}, 0
    for top in range(0, scene.height, chip):
        for left in range(0, scene.width, chip):
            near = np.sort(tree.query(box(left, top, left + chip, top + chip)))
            if not len(near):
                continue
            mask = rasterize(
                [(shapes[n], values[n]) for n in near],
                (chip, chip),
                fill=255,
                transform=Affine.translation(left, top),
                dtype="uint8",
            )
            mask[scene.height - top :], mask[:, scene.width - left :] = 255, 255
            if (mask == 255).all():
                continue
            rows, columns = _square(scene, top, left, chip)
            valid = None if scene.all_valid else scene.read(rows, columns)[1]
            if valid is not None:
                mask[: valid.shape[0], : valid.shape[1]][~valid] = 255
            if (mask < 255).any():
                masks[top, left] = mask
            else:
                left_out += 1
    return masks, left_out


def _square(scene: Scene, top: int, left: int, chip: int) -> tuple[Span, Span]:
    """Rows and columns of what a square has of the scene."""
    return (top, min(top + chip, scene.height)), (left, min(left + chip, scene.width))


def _on_pixels(labels: geopandas.GeoDataFrame, scene: Scene, patch: int) -> Any:
    """Shapes of labels in the scene's pixels, all of them with an area."""
    if scene.crs is None or labels.crs is None:
        which = scene.name if scene.crs is None else "the labels' file"
        raise UserError(f"{which} has no CRS, so labels have no place: set it with gdal_edit.py")
    pixels = labels.geometry.to_crs(scene.crs.to_wkt())
    pixels = pixels.affine_transform((~scene.transform).to_shapely())
    thin = ~pixels.geom_type.isin(["Polygon", "MultiPolygon"])
    pixels[thin] = pixels[thin].buffer(patch / 2, cap_style="square")
    return pixels.to_numpy()


def _split(masks: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
    """Return a part for each square, in proportion, none of them empty; the same each time.

    Of some orders drawn at random it is the first in which training has the most of the classes,
    then validation and test do.
    """
    classes = [set(np.unique(mask[mask < 255]).tolist()) for mask in masks]
    held = max(1, round(_PARTS["val"] * len(masks)))
    best: tuple[int, int] = (-1, -1)
    for seed in range(_ORDERS):
        order = np.random.default_rng(seed).permutation(len(masks))
        seen = [
            len(set().union(*(classes[number] for number in part)))
            for part in np.split(order, [held, 2 * held])
        ]
        worth = seen[2], seen[0] + seen[1]
        if worth > best:
            best, chosen = worth, order
    parts = dict.fromkeys(chosen[:held], "val") | dict.fromkeys(chosen[held : 2 * held], "test")
    return [parts.get(number, "train") for number in range(len(masks))]


def _write_config(
    out: Path, classes: Mapping[str, RGB], nothing: RGB, scene: Scene, chip: int
) -> None:
    """Write a config that trains the light decoder on the data set."""
    config = {
        "task": "semantic_segmentation",
        "backbone": {"name": "tiny"},
        "data": {
            "root": str(out.resolve()),
            "classes": list(classes),
            # Masks hold indices; with their palettes a map has the labels' colors.
            "colors": [list(color) for color in classes.values()],
            "unlabeled": [list(nothing)],
            "test": "test",
            "gsd": round(float(scene.ground[0]), 4),
            "image_size": chip,
        },
        "decoder": {"kind": "light"},
        "training": {"epochs": 60, "lr": 1e-3},
    }
    make(config)
    write_text(out / "train.yaml", yaml.safe_dump(config, sort_keys=False))
