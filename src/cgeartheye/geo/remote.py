"""Rasters at addresses, `s3://` and `https://`: GDAL reads them in parts, obstore lists and writes.

An address becomes a path of GDAL's virtual file system, `/vsis3/BUCKET/KEY` or `/vsicurl?url=...`,
so that what takes files takes addresses too. Credentials, region and endpoint are those of the
usual variables: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`; of
a public bucket `AWS_NO_SIGN_REQUEST=YES`.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from cgeartheye.utils.errors import UserError

_S3, _HTTP = "/vsis3/", "/vsicurl?empty_dir=yes&url="
_MANIFEST = "map.json"  # is written last: who finds it finds all
_WAYS_TO_SIGN = (
    "AWS_ACCESS_KEY_ID",
    "AWS_NO_SIGN_REQUEST",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_DRIVERS = {
    ".tif": "GTiff",
    ".tiff": "GTiff",
    ".jp2": "JP2OpenJPEG",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
}
_known: dict[Path, tuple[int, str]] = {}  # size and tag of what was listed


def as_path(text: str) -> Path:
    """Return a path, or what GDAL opens for an address.

    Args:
        text: a path, `s3://BUCKET/KEY`, `https://...` or `http://...`.
    """
    if text.startswith("s3://"):
        return Path(_S3 + text.removeprefix("s3://"))
    if text.startswith(("https://", "http://")):
        return Path(_HTTP + quote(text, safe=""))
    return Path(text)


def is_remote(path: Path) -> bool:
    """Whether a path is that of an address."""
    return str(path).startswith((_S3, _HTTP))


def address_of(path: Path) -> str:
    """Return the address of a path, or the path."""
    text = str(path)
    if text.startswith(_S3):
        return "s3://" + text.removeprefix(_S3)
    return unquote(text.removeprefix(_HTTP))


def driver_of(path: Path) -> str | None:
    """Return GDAL's driver that alone may open what is at an address; none: any, as of a file.

    What an address holds may change: as a VRT, whatever it is called, it would open other files.
    """
    return _DRIVERS.get(path.suffix.lower()) if is_remote(path) else None


def gdal_options(paths: Iterable[Path]) -> dict[str, str]:
    """Return options of GDAL for opening rasters, if some are at addresses.

    For each that it opens GDAL would list what is beside it, of a bucket a thousand keys.
    """
    if any(map(is_remote, paths)):
        return {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    return {}


def prepare_gdal() -> None:
    """Tell GDAL how long to wait, and the endpoint that others find in `AWS_ENDPOINT_URL`."""
    os.environ.setdefault("GDAL_HTTP_CONNECTTIMEOUT", "10")
    os.environ.setdefault("GDAL_HTTP_TIMEOUT", "60")
    os.environ.setdefault("GDAL_HTTP_MAX_RETRY", "3")
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        parts = urlsplit(endpoint)
        os.environ["AWS_S3_ENDPOINT"] = parts.netloc
        os.environ["AWS_HTTPS"] = "YES" if parts.scheme == "https" else "NO"
        os.environ.setdefault("AWS_VIRTUAL_HOSTING", "FALSE")


def list_rasters(path: Path, suffixes: frozenset[str]) -> list[Path]:
    """Return a raster at an address, or all below a prefix of a bucket, sorted.

    Args:
        path: of `as_path`.
        suffixes: of rasters.

    Raises:
        UserError: no credentials, no such bucket, or no raster below the prefix.
    """
    prepare_gdal()
    if not str(path).startswith(_S3) or path.suffix.lower() in suffixes:
        _refuse_unsigned(path)
        return [path]
    found = []
    with open_store(path) as (store, bucket, key):
        for page in store.list(f"{key.rstrip('/')}/" if key else None):
            for entry in page:
                one = Path(f"{_S3}{bucket}/{entry['path']}")
                if one.suffix.lower() in suffixes:
                    _known[one] = entry["size"], entry["e_tag"] or ""
                    found.append(one)
    if not found:
        raise UserError(f"{address_of(path)} holds no rasters ({', '.join(sorted(suffixes))})")
    return sorted(found)


def signature(path: Path) -> tuple[str, int, str]:
    """Return the identity of the object at an address: address, size and tag.

    Raises:
        UserError: there is none, or nothing answers.
    """
    if path not in _known:
        if str(path).startswith(_S3):
            with open_store(path) as (store, _, key):
                entry = store.head(key)
                _known[path] = entry["size"], entry["e_tag"] or ""
        else:
            _known[path] = _head(address_of(path))
    return address_of(path), *_known[path]


def forget(path: Path) -> None:
    """Have `signature` look again."""
    _known.pop(path, None)


def _head(address: str) -> tuple[int, str]:
    """Return size and tag of what is at an address of HTTP; one that leads elsewhere is refused."""
    import urllib.error
    import urllib.request

    class Refusing(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.build_opener(Refusing).open(request, timeout=20) as answer:
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            return int(answer.headers.get("Content-Length") or 0), tag
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            raise UserError(
                f"{address} leads to another address (HTTP {error.code}): name that one"
            ) from error
        raise UserError(f"{address} cannot be read: HTTP {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{address} does not answer: {error}") from error


@contextmanager
def local_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write a map into; one at an address is written when the block ends.

    The folder on this machine stays until all is written, so that what was interrupted can be
    resumed. An object appears whole or not at all, `map.json` last.

    Args:
        out: a path, or that of an address.

    Raises:
        UserError: no credentials, no such bucket, a map that is there already, or an object that
            cannot be written.
    """
    if not is_remote(out):
        yield out
        return
    with open_store(out) as (store, _, key):
        if any(entry["path"] == f"{key}/{_MANIFEST}" for page in store.list(key) for entry in page):
            raise UserError(f"{address_of(out)} holds a map already: name another key")
    folder = cache_folder(out)
    yield folder
    from cgeartheye.utils.console import bar, log_info

    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths.sort(key=lambda path: path == folder / _MANIFEST)
    with bar("writing", len(paths), "files") as progress:
        for path in paths:
            with open_store(out) as (store, _, key), path.open("rb") as file:
                store.put(f"{key}/{path.relative_to(folder).as_posix()}", file)
            progress.advance()
    log_info(f"map: {address_of(out)}")
    shutil.rmtree(folder.parent, ignore_errors=True)


