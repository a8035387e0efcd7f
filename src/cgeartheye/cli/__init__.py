"""The command line."""

import atexit
import os
import sys

from cgeartheye.cli.main import main

__all__ = ["main", "run"]


def run() -> None:
    """Run a command as a process of its own, and end that as soon as the command has ended.

    Files are whole when their writers return, so nothing is gained by waiting for threads that
    still read ahead, nor for PyTorch to be taken apart, which takes seconds.
    """
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        # Loader processes and temporary folders are cleared away by these.
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # nobody reads any more
                code = code or 1
        os._exit(code)
