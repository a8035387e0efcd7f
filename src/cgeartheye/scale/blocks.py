"""A worker's view of a map: it opens the scene and the model itself, and maps blocks."""

import os
from pathlib import Path
from typing import Any

from cgeartheye.commands.map import map_with, prepare
from cgeartheye.commands.tasks import load_model
from cgeartheye.geo.reader import Span
from cgeartheye.mapping.blocks import plan_blocks, unfinished_blocks
from cgeartheye.mapping.run import finished_map, map_block, plan_map
from cgeartheye.training.distributed import local_device
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError


class BlockMapper:
    """Maps blocks of one map; ids of blocks come in, and pixels go to the shared folder."""

    def __init__(
        self,
        run: str,
        scenes: list[str],
        out: str,
        options: dict[str, Any],
        overrides: list[str],
        after: list[str] | None,
        device: str = "auto",
        engine: str | None = None,
        precision: str | None = None,
    ):
        """Load the model and open the scene.

        Args:
            run: a run directory; like all paths, it must be there on each machine.
            scenes: of the only or the first date.
            out: folder of the map.
            options: fields of `mapping.Options` that are set.
            overrides: `field=value` for the model's config.
            after: of the second date.
            device: where to compute.
            engine: torch, onnx or openvino; see `load_model`.
            precision: see `load_model`.

        Raises:
            UserError: see `commands.map.map_scenes`.
        """
        self._model = load_model(
            Path(run), overrides, local_device(device), engine=engine, precision=precision
        )
        self._scenes, self._options = [Path(path) for path in scenes], options
        self._after = None if after is None else [Path(path) for path in after]
        mapped = prepare(self._model, options, self._after)
        self.predictor = mapped.predictor
        self.job = plan_map(
            mapped.predictor,
            self._scenes,
            Path(out),
            mapped.facts,
            mapped.options,
            self._model.pipeline.colors,
            self._after,
        )

    def map_block(self, block: Span) -> Span:
        """Map a block, or what is missing of it.

        Args:
            block: first row of windows, and the one after the last.

        Raises:
            UserError: it names the block.
        """
        try:
            map_block(self.job, self.predictor, (block[0], block[1]))
        except UserError as error:
            raise UserError(f"rows of windows {block[0]}-{block[1] - 1}: {error}") from error
        return block

    def finish(self) -> dict[str, Any]:
        """Make one map of the blocks, and map those that are missing; see `map_with`."""
        out = self.job.out
        return map_with(self._model, self._scenes, out, self._options, True, self._after)

    def blocks(self, workers: int, resume: bool) -> list[Span]:
        """Plan the blocks, or take the plan that is there; return those that are not finished.

        Args:
            workers: processes that will map.
            resume: whether the folder may have an unfinished map.

        Raises:
            UserError: the folder holds another map, or one that is not to be gone on with.
        """
        if finished_map(self.job.out, self.job.settings, resume):
            return []
        plan_blocks(self.job, workers)
        return unfinished_blocks(self.job)


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
    mine = place[0]
    for number, block in enumerate(plan_blocks(mapper.job, place[1])):
        if number % place[1] == mine:
            mapper.map_block(block)  # of one that is finished nothing is left to do
    left = len(unfinished_blocks(mapper.job))
    done = f"{left} blocks are left to others" if left else "all blocks are finished"
    log_info(f"part {mine} of {place[1]}: {done}; map --resume makes the map of them")
