"""Processes that a benchmark's work is done by: of this machine, or of a Ray cluster."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import torch

from cgeartheye.benchmark import worker
from cgeartheye.scale.actors import LOSSES, Cluster, connected

START = "forkserver"
"""How processes begin: one that computes, or has threads, is not forked, and a new interpreter
takes seconds."""
KILLED = -9  # exit code of a process that the system, or somebody, has ended

Work = Callable[..., None]


class Processes(Protocol):
    """Place where work is done, each piece in a process of its own.

    Attributes:
        count: of processes at once.
    """

    count: int

    def run(
        self, work: Work, arguments: tuple[Any, ...], folder: Path, stamp: dict[str, str]
    ) -> int:
        """Run `worker.process`, and return its exit code; negative: the signal that ended it.

        Args:
            work: see `worker.process`.
            arguments: of the work.
            folder: of its log.
            stamp: of its record.
        """

    def stop(self) -> None:
        """End the processes that run."""


class LocalProcesses:
    """Processes of this machine: with several GPUs each has one, without any they share cores."""

    def __init__(self, count: int):
        self.count = count
        self._slots = SimpleQueue[int]()
        for slot in range(count):
            self._slots.put(slot)
        self._threads = max(1, (os.cpu_count() or 1) // count) if count > 1 else None
        self._gpus = torch.cuda.device_count() if count > 1 else 0

    def run(
        self, work: Work, arguments: tuple[Any, ...], folder: Path, stamp: dict[str, str]
    ) -> int:
        """See `Processes`."""
        slot = self._slots.get()
        try:
            gpu = slot % self._gpus if self._gpus else None
            return _run(work, arguments, folder, gpu, self._threads, stamp)
        finally:
            self._slots.put(slot)

    def stop(self) -> None:
        """See `Processes`."""
        for process in multiprocessing.active_children():
            process.terminate()


class ClusterProcesses:
    """Processes that Ray starts where there is room, and again where a machine was lost."""

    def __init__(self, cluster: Cluster, count: int | None, on_gpu: bool):
        self._ray = cluster.ray
        self.count = cluster.count(count, on_gpu)
        cores, gpus = cluster.share(self.count, on_gpu)
        self._threads = max(1, cluster.cores // self.count)
        self._remote = self._ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=LOSSES)(_run_in)

    def run(
        self, work: Work, arguments: tuple[Any, ...], folder: Path, stamp: dict[str, str]
    ) -> int:
        """See `Processes`."""
        from ray.exceptions import RayError, RayTaskError

        # Ray gives a task its GPU.
        asked = work, arguments, folder, None, self._threads, stamp
        try:
            code: int = self._ray.get(self._remote.remote(str(Path.cwd()), *asked))
        except RayTaskError:
            raise
        except RayError:  # its machine or its process was lost too often
            return KILLED
        return code

    def stop(self) -> None:
        """See `Processes`: they end with the connection."""


@contextmanager
def processes(cluster: str | None, count: int | None, on_gpu: bool) -> Iterator[Processes]:
    """Yield where work is done.

    Args:
        cluster: the address of a Ray cluster, or `local`; none: processes of this machine.
        count: of processes at once; none: 1, or as many as the cluster has GPUs, or pairs of cores.
        on_gpu: whether the work wants GPUs of a cluster.

    Raises:
        UserError: see `scale.actors.connected`.
    """
    if cluster is None:
        yield LocalProcesses(count or 1)
        return
    with connected(cluster) as machines:
        yield ClusterProcesses(machines, count, on_gpu)


def _run_in(place: str, *asked: Any) -> int:
    """Run work on a machine of a cluster, in the folder that paths are relative to."""
    os.chdir(place)
    return _run(*asked)


def _run(
    work: Work,
    arguments: tuple[Any, ...],
    folder: Path,
    gpu: int | None,
    threads: int | None,
    stamp: dict[str, str],
) -> int:
    multiprocessing.set_forkserver_preload(["cgeartheye.benchmark.worker"])
    process: Any = multiprocessing.get_context(START).Process(  # type: ignore[attr-defined]
        target=worker.process, args=(work, arguments, folder, gpu, threads, stamp)
    )
    process.start()
    process.join()
    code: int = process.exitcode
    return code
