"""A map over its scene as one HTML file: pan, zoom, opacity, legend; no network."""

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from PIL import Image

from cgeartheye.geo.reader import Bytes
from cgeartheye.mapping.geotiff import RGB
from cgeartheye.mapping.preview.page import (
    DATES,
    DIVIDER,
    PAGE,
    PIXELS_CONTROLS,
    PIXELS_LAYER,
    PIXELS_SCRIPT,
)
from cgeartheye.utils.io import write_text


class Entry(NamedTuple):
    """A class in the legend.

    Attributes:
        name: of the class.
        color: of the class.
        share: of the mapped area, percent.
        area: km².
    """

    name: str
    color: RGB
    share: float
    area: float


def write_preview(
    path: Path,
    title: str,
    pictures: Sequence[Bytes],
    dates: Sequence[str],
    classes: Bytes,
    legend: Sequence[Entry],
    place: tuple[Affine, str] | None,
    shape: tuple[int, int],
    extent: tuple[float, float],
) -> None:
    """Write the page.

    Args:
        path: where to.
        title: the scene's name.
        pictures: of the scene, uint8 `[H, W, 3]`, or of its two dates.
        dates: none, or what the two are called; class 0, nothing changed, is then clear.
        classes: uint8 `[h, w]` over the same extent; what is not in the legend is clear.
        legend: classes by value.
        place: from the scene's pixels to the map, and the name of its reference system.
        shape: rows and columns of the scene.
        extent: rows and columns of the scene that the map covers: cells may stand out.

    Raises:
        UserError: it cannot be written.
    """
    colors = np.zeros((256, 4), np.uint8)
    for value, entry in enumerate(legend):
        colors[value] = (*entry.color, 255)
    rows = "".join(
        f'<tr data-value="{value}" title="click: show only this class"><td>'
        f'<i style="background: rgb{entry.color}"></i></td>'
        f"<td>{html.escape(entry.name)}</td><td>{entry.share:.1f} %</td>"
        f"<td>{_area(entry.area)}</td></tr>"
        for value, entry in enumerate(legend)
    )
    facts = {
        **place_facts(place, shape),
        "mapWidth": extent[1],
        "mapHeight": extent[0],
        "clear": [0] if dates else [],
    }
    script = {"MAP": embed(_palette_png(classes, colors), "PNG", optimize=True)}
    parts = {
        "LEGEND": rows,
        "LAYER": PIXELS_LAYER,
        "CONTROLS": PIXELS_CONTROLS,
        "SCRIPT": fill(PIXELS_SCRIPT, script),
        "OVER": "",
        "DATES": "",
    }
    if dates:
        called = {"BEFORE": html.escape(dates[0]), "AFTER": html.escape(dates[1])}
        parts |= {"OVER": fill(DIVIDER, called), "DATES": fill(DATES, called)}
    write_page(path, title, pictures, facts, parts)


def write_page(
    path: Path,
    title: str,
    pictures: Sequence[Bytes],
    facts: Mapping[str, Any],
    parts: Mapping[str, str],
) -> None:
    """Write a page of any kind of map.

    Args:
        path: where to.
        title: the scene's name.
        pictures: of the scene, uint8 `[H, W, 3]`, or of its two dates.
        facts: see `place_facts`, and what the script needs besides.
        parts: what fills the page's other gaps, as HTML.

    Raises:
        UserError: it cannot be written.
    """
    names = ("scene", "later")[: len(pictures)]
    images = "".join(
        f'<img id="{name}" alt="" src="{embed(Image.fromarray(picture), "JPEG", quality=82)}">'
        for name, picture in zip(names, pictures, strict=True)
    )
    own = {"TITLE": html.escape(title), "SCENES": images, "FACTS": script_json(facts)}
    write_text(path, fill(PAGE, {**own, **parts}))


def place_facts(place: tuple[Affine, str] | None, shape: tuple[int, int]) -> dict[str, Any]:
    """Return what the page's script needs to know of a scene's place.

    Args:
        place: from the scene's pixels to the map, and the name of its reference system.
        shape: rows and columns of the scene.
    """
    return {
        "transform": list(place[0][:6]) if place else None,
        "crs": place[1] if place else "pixels",
        "width": shape[1],
        "height": shape[0],
    }


def script_json(value: Any) -> str:
    """Return a value as JSON that may stand in a page's script."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def fill(text: str, parts: Mapping[str, str]) -> str:
    """Replace each `@NAME@`; what stands in its place is not looked at again."""
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], text)


def _palette_png(classes: Bytes, colors: Bytes) -> Image.Image:
    image = Image.frombytes("P", classes.shape[::-1], classes.tobytes())
    image.putpalette(colors.tobytes(), "RGBA")
    return image


def embed(image: Image.Image, kind: str, **options: int) -> str:
    """Return a picture as the address of its own bytes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _area(km2: float) -> str:
    if km2 >= 0.1:
        return f"{km2:,.2f} km²"
    return f"{km2 * 1e6:,.0f} m²"
