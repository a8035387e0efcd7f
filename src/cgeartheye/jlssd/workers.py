"""Work that is spread over processes, whatever its amount."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import rasterio

from cgeartheye.utils.errors import UserError

State = TypeVar("State")
Task = TypeVar("Task")

CACHE = 256
"""MB of decoded rasters that a process keeps."""

START = "spawn"
"""How processes begin: one that has opened rasters must not be forked."""


def spread(
    work: Callable[[State, Task], None], state: State, tasks: Iterable[Task], workers: int
) -> Iterator[None]:
    """Work on tasks in several processes, yielding as each is finished.

    Args:
        work: a function of a module.
        state: what every task needs; each process gets it once.
        tasks: taken as they are needed.
        workers: processes; with one or none the work is done here.

    Raises:
        UserError: one that the work raises, or a process was killed.
    """
    if workers <= 1:
        with rasterio.Env(GDAL_CACHEMAX=CACHE):
            for task in tasks:
                work(state, task)
                yield
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context(START), initializer=_begin, initargs=(work, state)
    )
    try:
        running: set[Future[None]] = set()
        for task in tasks:
            running.add(pool.submit(_run, task))
            if len(running) >= 2 * workers:
                yield from _finished(running)
        while running:
            yield from _finished(running)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory: run the same command again "
            "with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(running: set[Future[None]]) -> list[None]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    running -= done
    return [future.result() for future in done]


_own: list[tuple[Callable[[Any, Any], None], Any]] = []
"""Of a process: set once, as it begins."""


def _begin(work: Callable[[Any, Any], None], state: Any) -> None:
    _own.append((work, state))


def _run(task: Any) -> None:
    work, state = _own[0]
    with rasterio.Env(GDAL_CACHEMAX=CACHE):
        work(state, task)
