"""Files of ours that a run leaves to go on from, read so that damage is one kind of error."""

import json
from typing import Any


def json_object(text: bytes | str) -> dict[str, Any]:
    """Return the object that JSON holds.

    Raises:
        ValueError: it is damaged, nested without end, or something else than an object.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested without end") from error
    if not isinstance(content, dict):
        raise ValueError("no object of JSON")
    return content
