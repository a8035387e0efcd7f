"""Work by actors of Ray: each holds a model, and does the tasks that it is given.

Ray starts actors, gives them tasks, and starts lost ones again. Tasks are few numbers, and
results too: what is made goes to files, not over the wire. What waits for an actor is taken one by
one, so that the memory of the driver does not grow with the number of tasks.
"""

import importlib
import math
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError

_LESS = (
    "start fewer with --workers, or give each less at a time with --set data.batch_size (a map "
    "window.batch_size), then give the same command with --resume"
)
_NO_MEMORY = f"a worker is out of memory, or its machine ran out of memory: {_LESS}"
_MODE = "RAY_AUTH_MODE"
LOSSES = 3
"""Losses of processes on one task, after which it is known as the one that kills them."""


class Cluster:
    """Machines on which Ray runs; made by `connected`.

    Attributes:
        ray: the module, connected.
        cores: of all machines.
        gpus: of all machines.
    """

    def __init__(self, ray: Any):
        self.ray = ray
        self.cores = int(ray.cluster_resources().get("CPU", 1))
        self.gpus = int(ray.cluster_resources().get("GPU", 0))

    def count(self, workers: int | None, on_gpu: bool) -> int:
        """Return how many actors there are to be.

        Args:
            workers: that are asked for; none: one for each GPU, or for each two cores.
            on_gpu: whether they compute on one.
        """
        return workers or (self.gpus if on_gpu else 0) or max(1, self.cores // 2)

    def share(self, count: int, on_gpu: bool) -> tuple[int, float]:
        """Return the cores and GPUs that Ray reserves for one of `count` processes.

        All find room at the same time: one that a machine has no room for would be waited for
        without end. Of more processes than cores, each reserves none; of more than GPUs, some
        share one.
        """
        if on_gpu and self.gpus:
            return 0, 1 / math.ceil(count / self.gpus)
        machines = [int(n["Resources"].get("CPU", 0)) for n in self.ray.nodes() if n["Alive"]]
        most = self.cores // count
        fits = (n for n in range(most, 0, -1) if sum(cores // n for cores in machines) >= count)
        return next(fits, 0), 0

    def work(
        self,
        kind: type,
        given: Sequence[Any],
        method: str,
        tasks: Iterable[Any],
        count: int,
        on_gpu: bool,
    ) -> Iterator[Any]:
        """Do tasks; yield what each returns, as it is finished.

        Args:
            kind: class of the actors.
            given: arguments that each is made with.
            method: of the class, which takes a task.
            tasks: are taken as actors become free.
            count: of actors.
            on_gpu: whether each needs a GPU.

        Raises:
            UserError: one that the method raised, or actors were lost too often.
        """
        from ray.util import ActorPool

        cores, gpus = self.share(count, on_gpu)
        actor = self.ray.remote(
            num_cpus=cores, num_gpus=gpus, max_restarts=-1, max_task_retries=LOSSES
        )(kind)
        pool = ActorPool([actor.remote(*given) for _ in range(count)])
        with _sentences():
            yield from in_turn(pool, lambda one, task: getattr(one, method).remote(task), tasks)


def in_turn(pool: Any, call: Callable[[Any, Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """Yield what tasks return, of which no more are taken than there are actors.

    Args:
        pool: `ActorPool` of Ray; its own `map_unordered` would hold all tasks.
        call: has an actor begin a task.
        tasks: taken one by one.
    """
    for task in tasks:
        if not pool.has_free():
            yield pool.get_next_unordered()
        pool.submit(call, task)
    while pool.has_next():
        yield pool.get_next_unordered()


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Yield a cluster, from which the process is disconnected in the end.

    Args:
        address: of a Ray cluster, or `local`: one of this machine alone, which ends with the block.

    Raises:
        UserError: Ray is not installed, or nothing answers.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--cluster needs Ray: pip install 'cgeartheye[ray]'") from error
    with _mode_ends_with_the_block():
        _connect(ray, address)
        try:
            yield Cluster(ray)
        finally:
            ray.shutdown()


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn errors of Ray into sentences."""
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error
        if isinstance(error.cause, MemoryError):
            raise UserError(_NO_MEMORY) from error
        raise
    except OutOfMemoryError as error:
        raise UserError(_NO_MEMORY) from error
    except (RayActorError, WorkerCrashedError) as error:
        raise UserError(
            f"a worker was lost {LOSSES + 1} times on one task (out of memory?): {_LESS}"
        ) from error


def _send_token(address: str) -> None:
    """Let Ray send the user's token to a cluster that asks for one, and to no other.

    A cluster that was started when a token was there asks for it, and clients do not send it by
    themselves; where a client sends it to one that was started without, no actor ever runs.
    """
    if _MODE in os.environ:  # the user's own choice
        return
    try:
        from ray._private.authentication import authentication_token_setup as setup
        from ray.exceptions import AuthenticationError

        connect = importlib.import_module("ray._raylet").GcsClient
    except (ImportError, AttributeError):  # another version of Ray
        return
    try:
        if not address.startswith("ray://"):  # a client of that kind holds no actors' address
            connect(address=address)
            return
    except AuthenticationError:
        log_info(f"cluster {address} asks for a token: this user's is sent")
    setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextmanager
def _mode_ends_with_the_block() -> Iterator[None]:
    """Take back the mode of tokens that Ray sets: the next cluster may want another."""
    before = os.environ.get(_MODE)
    try:
        yield
    finally:
        if before is None and _MODE in os.environ:
            del os.environ[_MODE]
            with suppress(ImportError, AttributeError):  # another version of Ray
                # As Ray does when it sets the mode.
                importlib.import_module("ray._raylet").Config.initialize("")


def _connect(ray: Any, address: str) -> None:
    # Workers import the same package as the driver, wherever it was put on the path.
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": {"PYTHONPATH": path}}
    quiet = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    if address == "local":
        # Ray reports the usage of its clusters by default; of those that are ours, only if asked.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address="local", runtime_env=environment, **quiet)
        except Exception as error:  # what Ray raises where its node does not start in 30 s
            raise UserError(
                f"Ray does not start on this machine ({' '.join(str(error).split())[:120]}): try "
                "again when it is less busy, or leave --cluster out"
            ) from error
        return
    quiet.pop("include_dashboard")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        # Ray itself waits for minutes for one that does not answer.
        socket.create_connection((host, int(port)), timeout=5).close()
        _send_token(address)
        ray.init(address=address, runtime_env=environment, **quiet)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}: start one with `ray start --head`, name local, "
            "or copy its token (~/.ray/auth_token) to this machine"
        ) from error
    log_info(f"cluster {address}: {ray.cluster_resources().get('CPU', 0):.0f} cores")
