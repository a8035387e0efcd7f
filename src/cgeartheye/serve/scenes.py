"""Scenes of a server: uploads, and the rasters of folders and addresses that the operator names.

A scene has an id of ours, and nothing else names it: no route takes a path or an address.
"""

import hashlib
import ipaddress
import itertools
import json
import os
import re
import secrets
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.concurrency import run_in_threadpool

from cgeartheye.geo.remote import (
    address_of,
    driver_of,
    forget,
    is_remote,
    list_rasters,
    signature,
)
from cgeartheye.geo.vrt import file_signature
from cgeartheye.serve.inspect import MAGIC, describe, describe_safely
from cgeartheye.serve.problems import Problem
from cgeartheye.serve.settings import Settings
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.events import log_event
from cgeartheye.utils.io import folder_bytes, write_json

_SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg"})
_ID = r"[0-9a-f]{24}"
_AT_ONCE = 16  # of a bucket's scenes that are looked at
_LOOKED_AT = 2  # uploads at a time: each may take `inspect.MEMORY` and minutes
_LISTED_SECONDS = 60.0  # for which a bucket, or a file at an address, is taken to be unchanged


@dataclass(frozen=True)
class ServedScene:
    """A scene of a server.

    Attributes:
        id: 24 hexadecimal digits.
        label: its name for people, as it was uploaded.
        owner: who uploaded it; empty: the operator's, for everybody.
        path: of the file, which no answer names.
        facts: see `inspect.describe`.
    """

    id: str
    label: str
    owner: str
    path: Path
    facts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return what an answer has of it."""
        uploaded = bool(self.owner)
        return {"id": self.id, "label": self.label, "uploaded": uploaded, **self.facts}


@dataclass(frozen=True)
class LeftOut:
    """A raster of the operator's that cannot be mapped.

    Attributes:
        label: its name for people.
        reason: a sentence, with the fix.
    """

    label: str
    reason: str


class Scenes:
    """The scenes of a server."""

    def __init__(self, settings: Settings):
        """Take the settings; uploads that were not finished are removed."""
        self._settings = settings
        self._looking = CapacityLimiter(_LOOKED_AT)
        self._known: dict[tuple[Path, int | str, int | str], ServedScene | LeftOut] = {}
        self._listed: dict[Path, tuple[float, list[Path]]] = {}  # by address: when, and what
        self._places: dict[str, tuple[Path, Path]] = {}  # by id: file and folder of the operator's
        settings.uploads.mkdir(parents=True, exist_ok=True)
        for partial in settings.uploads.glob("*.partial"):
            partial.unlink(missing_ok=True)

    def visible(self, owner: str | None) -> list[ServedScene]:
        """Return the scenes that somebody may see, by label.

        Args:
            owner: who; none: all scenes.
        """
        return self.overview(owner)[0]

    def overview(self, owner: str | None) -> tuple[list[ServedScene], list[LeftOut]]:
        """Return the scenes that somebody may see, and the operator's rasters that are none.

        Args:
            owner: who; none: all scenes.
        """
        looked_at = self._of_folders()
        found = [*(one for one in looked_at if isinstance(one, ServedScene)), *self._uploaded()]
        seen = [s for s in found if owner is None or s.owner in ("", owner)]
        left_out = [one for one in looked_at if isinstance(one, LeftOut)]
        return sorted(seen, key=lambda scene: (scene.label, scene.id)), left_out

    def version(self, scene: ServedScene) -> str:
        """Return what changes when the file of a scene does."""
        return "-".join(map(str, file_signature([scene.path])[0][1:]))

    def get(self, scene: str, owner: str | None) -> ServedScene:
        """Return a scene.

        Args:
            scene: its id.
            owner: who asks; none: anybody.

        Raises:
            Problem: 404: there is none, or it is another's.
        """
        if re.fullmatch(_ID, scene):
            path = self._settings.uploads / f"{scene}.json"
            uploaded = self._read(path) if path.exists() else None
            if uploaded and (owner is None or uploaded.owner in ("", owner)):
                return uploaded
            place = self._places.get(scene)
            if place is None or not self._is_there(*place):
                self._of_folders()  # a new one, or one that has gone
                place = self._places.get(scene)
            found = place and self._is_there(*place) and self._look_at(*place)
            if isinstance(found, ServedScene):
                return found
            if isinstance(found, LeftOut):
                raise Problem(404, found.reason)
        raise Problem(404, "there is no scene of this id: GET /scenes has the ids")

    async def upload(self, label: str, owner: str, chunks: AsyncIterator[bytes]) -> ServedScene:
        """Take a file, piece by piece, and look at it.

        Args:
            label: name of the file for people; it names no file here.
            owner: who uploads.
            chunks: of the file.

        Raises:
            Problem: 413, 415, 422 or 507: too large, no raster, of nowhere, or no room.
        """
        settings, scene = self._settings, secrets.token_hex(12)
        partial = settings.uploads / f"{scene}.partial"
        size = 0
        try:
            with partial.open("xb") as file:
                async for chunk in chunks:
                    if chunk and not size and not chunk.startswith(MAGIC):
                        raise Problem(415, "send a GeoTIFF, PNG, JPEG or JPEG 2000")
                    size += len(chunk)
                    if size > settings.max_upload:
                        limit = settings.max_upload / 2**20
                        raise Problem(413, f"the file is larger than {limit:,.0f} MB")
                    await run_in_threadpool(file.write, chunk)
                file.flush()
                await run_in_threadpool(os.fsync, file.fileno())
            if not size:
                raise Problem(400, "the file is empty")
            facts = await run_sync(describe_safely, partial, limiter=self._looking)
            path = settings.uploads / f"{scene}.tif"
            partial.rename(path)
        except OSError as error:
            raise Problem(507, f"the file cannot be kept: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)
        made = ServedScene(scene, _clean(label), owner, path, facts)
        write_json(path.with_suffix(".json"), {**asdict(made), "path": path.name})
        return made

    def disk_bytes(self) -> int:
        """Return the size of all uploads."""
        return folder_bytes(self._settings.uploads)

    def remove(self, scene: ServedScene) -> None:
        """Delete an upload.

        Raises:
            Problem: 403: it is the operator's.
        """
        if scene.path.parent != self._settings.uploads:
            raise Problem(403, "scenes of the operator's folders are read only")
        for path in scene.path.parent.glob(f"{scene.id}.*"):
            path.unlink(missing_ok=True)

    def _uploaded(self) -> list[ServedScene]:
        found = (self._read(path) for path in self._settings.uploads.glob("*.json"))
        return [scene for scene in found if scene]

    def _read(self, path: Path) -> ServedScene | None:
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            scene = ServedScene(**{**fields, "path": path.with_name(Path(fields["path"]).name)})
        except (OSError, ValueError, TypeError, KeyError):
            return None  # of a file system that lost a part: the scene is gone
        return scene if scene.path.exists() else None

    def _of_folders(self) -> list[ServedScene | LeftOut]:
        found: list[ServedScene | LeftOut | None] = []
        for folder in self._settings.scene_folders:
            if is_remote(folder):
                with ThreadPoolExecutor(_AT_ONCE) as pool:
                    found += pool.map(self._look_at, self._at(folder), itertools.repeat(folder))
                continue
            root = folder.resolve()
            for path in sorted(root.rglob("*")):
                if path.suffix.lower() in _SUFFIXES and path.is_file():
                    real = path.resolve()
                    if real.is_relative_to(root):  # a link may lead elsewhere
                        found.append(self._look_at(real, root))
        return [one for one in found if one]

    def _at(self, address: Path) -> list[Path]:
        """Return the rasters at an address, which is asked now and then."""
        asked, paths = self._listed.get(address, (-_LISTED_SECONDS, []))
        if time.monotonic() - asked > _LISTED_SECONDS:
            try:
                refuse_private(address_of(address))
                paths = list_rasters(address, _SUFFIXES)
                for path in paths:
                    if len(paths) == 1:
                        forget(path)
                    signature(path)  # refuses what leads elsewhere
            except UserError as error:
                log_event("scenes away", message=str(error))
                paths = []
            self._listed[address] = time.monotonic(), paths
        return paths

    def _is_there(self, path: Path, root: Path) -> bool:
        return path in self._at(root) if is_remote(root) else path.is_file()

    def _look_at(self, path: Path, root: Path) -> ServedScene | LeftOut | None:
        """Describe a file of the operator's; why one cannot be mapped is logged once."""
        try:
            key = path, *file_signature([path])[0][1:]
        except (OSError, UserError):
            return None  # it has just gone
        if key not in self._known:
            if path == root:
                label = address_of(path).partition("?")[0].rsplit("/", 1)[-1]
            else:
                label = path.relative_to(root).as_posix()
            digest = hashlib.sha256(f"{root}/{label}".encode()).hexdigest()[:24]
            self._places[digest] = path, root
            try:
                facts = describe(path, label, driver_of(path))
                self._known[key] = ServedScene(digest, label, "", path, facts)
            except UserError as error:
                reason = str(error).replace(str(path), label)
                self._known[key] = LeftOut(label, reason)
                log_event("scene left out", scene=label, message=reason)
        return self._known[key]


def refuse_private(address: str) -> None:
    """Refuse a name that leads into a private network, which its owner could have it do any time.

    Args:
        address: of the operator; one that names a private address itself is meant so.

    Raises:
        UserError: it does, or it leads nowhere.
    """
    host = urlsplit(address).hostname or ""
    if address.startswith("s3://") or host == "localhost" or _is_number(host):
        return
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise UserError(f"{address} leads nowhere: {error}") from error
    if not all(ipaddress.ip_address(one).is_global for one in found):
        raise UserError(
            f"{address} leads to a private address: name the address itself if that is meant"
        )


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _clean(label: str) -> str:
    """Leave of a name what can be shown: no folders, no control characters."""
    name = re.split(r"[/\\]", label)[-1]
    return "".join(char for char in name if char.isprintable())[:120] or "scene"
