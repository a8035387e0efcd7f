"""Old names of command-line options, which keep working for one release."""

from typing import Any

import typer

from cgeartheye.utils.console import warn

# Command -> old option -> new option.
OPTIONS: dict[str, dict[str, str]] = {
    "map": {
        "--score": "--score-threshold",
        "--largest": "--max-object-size",
        "--scene-gsd": "--input-gsd",
        "--register": "--coregister",
        "--vector": "--vector-format",
        "--dates": "--date-labels",
    },
    "pretrain pack": {"--chip": "--chip-size", "--quality": "--jpeg-quality"},
    "jlssd design": {
        "--total": "--num-places",
        "--cells": "--cell-size",
        "--band-height": "--elevation-step",
    },
    "jlssd curate": {"--keep": "--num-places"},
}


def with_old_options(command: str) -> type[typer.core.TyperCommand]:
    """Return the class of a command that also takes the old names of its options.

    The old names are not in its help; each that is used is noted once.

    Args:
        command: a key of `OPTIONS`.
    """
    renamed = OPTIONS[command]

    class Command(typer.core.TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, [_new_name(arg, renamed) for arg in args])

    return Command


def _new_name(argument: str, renamed: dict[str, str]) -> str:
    option, equals, value = argument.partition("=")
    if option not in renamed:
        return argument
    warn(f"{option} is now called {renamed[option]}; the old name goes with the next release")
    return f"{renamed[option]}{equals}{value}"
