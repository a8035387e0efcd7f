"""Blocks of rows of windows, which several processes map at once; then they are one map.

A block has a folder with a ledger of its own. Its pixels go where they belong, into the files of
the whole map: no two blocks write the same rows. The plan of the blocks is kept, so that whoever
goes on works on the same ones.
"""

from pathlib import Path

from cgeartheye.geo.reader import Span
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_json
from cgeartheye.utils.state import json_object

# Blocks become smaller, so that all workers end at about the same time however long one block takes
# (guided self-scheduling, Polychronopoulos and Kuck 1987); of each, one row is predicted again.
_FEWEST = 4  # rows of a block
_SHARE = 3  # blocks that a worker would have if all were as large as the next one
_PLAN = "plan.json"


def plan_blocks(job: MapJob, workers: int) -> list[Span]:
    """Return the blocks of a map, as they were planned when it was begun, or plan them.

    Args:
        job: the map.
        workers: processes that will map.

    Raises:
        UserError: the plan is damaged, or cannot be written.
    """
    path = _folder(job) / _PLAN
    if not path.exists():
        blocks: list[Span] = []
        top = 0
        while top < job.rows:
            # One worker alone needs none: a lost one goes on from the last finished row anyhow.
            share = _SHARE * workers if workers > 1 else 1
            height = min(max((job.rows - top) // share, _FEWEST), max(1, job.rows // workers))
            blocks.append((top, min(top + height, job.rows)))
            top += height
        write_json(path, {"blocks": blocks})
    return _planned(job)


def unfinished_blocks(job: MapJob) -> list[Span]:
    """Return the blocks that are planned and not finished.

    Raises:
        UserError: the plan or a ledger is damaged.
    """
    return [block for block in _planned(job) if not _is_finished(job, block)]


def join_blocks(job: MapJob, ledger: Ledger) -> None:
    """Note the rows of all blocks in the ledger of the map; all of them are finished.

    Args:
        job: the map.
        ledger: of the map.

    Raises:
        UserError: a ledger is damaged.
    """
    blocks = _planned(job)
    if not blocks or ledger.finished()[0] == job.rows:
        return
    done = {number for number, *_ in ledger.rows()}
    for block in blocks:
        own = _ledger(job, block)
        try:
            rows = [row for row in own.rows() if row[0] not in done]
            found = [(row[0], *one) for row in rows for one in own.found(row[0])]
        finally:
            own.close()
        ledger.note(rows, found)


def block_folder(job: MapJob, block: Span) -> Path:
    """Return the folder of a block."""
    return _folder(job) / f"{block[0]:08d}-{block[1]:08d}"


def _folder(job: MapJob) -> Path:
    return job.work / "blocks"


def _planned(job: MapJob) -> list[Span]:
    path = _folder(job) / _PLAN
    if not path.exists():
        return []
    try:
        blocks = [(int(top), int(end)) for top, end in json_object(path.read_bytes())["blocks"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged, so which blocks are finished is lost: delete {job.work} and map "
            "again"
        ) from error
    return blocks


def _is_finished(job: MapJob, block: Span) -> bool:
    if not (block_folder(job, block) / "ledger.sqlite").exists():
        return False
    ledger = _ledger(job, block)
    try:
        return ledger.finished()[0] == block[1] - block[0]
    finally:
        ledger.close()


def _ledger(job: MapJob, block: Span) -> Ledger:
    path = block_folder(job, block) / "ledger.sqlite"
    return Ledger(path, {**job.settings, "block": list(block)})