def cache_folder(out: Path) -> Path:
    """Return the folder of this machine in which what is to be at an address is made."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(str(out).encode()).hexdigest()[:16]
    return cache / "cgeartheye" / "maps" / name / out.name


@contextmanager
def open_store(path: Path) -> Iterator[tuple[Any, str, str]]:
    """Yield a store of obstore's, the bucket and the key; turn what goes wrong into a sentence.

    Args:
        path: of `as_path`, of an address of S3.

    Raises:
        UserError: no obstore, no credentials, or what the server answers.
    """
    if not str(path).startswith(_S3):
        raise UserError(f"{address_of(path)} cannot be written: name a folder, or s3://BUCKET/KEY")
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError as error:
        raise UserError("s3:// needs obstore: pip install 'cgeartheye[s3]'") from error
    _refuse_unsigned(path)
    bucket, _, key = str(path).removeprefix(_S3).partition("/")
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    try:
        store = S3Store(
            bucket,
            client_options={"allow_http": plain, "timeout": "120s", "connect_timeout": "10s"},
            retry_config={"max_retries": 3},
            skip_signature="AWS_NO_SIGN_REQUEST" in os.environ,
        )
        yield store, bucket, key
    except (BaseError, FileNotFoundError) as error:  # what is not there is no error of obstore's
        raise UserError(_reason(address_of(path), bucket, str(error))) from error


def _reason(address: str, bucket: str, text: str) -> str:
    for mark, words in (
        ("NoSuchBucket", f"there is no bucket {bucket}: correct the name, or AWS_ENDPOINT_URL"),
        ("InvalidAccessKeyId", "the credentials are unknown there: see AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "the credentials are wrong: see AWS_SECRET_ACCESS_KEY"),
        ("403", f"the credentials may not do that in bucket {bucket}"),
        ("404", "there is no such object"),
    ):
        if mark in text:
            return f"{address} cannot be used: {words}"
    return f"{address} cannot be used: {' '.join(text.split())[:200]}"


def _refuse_unsigned(path: Path) -> None:
    """Refuse an address of S3 without credentials: libraries would look for minutes."""
    if str(path).startswith(_S3) and not any(name in os.environ for name in _WAYS_TO_SIGN):
        raise UserError(
            f"{address_of(path)} needs credentials: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_NO_SIGN_REQUEST=YES for a public bucket"
        )
