"""Packs images into a store, and checks one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from torch.utils.data import DataLoader, Dataset

from cgeartheye.pretraining.store.inputs import Corner, encode, find_items, grid_of
from cgeartheye.pretraining.store.items import Encoded, Item, Settings
from cgeartheye.pretraining.store.reader import INDEX, Store, digest
from cgeartheye.pretraining.store.writer import Writer, places_of
from cgeartheye.utils.console import bar, warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import lock
from cgeartheye.utils.tables import read_rows, write_csv

START = "spawn"
"""How worker processes begin: one that has opened rasters must not be forked."""


@dataclass
class Packed:
    """Result of packing, and what the store holds now.

    Attributes:
        added: images that are new.
        present: that were in the store before.
        duplicates: left out because the store holds the same file under another name.
        empty: chips left out for want of valid pixels.
        skipped: damaged files, by name with what is wrong.
        images: in the store.
        places: in the store.
        in_seasons: places with more than one image.
        bytes: of all images.
    """

    added: int = 0
    present: int = 0
    duplicates: int = 0
    empty: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    images: int = 0
    places: int = 0
    in_seasons: int = 0
    bytes: int = 0


def pack(
    source: Path, out: Path, settings: Settings, skip_damaged: bool = False, workers: int = 2
) -> Packed:
    """Pack images into a store, or add them to one.

    Killed, the same command goes on: what was committed is not read again.

    Args:
        source: see `find_items`.
        out: the store.
        settings: how images are cut and encoded.
        skip_damaged: leave damaged images out and list them in `skipped.csv`.
        workers: processes that read and encode.

    Raises:
        UserError: a damaged image, no images, a full disk; the store keeps what was committed.
            Nothing could be packed and the store is empty.
    """
    grids: dict[str, Corner] = {}
    if settings.chip_size:
        for grid, corner in filter(None, map(grid_of, places_of(out))):
            grids.setdefault(grid, corner)
    items = find_items(source, settings, grids)
    done = Packed()
    with _locked(out), Writer(out) as writer, bar("packing", len(items), "images") as progress:

        def todo() -> Iterator[Item]:
            for item in items:
                if writer.holds(item):
                    done.present += 1
                    progress.advance()
                else:
                    yield item

        for encoded in _encode_all(todo(), settings, min(workers, len(items))):
            if encoded.problem and not skip_damaged:
                raise UserError(f"{encoded.problem}, or leave such images out with --skip-damaged")
            if encoded.problem:
                done.skipped[encoded.item.name] = encoded.problem
            elif encoded.empty:
                done.empty += 1
            elif writer.add(encoded):
                done.added += 1
            else:
                done.duplicates += 1
            progress.advance()
    if done.skipped:
        _write_skipped(out, items, done.skipped)
    if not (out / INDEX).exists():
        raise UserError(
            f"nothing of {source} could be packed: {len(done.skipped)} images are damaged, "
            f"{done.empty} chips have no data"
        )
    table = Store(out).table
    counts = table.group_by("place").aggregate([("place", "count")])["place_count"]
    done.images, done.places = len(table), len(counts)
    done.in_seasons = pc.sum(pc.greater(counts, 1)).as_py() or 0
    done.bytes = pc.sum(table["bytes"]).as_py()
    return done


def verify(folder: Path) -> list[str]:
    """Read and decode every image of a store.

    Returns:
        What is wrong, a sentence an image.
    """
    store = Store(folder)
    digests = store.table["digest"].to_numpy()
    problems = []
    with bar("verifying", len(store), "images") as progress:
        for index in range(len(store)):
            try:
                if digest(store.read(index)) != int(digests[index]):
                    problems.append(f"{store.name(index)} has changed since it was packed")
                elif tuple(store.decode(index).shape[1:]) != store.size(index):
                    problems.append(f"{store.name(index)} has another size than in the index")
            except UserError as error:
                problems.append(str(error))
            progress.advance()
    return problems


class _Encoding(Dataset[Encoded]):
    """Encodes the items that are handed to it, so that no worker process holds all of them."""

    def __init__(self, settings: Settings):
        self._settings = settings

    def __getitem__(self, item: Item) -> Encoded:
        return encode(item, self._settings)


def _encode_all(items: Iterator[Item], settings: Settings, workers: int) -> Iterator[Encoded]:
    """Encode items in worker processes, ahead of their use and in order."""
    loader: DataLoader[Encoded] = DataLoader(
        _Encoding(settings),
        sampler=items,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=16 if workers else None,
        multiprocessing_context=START if workers else None,
    )
    yield from loader


def _as_it_is(encoded: Any) -> Any:
    return encoded


def _write_skipped(folder: Path, tried: Iterable[Item], skipped: dict[str, str]) -> None:
    """List damaged images beside those that other packings skipped and this one has not tried."""
    path = folder / "skipped.csv"
    if path.exists():
        earlier = {row["image"]: row["problem"] for row in read_rows(path)}
        for item in tried:
            earlier.pop(item.name, None)
        skipped = earlier | skipped
    write_csv(path, ["image", "problem"], skipped.items())
    warn(f"{len(skipped)} damaged images skipped, listed in {path}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second packing out."""
    try:
        file = lock(folder / ".lock")
    except BlockingIOError as error:
        raise UserError(
            f"another process is packing into {folder}: wait for it to finish"
        ) from error
    with file:
        yield
