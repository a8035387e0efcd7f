"""Damage in vector files that users bring becomes one sentence."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import shapely

from cgeartheye.utils.errors import UserError


@contextmanager
def reading_vectors(path: Path, what: str) -> Iterator[None]:
    """Read a vector file in this context; what its readers warn of is not shown.

    Args:
        path: of the file.
        what: it is to hold, for the message, e.g. `labels`.

    Raises:
        UserError: the file is missing or damaged.
    """
    from pyogrio.errors import DataSourceError  # brings pandas, which not all processes need

    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except UserError:
        raise
    except (DataSourceError, shapely.GEOSException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as {what}: {reason}") from error
