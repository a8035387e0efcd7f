"""Blocks of rows of windows, which several processes map at once; then they are one map.

A block has a folder with a ledger of its own. Its pixels go where they belong, into the files of
the whole map: no two blocks write the same rows. What the blocks follow from is kept, so that
whoever goes on works on the same ones; they themselves, which may be millions, never are.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cgeartheye.geo.reader import Span
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.ledger import BusyError, Ledger, check_same
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_json
from cgeartheye.utils.state import json_object

# Blocks become smaller, so that all workers end at about the same time however long one block takes
# (guided self-scheduling, Polychronopoulos and Kuck 1987); of each, one row is predicted again.
_FEWEST = 4  # rows of a block
_SHARE = 3  # blocks that a worker would have if all were as large as the next one
_PLAN = "plan.json"
LEDGER = "ledger.sqlite"


class Plan(NamedTuple):
    """Facts that the blocks of a map follow from.

    Attributes:
        workers: processes that the map was planned for.
        fewest: rows of a block.
        share: blocks that a worker would have if all were as large as the next one.
    """

    workers: int
    fewest: int
    share: int

    def blocks(self, rows: int) -> Iterator[Span]:
        """Yield the blocks of a map of so many rows of windows."""
        top = 0
        while top < rows:
            # One worker alone needs none: a lost one goes on from the last finished row anyhow.
            share = self.share * self.workers if self.workers > 1 else 1
            height = min(max((rows - top) // share, self.fewest), max(1, rows // self.workers))
            yield top, min(top + height, rows)
            top += height


def plan_blocks(job: MapJob, workers: int) -> Iterator[Span]:
    """Return the blocks of a map, as they were planned when it was begun, or plan them.

    Args:
        job: the map.
        workers: processes that will map.

    Raises:
        UserError: the plan is damaged, of another map, or cannot be written.
    """
    path = plan_path(job)
    if not path.exists():
        plan = Plan(workers, _FEWEST, _SHARE)._asdict()
        write_json(path, {**plan, "settings": job.settings})
    return _planned(job)


def unfinished_blocks(job: MapJob) -> Iterator[Span]:
    """Return the blocks that are planned and not finished; each is looked at as its turn comes.

    Raises:
        UserError: the plan or a ledger is damaged.
    """
    return (block for block in _planned(job) if not is_finished(job, block))


def join_blocks(job: MapJob, ledger: Ledger) -> None:
    """Note the rows of all blocks in the ledger of the map; all of them are finished.

    Args:
        job: the map.
        ledger: of the map.

    Raises:
        UserError: a ledger is damaged.
    """
    if ledger.finished()[0] == job.rows:
        return
    for block in _planned(job):
        done = {number for number, *_ in ledger.rows(block)}
        own = _ledger(job, block)
        try:
            rows = [row for row in own.rows(block) if row[0] not in done]
            found = [(row[0], *one) for row in rows for one in own.found(row[0])]
        finally:
            own.close()
        ledger.note(rows, found)


def block_folder(job: MapJob, block: Span) -> Path:
    """Return the folder of a block."""
    return _folder(job) / block_name(block)


def block_name(block: Span) -> str:
    """Return the name of a block: its first row of windows, and the one after the last."""
    return f"{block[0]:08d}-{block[1]:08d}"


def _folder(job: MapJob) -> Path:
    return job.work / "blocks"


def plan_path(job: MapJob) -> Path:
    """Return the file with the plan of a map's blocks."""
    return _folder(job) / _PLAN


def _planned(job: MapJob) -> Iterator[Span]:
    path = plan_path(job)
    if not path.exists():
        return iter(())
    try:
        found = json_object(path.read_bytes())
        begun = found.pop("settings", job.settings)  # plans of earlier versions have none
        plan = Plan(**found)
        if min(plan) < 1:
            raise ValueError("numbers below 1")
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged, so which blocks are finished is lost: delete {job.work} and map "
            "again"
        ) from error
    check_same(begun, job.settings, job.out)
    return plan.blocks(job.rows)


def is_finished(job: MapJob, block: Span) -> bool:
    """Return whether all rows of a block are noted in its ledger; no while another process maps it.

    Raises:
        UserError: the ledger is damaged.
    """
    # No `Path`: it interns its parts, and the table of a million of them takes megabytes.
    if not os.path.exists(f"{_folder(job)}/{block_name(block)}/{LEDGER}"):
        return False
    try:
        ledger = _ledger(job, block)
    except BusyError:
        return False
    try:
        return ledger.finished()[0] == block[1] - block[0]
    finally:
        ledger.close()


def _ledger(job: MapJob, block: Span) -> Ledger:
    path = block_folder(job, block) / LEDGER
    return Ledger(path, {**job.settings, "block": list(block)})
