"""Files that are whole or not there, written beside their place, then renamed; and locks."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import tempfile
import time
import weakref
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cgeartheye.utils.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

_PIECE = 4096  # bytes
_COMPRESSED = {".jpg", ".jpeg", ".png", ".webp", ".jp2"}  # a change of one pixel moves others
_KINDS = {".jpg": "JPEG", ".png": "PNG"}  # Pillow's names


@contextlib.contextmanager
def replacing(
    path: Path, folder: Path | None = None, errors: tuple[type[Exception], ...] = ()
) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` when the block succeeds.

    The bytes reach the disk before the rename, so a kill or a full disk leaves the old file, or
    none, but never half of a new one. A library that hides a failed write is for the block to
    check: what it raises then is an `OSError` or one of `errors`.

    Args:
        path: of the file.
        folder: for the unfinished file, on the same disk; none: that of `path`. What killed
            processes left in it is removed.
        errors: what else the block may raise if it cannot write.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    folder = folder or path.parent
    caught: tuple[type[Exception], ...] = (OSError, *errors)
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale(folder)
        handle, name = tempfile.mkstemp(
            dir=folder,
            prefix=f".{path.stem}.{_OWN}-{os.getpid()}-",
            suffix=f".partial{path.suffix}",
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
    except caught as error:
        raise UserError(f"cannot write {path}: {_reason(error, folder)}") from error
    finally:
        if temporary is not None:
            for left in [temporary, *folder.glob(f"{glob.escape(temporary.name)}[-.]*")]:
                left.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Remove the unfinished files of `replacing` whose process is gone; looked for once a process.

    Args:
        folder: to look into, not below it.
    """
    if (place := str(folder.resolve())) in _cleaned:
        return
    _cleaned.add(place)
    for path in folder.glob(".*.partial*"):
        if (found := _PARTIAL.search(path.name)) and _is_gone(path, found[1], int(found[2])):
            path.unlink(missing_ok=True)


def _is_gone(path: Path, computer: str, process: int) -> bool:
    if computer != _OWN:  # whether its process lives cannot be known from here
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime > _LONG
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives, and is another user's
        return False
    return False


def _computer() -> str:
    """Return the scope in which process ids are unique: a computer or a container."""
    space = Path("/proc/self/ns/pid")
    text = platform.node() + (os.readlink(space) if space.is_symlink() else "")
    return f"{zlib.crc32(text.encode()):08x}"


_OWN = _computer()
_PARTIAL = re.compile(r"\.([0-9a-f]{8})-(\d+)-[^.]+\.partial(\.|$)")
_LONG = 86_400.0  # seconds without a write after which a file of another computer is given up
_cleaned: set[str] = set()


def _reason(error: Exception, folder: Path) -> str:
    """Return why a file could not be written; libraries seldom report that the disk is full."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    with contextlib.suppress(OSError):
        full = full or shutil.disk_usage(folder).free < _LEAST_FREE
    if full:
        return "the disk is full: make room, then start again"
    text = getattr(error, "strerror", None) or str(error.__cause__ or error)
    return " ".join(text.split())


_LEAST_FREE = 2**16  # bytes; with less no library can write on


def digest(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of files, one behind the other, in hexadecimal digits."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(2**22):
                total.update(piece)
    return total.hexdigest()


def sample(path: Path) -> bytes:
    """Return what changes with a file, but not with its place or times: its size, and some pieces.

    Three of a compressed image. Of other files, whose size tells nothing of a change, 64: all of a
    small one, and of an image without compression some rows of whatever is larger than a 64th.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            pieces = [str(size).encode()]
            last = max(0, size - _PIECE)
            count = 3 if path.suffix.lower() in _COMPRESSED else min(64, -(-size // _PIECE))
            for start in sorted({last * n // max(1, count - 1) for n in range(count)}):
                file.seek(start)
                pieces.append(file.read(_PIECE))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return b"".join(pieces)


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it has just gone
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write a JSON file whole or not at all; see `json_text`.

    Args:
        path: of the file.
        value: of dicts, lists, texts, numbers.
        indent: spaces a level; none: one line.
    """
    write_text(path, json_text(value, indent))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as strict JSON (RFC 8259), which has no NaN and no infinity: these are null.

    Args:
        value: dicts, lists, tuples, texts, numbers, booleans and none.
        indent: spaces a level; none: one line.
    """
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def write_image(path: Path, image: "Image.Image", **options: Any) -> None:
    """Write a picture whole or not at all, in the format of its ending.

    Args:
        path: of the file.
        image: the picture.
        options: of Pillow for the format, such as `quality`.
    """
    # Given a file, Pillow does not see that the disk took a part of the bytes alone.
    stream = io.BytesIO()
    image.save(stream, _KINDS[path.suffix], **options)
    with replacing(path) as temporary:
        temporary.write_bytes(stream.getbuffer())


def lock(path: Path, wait: bool = False) -> IO[str]:
    """Open a file that one process holds until it closes it or ends, however it ends.

    Args:
        path: of the file; its folder is made.
        wait: until another process lets it go.

    Raises:
        BlockingIOError: another process holds it, or this one does.
        UserError: it cannot be written.
    """
    file = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
        _held.add(file)
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        if file is not None:
            file.close()
        raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return file


_held: weakref.WeakSet[IO[str]] = weakref.WeakSet()


def _let_go() -> None:
    for file in _held:
        file.close()


# A forked loader worker outlives a killed training by some seconds, and would keep its locks.
os.register_at_fork(after_in_child=_let_go)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
