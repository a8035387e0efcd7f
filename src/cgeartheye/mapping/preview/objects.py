"""The preview of a map of objects: a least score, a legend, and what an object is on a click."""

from collections.abc import Sequence

from cgeartheye.boxes import Detections
from cgeartheye.geo.reader import Bytes
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.measure import Size
from cgeartheye.mapping.polygonize import Reals
from cgeartheye.mapping.preview.page import write_page


def write_object_preview(
    job: MapJob,
    picture: Bytes,
    counts: Sequence[int],
    corners: Reals,
    preds: Detections,
    size: Size,
) -> None:
    """Write the page.

    Args:
        job: the map.
        picture: of the scene, uint8 `[H, W, 3]`.
        counts: how many objects the map has, by label.
        corners: of the objects that are shown, in pixels of the scene, `[n, 4, 2]`.
        preds: their scores and labels.
        size: theirs, on the ground.

    Raises:
        UserError: it cannot be written.
    """
    oriented = preds.boxes.shape[1] == 5
    headings = None if size.heading is None or not oriented else size.heading.round(1).tolist()
    objects = {
        "corners": corners.round(1).ravel().tolist(),
        "labels": preds.labels.tolist(),
        "scores": preds.scores.double().numpy().round(3).tolist(),
        "lengths": size.length.round(2).tolist(),
        "widths": size.width.round(2).tolist(),
        "headings": headings,
    }
    facts = {
        "objects": objects,
        "total": sum(counts),
        "score": job.settings["model_score_threshold"],
    }
    legend = list(zip(job.classes, job.colors, counts, strict=False))
    write_page(job, "objects.html", [picture], facts, legend=legend)
