"""The style of a map in QGIS: the names and colors of its classes, and no more than there are.

The color table of a TIFF of 8 bits has 256 entries, which QGIS lists one and all; a style beside it
comes first.
"""

from cgeartheye.mapping.job import MapJob
from cgeartheye.utils.templates import render

STYLE = "map.qml"


def style_qml(job: MapJob, outlines: bool = False) -> str:
    """Return the style of a map as QGIS reads it from `map.qml`.

    Args:
        job: the map.
        outlines: whether polygons are drawn as outlines, as objects are, not filled.
    """
    entries = [
        {
            "value": value,
            "name": name,
            "hex": "#{:02x}{:02x}{:02x}".format(*color),
            "rgb": ",".join(map(str, color)),
            "hidden": value in job.clear,
        }
        for value, (name, color) in enumerate(zip(job.classes, job.colors, strict=False))
    ]
    return render(__package__, "style.qml", entries=entries, outlines=outlines)
