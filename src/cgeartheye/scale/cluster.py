"""Maps by actors of Ray: each holds the model and maps the blocks that it is given.

Ray starts actors, gives them blocks, and starts lost ones again; block ids cross the wire, and
pixels never do. The files on the disk record what is finished, so the driver may be lost too.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgeartheye.scale.blocks import BlockMapper
from cgeartheye.utils.console import bar, log_info
from cgeartheye.utils.errors import UserError

LOSSES = 3
"""Losses of processes on one piece of work, after which it is named as the one that kills them."""


def map_on_cluster(
    address: str,
    workers: int | None,
    run: Path,
    scenes: list[Path],
    out: Path,
    options: dict[str, Any],
    overrides: list[str],
    resume: bool = False,
    after: list[Path] | None = None,
    engine: str | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Map a scene by many processes; the result has the bytes of `map_scenes`.

    Args:
        address: of a Ray cluster, or `local`: the processes are on this machine.
        workers: processes; none: one for each GPU of the cluster, or for each two cores.
        run: see `map_scenes`; like all paths, it must be there on each machine.
        scenes: of the only or the first date.
        out: a folder that all machines share.
        options: fields of `mapping.Options` that are set.
        overrides: `field=value` for the model's config.
        resume: go on with an unfinished map.
        after: of the second date.
        engine: torch, onnx or openvino; see `map_scenes`.
        precision: see `map_scenes`.

    Returns:
        What `map.json` holds.

    Raises:
        UserError: Ray is not installed, its address does not answer, or a block fails.
    """
    given = (
        str(run.resolve()),
        [str(path.resolve()) for path in scenes],
        str(out.resolve()),
        options,
        overrides,
        None if after is None else [str(path.resolve()) for path in after],
    )
    with connected(address) as ray:
        from ray.exceptions import RayActorError, RayTaskError
        from ray.util import ActorPool

        try:
            driver = BlockMapper(*given, "auto", engine, precision)
            # All compute on the driver's kind of device: others would give other bytes.
            count, cores, gpus = shares(ray, workers, driver.job.settings["device"] == "cuda")
            blocks = driver.blocks(count, resume)
            actor = ray.remote(
                num_gpus=gpus,
                num_cpus=0 if gpus else cores,
                max_restarts=-1,
                max_task_retries=LOSSES,
            )(BlockMapper)
            actors = [
                actor.remote(*given, "auto", engine, precision)
                for _ in range(min(count, len(blocks)))
            ]
            pool = ActorPool(actors)
            with bar("mapping", len(blocks), "blocks") as progress:
                for _ in pool.map_unordered(lambda one, block: one.map_block.remote(block), blocks):
                    progress.advance()
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from error
            raise
        except RayActorError as error:
            raise UserError(
                f"a worker was lost {LOSSES + 1} times on one block (out of memory?): give each "
                "fewer windows with --set data.batch_size, then go on with --resume"
            ) from error
    return driver.finish()  # all rows are there: what is left is to write the files


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield the module of Ray, connected to a cluster until the block ends.

    Args:
        address: of a Ray cluster, or `local`: processes of this machine.

    Raises:
        UserError: Ray is not installed, or its address does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--cluster needs Ray: pip install 'cgeartheye[ray]'") from error
    _connect(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def shares(ray: Any, workers: int | None, on_gpu: bool) -> tuple[int, int, int]:
    """Return how many processes a cluster runs at once, and what cores and GPUs each of them has.

    Args:
        ray: connected.
        workers: processes; none: one for each GPU, or for each two cores.
        on_gpu: whether they want GPUs.
    """
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if on_gpu else 0
    cores = int(resources.get("CPU", 1))
    count = workers or gpus or max(1, cores // 2)
    return count, max(1, cores // count), int(bool(gpus))


def _connect(ray: Any, address: str) -> None:
    # Workers import the same package as the driver, wherever it was put on the path.
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": {"PYTHONPATH": path}}
    quiet = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    if address == "local":
        ray.init(address="local", runtime_env=environment, **quiet)
        return
    quiet.pop("include_dashboard")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        # Ray itself waits for minutes for one that does not answer.
        socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, runtime_env=environment, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}: start one with `ray start --head`, or name local"
        ) from error
    log_info(f"cluster {address}: {ray.cluster_resources().get('CPU', 0):.0f} cores")
