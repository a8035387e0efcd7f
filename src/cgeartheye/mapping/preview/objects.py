"""Objects over their scene as one HTML file: pan, zoom, a least score, legend; no network."""

import html
from collections.abc import Sequence
from pathlib import Path

from cgeartheye.boxes import Detections
from cgeartheye.geo.pair import AnyScene
from cgeartheye.geo.reader import Bytes
from cgeartheye.mapping.geotiff import RGB
from cgeartheye.mapping.measure import Size
from cgeartheye.mapping.polygonize import Reals
from cgeartheye.mapping.preview.objects_page import CONTROLS, OVER, SCRIPT
from cgeartheye.mapping.preview.pixels import place_facts, write_page


def write_object_preview(
    path: Path,
    scene: AnyScene,
    picture: Bytes,
    classes: Sequence[tuple[str, RGB, int]],
    corners: Reals,
    preds: Detections,
    size: Size,
    score: float,
) -> None:
    """Write the page.

    Args:
        path: where to.
        scene: that was mapped.
        picture: of it, uint8 `[H, W, 3]`.
        classes: name and colour by label, and how many objects the map has of it.
        corners: of the objects that are shown, in pixels of the scene, `[n, 4, 2]`.
        preds: their scores and labels.
        size: theirs, on the ground.
        score: from which on they are shown at first.

    Raises:
        UserError: it cannot be written.
    """
    place = (scene.transform, scene.crs.to_string()) if scene.crs else None
    oriented = preds.boxes.shape[1] == 5
    objects = {
        "corners": corners.round(1).ravel().tolist(),
        "labels": preds.labels.tolist(),
        "scores": preds.scores.double().numpy().round(3).tolist(),
        "lengths": size.length.round(2).tolist(),
        "widths": size.width.round(2).tolist(),
        "headings": None
        if size.heading is None or not oriented
        else size.heading.round(1).tolist(),
    }
    legend = "".join(
        f'<tr title="click: show only this class"><td><i style="background: rgb{color}"></i></td>'
        f"<td>{html.escape(name)}</td><td>{count:,}</td></tr>"
        for name, color, count in classes
    )
    facts = {
        **place_facts(place, (scene.height, scene.width)),
        "objects": objects,
        "total": sum(count for _, _, count in classes),
        "score": score,
    }
    parts = {
        "LEGEND": legend,
        "LAYER": "",
        "OVER": OVER,
        "DATES": "",
        "CONTROLS": CONTROLS,
        "SCRIPT": SCRIPT,
    }
    write_page(path, scene.title, [picture], facts, parts)
