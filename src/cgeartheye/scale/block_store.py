"""Finished blocks in a bucket, where workers share no folder with whoever makes the map of them.

KEY/unfinished/plan.json                    what the blocks follow from
KEY/unfinished/00000000-00000012/TOKEN/     a parcel (see `mapping.parcels`) of one attempt
KEY/unfinished/00000000-00000012.json       written last: the token of the parcel that counts
"""

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cgeartheye.geo.reader import Span
from cgeartheye.geo.remote import address_of, open_store
from cgeartheye.mapping.blocks import LEDGER, block_name, plan_path
from cgeartheye.mapping.job import FACTS, UNFINISHED, MapJob
from cgeartheye.mapping.ledger import check_same
from cgeartheye.mapping.parcels import MANIFEST, unpack_block
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import json_text
from cgeartheye.utils.state import json_object

_SETTINGS, _PLAN = "settings.json", "plan.json"


class BlockStore:
    """The unfinished blocks of one map."""

    def __init__(self, out: Path):
        """Take a place; nothing is asked of it yet.

        Args:
            out: of `remote.as_path`, where the map will be.
        """
        self.out = out
        self._place = out / UNFINISHED

    def begun(self) -> bool:
        """Return whether blocks were planned there.

        Raises:
            UserError: see `remote.open_store`; so for all that follows.
        """
        return self._read(_PLAN) is not None

    def is_made(self, job: MapJob) -> bool:
        """Return whether the map of the blocks is there.

        Raises:
            UserError: another map is.
        """
        facts = self._read(FACTS, self.out)
        if facts is not None:
            check_same(json_object(facts)["settings"], job.settings, address_of(self.out))
        return facts is not None

    def share_plan(self, job: MapJob) -> None:
        """Take the plan that is there to this machine, or put the one of this machine there.

        Args:
            job: the map; without a plan in either place nothing is done.

        Raises:
            UserError: the plan that is there is of another map.
        """
        path = plan_path(job)
        plan = self._read(_PLAN)
        if plan is not None:
            begun = json_object(self._read(_SETTINGS) or b"{}")
            check_same(begun, job.settings, address_of(self.out))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(plan)
        elif path.exists():
            self._put(_SETTINGS, json_text(job.settings).encode())
            self._put(_PLAN, path.read_bytes())

    def has(self, block: Span) -> bool:
        """Return whether a block is there."""
        return self._read(f"{block_name(block)}.json") is not None

    def put(self, block: Span, parcel: Path) -> None:
        """Write a parcel under a name of its own, then that this is the block.

        Whoever maps the same block at the same time writes another; both have the same pixels.

        Args:
            block: that is finished.
            parcel: folder of it.
        """
        token = secrets.token_hex(8)
        for path in sorted(parcel.iterdir()):
            with path.open("rb") as file:
                self._put(f"{block_name(block)}/{token}/{path.name}", file)
        self._put(f"{block_name(block)}.json", json_text({"parcel": token}).encode())

    def take(self, job: MapJob, block: Span) -> None:
        """Put a block that is there into the files of a map.

        Raises:
            UserError: it is damaged, or the disk is full.
        """
        entry = self._read(f"{block_name(block)}.json") or b""
        try:
            token = str(json_object(entry)["parcel"])
            if not token.isalnum():
                raise ValueError(token)
        except (ValueError, KeyError) as error:
            place = f"{address_of(self._place)}/{block_name(block)}.json"
            raise UserError(f"{place} is damaged: delete it, and map with --resume") from error
        with tempfile.TemporaryDirectory(prefix="cgeartheye-block-") as name:
            folder = Path(name)
            self._fetch(f"{block_name(block)}/{token}/{MANIFEST}", folder / MANIFEST)
            planes = json_object((folder / MANIFEST).read_bytes())["planes"]
            for one in (*planes, LEDGER):
                self._fetch(f"{block_name(block)}/{token}/{one}", folder / Path(one).name)
            unpack_block(job, block, folder)

    def clear(self) -> None:
        """Delete what is there: the map is made."""
        with open_store(self._place) as (store, _, key):
            for page in store.list(f"{key}/"):
                store.delete([entry["path"] for entry in page])

    def _read(self, name: str, place: Path | None = None) -> bytes | None:
        with open_store(place or self._place) as (store, _, key):
            try:
                return bytes(store.get(f"{key}/{name}").bytes())
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def _put(self, name: str, content: bytes | IO[bytes]) -> None:
        with open_store(self._place) as (store, _, key):
            store.put(f"{key}/{name}", content)

    def _fetch(self, name: str, path: Path) -> None:
        """Write an object into a file, piece by piece."""
        with open_store(self._place) as (store, _, key), path.open("wb") as file:
            pieces: Iterator[Any] = iter(store.get(f"{key}/{name}").stream())
            for piece in pieces:
                file.write(piece)
