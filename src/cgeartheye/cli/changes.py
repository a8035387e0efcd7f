"""The command that shows change over a stack of dates."""

from pathlib import Path
from typing import Annotated

import typer

from cgeartheye.utils.errors import UserError


def changes_command(
    embeddings: Annotated[
        Path, typer.Argument(help="A folder of embeddings of a place at many dates.", metavar="E")
    ],
    at: Annotated[
        str | None, typer.Option(help="LON,LAT of a place: how much it changed, date by date.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A GeoTIFF: how much each patch changed to the last date.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="The date to compare with [the first].")] = None,
) -> None:
    """Show what changed between dates, by the distances of embeddings; nothing is trained."""
    from rich.table import Table

    from cgeartheye.cli.search import place_of
    from cgeartheye.commands.changes import write_changes
    from cgeartheye.embeddings.changes import timeline
    from cgeartheye.embeddings.store import open_embeddings
    from cgeartheye.utils.console import show

    if at is None and out is None:
        raise UserError("name a place with --at LON,LAT, or a file with --out changes.tif")
    if at is not None:
        table = Table("date", "scene", "from the first", "from the one before")
        for moment in timeline(open_embeddings(embeddings), place_of(at)):
            distances = f"{moment.from_first:.3f}", f"{moment.from_last:.3f}"
            table.add_row(moment.date or "", moment.scene, *distances)
        show(table)
    if out is not None:
        write_changes(embeddings, out, since)
