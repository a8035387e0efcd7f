"""What a finished map of objects is handed on as: vectors, a preview and `map.json`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cgeartheye.boxes import Detections
from cgeartheye.geo.pair import AnyScene
from cgeartheye.geo.vector_writer import write_vectors
from cgeartheye.inference.windows import Grid
from cgeartheye.mapping.geotiff import RGB, RawRaster
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.mapping.measure import corners_on_scene, frame_of, measure
from cgeartheye.mapping.outputs.pixels import FACTS, PREVIEW, facts_of, pictures
from cgeartheye.mapping.preview.objects import write_object_preview
from cgeartheye.mapping.sinks.objects import merged
from cgeartheye.utils.io import write_text

SHOWN = 20_000
"""Objects that the preview shows, the best."""


class Counts:
    """Counts objects that pass by, and remembers the best."""

    def __init__(self, classes: int):
        """Begin; `classes` is how many."""
        self.counts = np.zeros(classes, np.int64)
        self.best: Detections | None = None

    def watch(self, chunks: Iterator[Detections]) -> Iterator[Detections]:
        """Hand chunks on."""
        for chunk in chunks:
            self.counts += np.bincount(chunk.labels.numpy(), minlength=len(self.counts))
            seen = Detections.concatenate([self.best, chunk] if self.best else [chunk])
            self.best = seen[seen.scores.argsort(descending=True, stable=True)[:SHOWN]]
            yield chunk


def finish_objects(
    out: Path,
    picture: RawRaster,
    scene: AnyScene,
    grid: Grid,
    ledger: Ledger,
    oriented: bool,
    names: Sequence[str],
    colors: Sequence[RGB],
    vectors: Sequence[str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write all that a map of objects consists of; the same ledger gives the same objects.

    Args:
        out: the folder.
        picture: the scene, small.
        scene: that was mapped.
        grid: it was mapped with.
        ledger: that all was noted in.
        oriented: whether boxes are.
        names: of the classes.
        colors: of the classes.
        vectors: endings of the files; none: GeoPackage.
        settings: all that the map depends on.

    Returns:
        What `map.json` holds, which is written last.

    Raises:
        UserError: a file cannot be written.
    """
    tally = Counts(len(names))
    for number, ending in enumerate(vectors or ("gpkg",)):
        chunks = merged(ledger, grid, oriented)
        if number == 0:
            chunks = tally.watch(chunks)
        frames = (frame_of(chunk, names, scene, grid) for chunk in chunks)
        write_vectors(frames, out / f"map.{ending}", picture.path.parent)
    assert tally.best is not None
    counts = tally.counts.tolist()
    classes = list(zip(names, colors, counts, strict=False))
    on_scene = corners_on_scene(tally.best, grid)
    write_object_preview(
        out / PREVIEW, scene, pictures(picture)[0], classes, on_scene, tally.best,
        measure(on_scene, scene), settings["model_score_threshold"],
    )  # fmt: skip
    facts = {
        **facts_of(scene, grid, settings),
        "kind": "objects",
        "oriented": oriented,
        "overlap_m": grid.window * grid.overlap * min(grid.meters(scene.ground)),
        "mapped_pixels": ledger.finished()[1],
        "objects": sum(counts),
        "classes": [
            {"value": value, "name": name, "colour": color, "objects": count}
            for value, (name, color, count) in enumerate(classes)
        ],
    }
    write_text(out / FACTS, json.dumps(facts, indent=1, ensure_ascii=False))
    return facts
