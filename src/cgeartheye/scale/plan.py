"""Plan of a map: what it will take, from a few rows of windows that are really mapped."""

import math
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgeartheye.mapping.geotiff import nearly_empty
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.run import map_block
from cgeartheye.scale.blocks import BlockMapper
from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError

_EFFICIENCY = 0.9  # of many machines, as the block scheduler has
_SECONDS = 8.0  # that are measured at least, if the scene is large enough
_ROWS = 2  # of windows that are measured at first
_BOUNDS = {"reading": "reading", "resampling": "reading", "writing": "writing"}


@dataclass(frozen=True)
class MapPlan:
    """Cost of a map.

    Attributes:
        square_km: of the scene.
        windows: of the model.
        seconds: on one machine like this one.
        measured_rows: of windows, from which that is.
        bound: inference, reading or writing: what most of the threads' work goes to.
        shares: of the stages in that work, 0..1.
        disk_bytes: while it is made: unfinished planes, and the files made of them.
        memory_bytes: the most that this process has used.
        machines: that finish it within the hours asked for; none: nobody asked.
    """

    square_km: float
    windows: int
    seconds: float
    measured_rows: int
    bound: str
    shares: dict[str, float]
    disk_bytes: int
    memory_bytes: int
    machines: int | None


def plan(
    run: Path,
    scenes: list[Path],
    options: dict[str, Any],
    overrides: list[str],
    hours: float | None = None,
    after: list[Path] | None = None,
) -> MapPlan:
    """Measure some rows of windows in the middle of a scene; nothing of it is kept.

    Args:
        run: a run directory.
        scenes: of the only or the first date.
        options: fields of `mapping.Options` that are set.
        overrides: `field=value` for the model's config.
        hours: in which the map must be finished.
        after: scenes of the second date.

    Raises:
        UserError: see `commands.map.map_scenes`.
    """
    if hours is not None and hours <= 0:
        raise UserError(f"--hours {hours} is out of range: give a number above 0")
    with tempfile.TemporaryDirectory(prefix="cgeartheye-plan-") as folder:
        mapper = BlockMapper(run, scenes, Path(folder), options, overrides, after)
        job = mapper.job
        job.work.mkdir()
        with nearly_empty():
            seconds, rows = _measure(mapper, job)
    total = seconds * job.rows / rows
    shares = job.clock.shares()
    works = {"inference": shares["inference"] + shares["blending"], "reading": 0.0, "writing": 0.0}
    for stage, work in _BOUNDS.items():
        works[work] += shares[stage]
    height, width = job.grid.shape
    free = shutil.disk_usage(Path.cwd()).free
    bands = 1 + bool(job.options.vector_format) + len(job.classes) * job.options.probabilities
    needed = 2 * bands * height * width
    if needed > free:
        warn(
            f"the map takes {needed / 1e9:,.2f} GB while it is made, and the disk of this folder "
            f"has {free / 1e9:,.2f} GB: name a folder on a larger one with --out"
        )
    return MapPlan(
        square_km=job.scene.width
        * job.scene.height
        * job.scene.ground[0]
        * job.scene.ground[1]
        / 1e6,
        windows=len(job.grid.starts) * sum(len(strip.starts) for strip in job.grid.bands),
        seconds=total,
        measured_rows=rows,
        bound=max(works, key=works.__getitem__),
        shares=shares,
        disk_bytes=needed,
        memory_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        machines=None if hours is None else max(1, math.ceil(total / (hours * 3600 * _EFFICIENCY))),
    )


def _measure(mapper: BlockMapper, job: MapJob) -> tuple[float, int]:
    """Map rows from the middle on, twice as many each time; return the seconds of the last."""
    middle, count = job.rows // 2, min(_ROWS, job.rows)
    if job.rows > 1:
        mapper.map_block((middle, middle + 1))  # warms up
    while True:
        first = max(0, min(middle, job.rows - count))
        started = time.monotonic()
        map_block(job, mapper.predictor, (first, first + count))
        seconds = time.monotonic() - started
        if seconds > _SECONDS or count == job.rows:
            return seconds, count
        count = min(2 * count, job.rows)
