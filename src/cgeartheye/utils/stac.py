"""Parts of STAC that the cards of models and the Items of maps have in common."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cgeartheye.utils.colors import RGB


def now() -> str:
    """Return the time in UTC as STAC writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def class_objects(names: Sequence[str], colors: Sequence[RGB]) -> list[dict[str, Any]]:
    """Return the Class Objects of the classification extension, v2.0.0.

    Args:
        names: of the classes, by value.
        colors: of the classes, 0..255.
    """
    return [
        {
            "value": value,
            "name": _code(name),
            "description": name,
            "color_hint": "".join(f"{share:02X}" for share in color),
        }
        for value, (name, color) in enumerate(zip(names, colors, strict=False))
    ]


def _code(name: str) -> str:
    """Return a class's name in the letters that the classification extension allows."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name) or "_"
