"""The command that finds more places like some."""

from pathlib import Path
from typing import Annotated

import typer

from cgeartheye.utils.errors import UserError


def search_command(
    embeddings: Annotated[
        Path,
        typer.Argument(help="A folder of embed --out, or of one scene in it.", metavar="E"),
    ],
    at: Annotated[
        list[str],
        typer.Option(
            help="LON,LAT of a place that is looked for (of scenes without CRS column,row). Repeat."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The places: .gpkg, .geojson, .parquet or .fgb.")
    ] = Path("places.gpkg"),
    not_: Annotated[
        list[str] | None, typer.Option("--not", help="LON,LAT of a place that is not. Repeat.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Places at most.")] = 20,
) -> None:
    """Find places that look like some, ranked, in the embeddings of one or many scenes."""
    from rich.table import Table

    from cgeartheye.embeddings.search import search
    from cgeartheye.geo.vector_writer import FORMATS, write_vectors
    from cgeartheye.utils.console import log_info, show

    if out.suffix[1:] not in FORMATS:
        raise UserError(f"--out {out}: name a file that ends with .{', .'.join(FORMATS)}")
    found = search(
        embeddings, [place_of(text) for text in at], [place_of(text) for text in not_ or []], top
    )
    if found.empty:
        raise UserError(f"{embeddings} has no place with data besides those that are named")
    write_vectors([found], out)
    table = Table("rank", "score", "scene", "date", "lon,lat")
    for row in found.head(10).itertuples():
        place = f"{row.lon:.6f},{row.lat:.6f}"
        table.add_row(str(row.rank), f"{row.score:.3f}", row.scene, row.date or "", place)
    show(table)
    log_info(f"{len(found)} places: {out}")


def place_of(text: str) -> tuple[float, float]:
    """Read a place, `116.39,39.91`.

    Raises:
        UserError: it is none.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"'{text}' is no place: give LON,LAT, e.g. 116.39,39.91") from error
    return x, y
