"""Files that are either whole or not there: written beside their place, then renamed."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cgeartheye.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block succeeds.

    The bytes reach the disk before the rename, so a kill or a full disk leaves the old file, or
    none, but never half of a new one.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.", suffix=f".partial{path.suffix}"
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # The temporary file is for its owner alone; some writers replace it besides.
        os.chmod(temporary, 0o666 & ~_umask())
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
