"""The page of a map over its scene, one HTML file: pan, zoom, legend; no network."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from PIL import Image

from cgeartheye.mapping.job import PREVIEW, MapJob
from cgeartheye.utils.io import write_text
from cgeartheye.utils.templates import render


def write_page(
    job: MapJob,
    template: str,
    pictures: list[npt.NDArray[Any]],
    facts: Mapping[str, Any],
    **values: Any,
) -> None:
    """Write the page of any kind of map.

    Args:
        job: the map.
        template: that extends `page.html`.
        pictures: of the scene, uint8 `[H, W, 3]`, or of its two dates.
        facts: that the page's script needs besides the scene's place.
        values: that the template needs.

    Raises:
        UserError: it cannot be written.
    """
    scene = job.scene
    place = {
        "transform": list(scene.transform[:6]) if scene.crs else None,
        "crs": scene.crs.to_string() if scene.crs else "pixels",
        "width": scene.width,
        "height": scene.height,
        "ground": scene.ground,
    }
    images = [embed(Image.fromarray(picture), "JPEG", quality=82) for picture in pictures]
    page = render(
        __package__,
        template,
        title=scene.title,
        pictures=images,
        facts={**place, **facts},
        **values,
    )
    write_text(job.out / PREVIEW, page)


def embed(image: Image.Image, kind: str, **options: int) -> str:
    """Return a picture as the address of its own bytes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
