"""A worker's view of a map: it opens the scene and the model itself, and maps blocks."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cgeartheye.commands.map import map_with, prepare
from cgeartheye.commands.tasks import load_model
from cgeartheye.geo.reader import Span
from cgeartheye.geo.remote import address_of, cache_folder, is_remote
from cgeartheye.mapping.blocks import plan_blocks, unfinished_blocks
from cgeartheye.mapping.job import UNFINISHED
from cgeartheye.mapping.run import map_block, map_block_apart, plan_map
from cgeartheye.mapping.settings import finished_map
from cgeartheye.scale.block_store import BlockStore
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError


class BlockMapper:
    """Maps blocks of one map; ids of blocks come in, pixels go to the shared folder or a bucket."""

    def __init__(
        self,
        run: Path,
        scenes: list[Path],
        out: Path,
        options: dict[str, Any],
        overrides: list[str],
        after: list[Path] | None = None,
        engine: str | None = None,
        precision: str | None = None,
    ):
        """Load the model and open the scene.

        Args:
            run: see `map_scenes`; like all paths, it must be there on each machine.
            scenes: of the only or the first date.
            out: folder of the map, or the path of an address of S3: see `BlockStore`.
            options: fields of `mapping.Options` that are set.
            overrides: `field=value` for the model's config.
            after: of the second date.
            engine: torch, onnx or openvino; see `load_model`.
            precision: see `load_model`.

        Raises:
            UserError: see `commands.map.map_scenes`.
        """
        self._model = load_model(run, overrides, None, engine=engine, precision=precision)
        self._scenes, self._options, self._after = scenes, options, after
        self._store = BlockStore(out) if is_remote(out) else None
        mapped = prepare(self._model, options, after)
        self.predictor = mapped.predictor
        self.job = plan_map(
            mapped.predictor,
            scenes,
            cache_folder(out) if self._store else out,
            mapped.facts,
            mapped.options,
            self._model.pipeline.colors,
            after,
        )

    def map_block(self, block: Span) -> Span:
        """Map a block, or what is missing of it; into a bucket all of it, or nothing.

        Args:
            block: first row of windows, and the one after the last.

        Raises:
            UserError: it names the block.
        """
        block = (block[0], block[1])
        try:
            if self._store is None:
                map_block(self.job, self.predictor, block)
            elif not self._store.has(block):
                with tempfile.TemporaryDirectory(prefix="cgeartheye-parcel-") as parcel:
                    map_block_apart(self.job, self.predictor, block, Path(parcel))
                    self._store.put(block, Path(parcel))
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise UserError(
                f"rows of windows {block[0]}-{block[1] - 1}: a worker is out of memory: give each "
                "fewer windows with --set window.batch_size (of a scene classifier "
                "data.batch_size), then go on with --resume"
            ) from error
        except UserError as error:
            raise UserError(f"rows of windows {block[0]}-{block[1] - 1}: {error}") from error
        return block

    def begin(self, workers: int, resume: bool) -> int:
        """Plan the blocks, or take the plan that is there; count those that are not finished.

        Args:
            workers: processes that will map.
            resume: whether there may be an unfinished map.

        Raises:
            UserError: the folder holds another map, or one that is not to be gone on with.
        """
        job, store = self.job, self._store
        if finished_map(job.out, job.settings, resume):
            return 0
        if store and store.begun() and not resume:
            raise UserError(
                f"{address_of(store.out)} holds an unfinished map: finish it with --resume, or "
                f"delete {address_of(store.out / UNFINISHED)}"
            )
        self.plan(workers)
        if store:
            for block in self.unfinished():
                if store.has(block):
                    store.take(job, block)
        return sum(1 for _ in self.unfinished())

    def is_made(self) -> bool:
        """Return whether the map of the blocks is there.

        Raises:
            UserError: another map is.
        """
        if self._store:
            return self._store.is_made(self.job)
        return finished_map(self.job.out, self.job.settings, resume=True) is not None

    def plan(self, workers: int) -> Iterator[Span]:
        """Return the blocks; see `plan_blocks`. In a bucket all machines have one plan."""
        if self._store:
            self._store.share_plan(self.job)
        blocks = plan_blocks(self.job, workers)
        if self._store:
            self._store.share_plan(self.job)
        return blocks

    def unfinished(self) -> Iterator[Span]:
        """Return the blocks that are not finished here; see `unfinished_blocks`."""
        return unfinished_blocks(self.job)

    def take(self, block: Span) -> None:
        """Take a block that a worker has finished into the map, if it is not there."""
        if self._store:
            self._store.take(self.job, block)

    def left(self) -> int:
        """Return how many blocks nobody has finished."""
        store = self._store
        return sum(not (store and store.has(block)) for block in self.unfinished())

    def finish(self) -> dict[str, Any]:
        """Make one map of the blocks, and map those that are missing; see `map_with`."""
        out = self.job.out
        return map_with(self._model, self._scenes, out, self._options, True, self._after)


def array_place(text: str) -> tuple[int, int]:
    """Return which of how many processes this one is, in an array of jobs.

    Args:
        text: `K/N`, from 0; `array`: by the variables of Slurm or of an Indexed Job of Kubernetes.

    Raises:
        UserError: it is no place, or there are no such variables.
    """
    if text == "array":
        place = os.environ.get("SLURM_ARRAY_TASK_ID") or os.environ.get("JOB_COMPLETION_INDEX")
        count = os.environ.get("SLURM_ARRAY_TASK_COUNT") or os.environ.get("JOB_COMPLETIONS")
        text = f"{place}/{count}"
    place, _, count = text.partition("/")
    if not (place.isdigit() and count.isdigit() and int(place) < int(count)):
        raise UserError(
            f"--part {text} is no part: give K/N, from 0/N to N-1/N, or `array` in an array of "
            "Slurm (SLURM_ARRAY_TASK_ID and _COUNT) or Kubernetes (JOB_COMPLETION_INDEX and "
            "JOB_COMPLETIONS)"
        )
    return int(place), int(count)


def map_part(mapper: BlockMapper, place: tuple[int, int]) -> None:
    """Map every N-th block; `map --resume` makes one map of them when all are finished.

    Args:
        mapper: of the map.
        place: which of how many processes this one is.
    """
    if mapper.is_made():
        return
    for number, block in enumerate(mapper.plan(place[1])):
        if number % place[1] == place[0]:
            mapper.map_block(block)  # of one that is finished nothing is left to do
    left = mapper.left()
    done = f"{left} blocks are left to others" if left else "all blocks are finished"
    log_info(f"part {place[0]} of {place[1]}: {done}; map --resume makes the map of them")
