"""The files of a finished map of objects: vectors, a preview and `map.json`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cgeartheye.boxes import Detections
from cgeartheye.geo.vector_writer import write_vectors
from cgeartheye.inference.merge_boxes import Merger
from cgeartheye.inference.windows import Grid
from cgeartheye.mapping.job import FACTS, MapJob
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.mapping.measure import corners_on_scene, frame_of, measure
from cgeartheye.mapping.outputs.stac import write_item
from cgeartheye.mapping.preview.objects import write_object_preview
from cgeartheye.mapping.sinks.detection_filter import tiling_of, unpack
from cgeartheye.mapping.style import STYLE, style_qml
from cgeartheye.mapping.thumbnail import Thumbnail
from cgeartheye.utils.io import write_json, write_text

SHOWN = 20_000
"""Objects that the preview shows, the best."""

_CHUNK = 50_000  # objects that are handed on at a time, or those of a row of windows if more


class Counts:
    """Counts objects that pass by, and remembers the best."""

    def __init__(self, classes: int):
        """Begin; `classes` is how many."""
        self.counts = np.zeros(classes, np.int64)
        self.best: Detections | None = None

    def count(self, chunks: Iterator[Detections]) -> Iterator[Detections]:
        """Yield the same chunks, which are counted on the way."""
        for chunk in chunks:
            self.counts += np.bincount(chunk.labels.numpy(), minlength=len(self.counts))
            seen = Detections.concatenate([self.best, chunk] if self.best else [chunk])
            self.best = seen[seen.scores.argsort(descending=True, stable=True)[:SHOWN]]
            yield chunk


def finish_objects(
    job: MapJob, ledger: Ledger, oriented: bool, thumbnail: Thumbnail
) -> dict[str, Any]:
    """Write all that a map of objects consists of; the same ledger gives the same objects.

    Args:
        job: the map.
        ledger: that all was noted in.
        oriented: whether boxes are.
        thumbnail: the scene, small.

    Returns:
        What `map.json` holds, which is written last.

    Raises:
        UserError: a file cannot be written.
    """
    scene, grid, names = job.scene, job.grid, job.classes
    counted = Counts(len(names))
    qml = style_qml(job, outlines=True)
    write_text(job.out / STYLE, qml)
    for number, ending in enumerate(job.options.vector_format or ("gpkg",)):
        chunks = merged(ledger, grid, oriented)
        if number == 0:
            chunks = counted.count(chunks)
        frames = (frame_of(chunk, names, scene, grid) for chunk in chunks)
        write_vectors(frames, job.out / f"map.{ending}", job.work, qml)
    assert counted.best is not None
    counts = counted.counts.tolist()
    on_scene = corners_on_scene(counted.best, grid)
    size = measure(on_scene, scene)
    write_object_preview(job, thumbnail.pictures()[0], counts, on_scene, counted.best, size)
    facts = {
        **job.describe(),
        "kind": "objects",
        "oriented": oriented,
        "overlap_m": grid.window * grid.overlap * min(grid.meters(scene.ground)),
        "mapped_pixels": ledger.finished()[1],
        "objects": sum(counts),
        "classes": [
            {"value": value, "name": name, "color": color, "objects": count}
            for value, (name, color, count) in enumerate(
                zip(names, job.colors, counts, strict=False)
            )
        ],
    }
    write_item(job, "objects")
    write_json(job.out / FACTS, facts)
    return facts


def merged(ledger: Ledger, grid: Grid, oriented: bool) -> Iterator[Detections]:
    """Yield the objects of a finished map, in the same order each time, in chunks.

    Held are those of the rows of windows that overlap, whatever the scene.

    Args:
        ledger: of the map.
        grid: of the map.
        oriented: whether boxes are.

    Yields:
        Boxes float64 in pixels of the model's grid; at least one chunk, maybe of none.
    """
    tiling = tiling_of(grid)
    merger = Merger(tiling)
    held = [Detections.none(5 if oriented else 4)]
    count = len(tiling.tops)
    for row in range(count):
        column = 0
        for number, band in enumerate(grid.bands):
            for place, data in ledger.found(number * count + row):
                merger.add(row, column + place, unpack(data, oriented))
            column += len(band.starts)
        held += merger.take(row + 1)
        if sum(map(len, held)) >= _CHUNK:
            yield Detections.concatenate(held)
            held = []
    if held:
        yield Detections.concatenate(held)
