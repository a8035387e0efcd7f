"""Python processes of tests, forked from one server that has imported the package already.

A fresh interpreter takes seconds for PyTorch, and many tests need some. Tests of the start and of
the end of a process take `subprocess`.
"""

import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.quicker import Ways

SECONDS = 180  # that a process may take
START = "forkserver"
_CONTEXT = multiprocessing.get_context(START)
_PRELOADED = [
    "tests.quicker",
    "cgeartheye.cli.main",
    "cgeartheye.commands.map",
    "cgeartheye.commands.tasks",
    "cgeartheye.pretraining.trainer",
    "torch.distributed.fsdp",
]
_CONTEXT.set_forkserver_preload(_PRELOADED)


def start(arguments: Sequence[str | Path], **environment: str) -> BaseProcess:
    """Begin what `python ARGUMENTS` would, as the leader of a group of processes.

    Args:
        arguments: a program and its arguments, or `-m` and a module, or `-c` and code.
        environment: variables that it has besides ours.

    What makes runs quicker here does so there.
    """
    given = [*map(str, arguments)], environment, Ways.current()
    process = context().Process(target=_run, args=given)
    process.start()
    return process


def context() -> ForkServerContext:
    """Return how to start processes of a library, which are given their work as spawned ones are.

    It is pickled, and nothing that is open here is open there.
    """
    _CONTEXT.set_forkserver_preload(_PRELOADED)  # what is tested may have set its own
    return _CONTEXT


def run(arguments: Sequence[str | Path], **environment: str) -> None:
    """Run `python ARGUMENTS` to its end, which must be a good one; see `start`."""
    _end([start(arguments, **environment)])


def run_ranks(arguments: Sequence[str | Path], count: int = 2) -> None:
    """Run `torchrun --standalone --nproc_per_node=COUNT ARGUMENTS`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    _end([start(arguments, RANK=str(n), LOCAL_RANK=str(n), **meeting) for n in range(count)])


def block_mappers() -> list[int]:
    """Return the processes of Ray's actors that map."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if line.read_bytes().startswith(b"ray::BlockMapper"):
                found.append(int(line.parent.name))
        except OSError:
            continue
    return found


def _end(processes: list[BaseProcess]) -> None:
    try:
        for process in processes:
            process.join(SECONDS)
            assert process.exitcode == 0, process.exitcode
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run(arguments: list[str], environment: dict[str, str], ways: Ways) -> None:
    os.setsid()
    # A process that was started in this way would start its own in this way, by another server.
    multiprocessing.set_start_method(None, force=True)
    ways.apply()
    os.environ.update(environment)
    first, *others = arguments
    if first == "-m":
        sys.argv = others
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = [first, *others[1:]]
        exec(others[0], {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")
