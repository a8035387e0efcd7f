"""Structured logs: events of long-running services as lines of JSON on standard error."""

import sys
from datetime import UTC, datetime

from cgeartheye.utils.io import json_text


def log_event(event: str, **fields: object) -> None:
    """Print an event as a line of JSON.

    Args:
        event: what happened, in a word or two.
        fields: facts of it: texts, numbers, none.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json_text({"time": now, "event": event, **fields}), file=sys.stderr, flush=True)
