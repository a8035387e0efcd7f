"""The commands on published data sets."""

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(
    help="Published data sets: where to get them, whether they are complete, their layout.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Of the data set, as `data list` has it.")]


@data_app.command("list")
def data_list() -> None:
    """List the data sets that are known, with their licences."""
    from rich.table import Table
    from rich.text import Text

    from cgeartheye.data.published.registry import DATA_SETS
    from cgeartheye.utils.console import console

    table = Table("name", "task", "classes", "images", "licence")
    for column in table.columns[2:4]:
        column.justify = "right"
    for one in DATA_SETS.values():
        images = f"{sum(one.images.values()):,}"
        table.add_row(one.name, one.task, str(len(one.classes)), images, Text(one.license))
    console.print(table)


@data_app.command("where")
def data_where(name: Name) -> None:
    """Print where a data set is published, its licence, and the layout that configs read."""
    from cgeartheye.data.published.registry import find
    from cgeartheye.utils.console import log_info

    for label, text in find(name).facts():
        log_info(f"{label:<9} {text}")


@data_app.command("verify")
def data_verify(
    name: Name,
    folder: Annotated[
        Path | None, typer.Argument(help="Its folder [the one that our configs name].")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read headers.")] = 2,
) -> None:
    """Compare a data set with what is published: numbers, names, lists, and every header."""
    from cgeartheye.data.checks.findings import render_findings
    from cgeartheye.data.published.registry import find
    from cgeartheye.data.published.verify import verify
    from cgeartheye.utils.console import bar, console, log_info

    known = find(name)
    folder = folder or known.data.root
    with bar(f"reading {known.name}", 1, "files") as progress:
        findings = verify(known, folder, workers, progress.reach)
    for part in render_findings(findings).renderables:
        console.print(part, soft_wrap=True)
    if any(finding.severity == "error" for finding in findings):
        log_info(
            f"get what is missing from {known.page}, then give `cgeartheye data convert "
            f"{known.name} DOWNLOAD {folder}` again"
        )
        raise typer.Exit(1)
    if known.config:
        log_info(
            f"{known.config} reads it: cgeartheye check {known.config} --set data.root={folder}"
        )


@data_app.command("convert")
def data_convert(
    name: Name,
    folder: Annotated[
        Path, typer.Argument(help="The download, with its archives extracted; nothing is changed.")
    ],
    out: Annotated[Path, typer.Argument(help="A new folder, or one to go on with.")],
) -> None:
    """Bring a download into the layout that configs read; given again, it goes on."""
    from cgeartheye.data.published.convert import convert
    from cgeartheye.data.published.registry import find
    from cgeartheye.utils.console import log_info, warn

    known = find(name)
    for warning in convert(known, folder, out):
        warn(warning)
    log_info(f"{out} has the layout of {known.name}: cgeartheye data verify {known.name} {out}")
