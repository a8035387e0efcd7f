"""The commands on labels."""

from pathlib import Path
from typing import Annotated

import typer

from cgeartheye.utils.errors import UserError

label_app = typer.Typer(help="Map with few labels, on embeddings.", no_args_is_help=True)

Embeddings = Annotated[
    Path, typer.Argument(help="The folder of a scene's embedding of patches.", metavar="E")
]
Labels = Annotated[
    Path,
    typer.Argument(
        help="Points, lines, boxes or polygons with a column class (user, time and color too).",
        metavar="LABELS",
    ),
]
User = Annotated[str | None, typer.Option(help="Whose labels count [everybody's].")]


@label_app.command("fit")
def label_fit(
    embeddings: Embeddings,
    labels: Labels,
    out: Annotated[Path, typer.Option(help="The map, a GeoTIFF of the scene's pixels.")] = Path(
        "map.tif"
    ),
    user: User = None,
) -> None:
    """Fit a decoder to labels in under a second, and draw the map that it makes of the scene."""
    import numpy as np
    from rich.table import Table

    from cgeartheye.commands.label import fit_labels
    from cgeartheye.utils.console import log_info, show

    made = fit_labels(embeddings, labels, out, user)
    table = Table("class", "labels", "patches", "of the map")
    first = np.unique(made.patches.labels, return_index=True)[1]
    for number, name in enumerate(made.decoder.names):
        counts = (
            (made.patches.classes[first] == number).sum(),
            (made.patches.classes == number).sum(),
        )
        table.add_row(name, *(str(count) for count in counts), f"{made.shares[number]:.1%}")
    show(table)
    log_info(f"fitted in {made.seconds:.2f} s")
    if made.accuracy is None:
        log_info("accuracy: not known yet, since a class has labels in one place alone")
    else:
        log_info(f"accuracy: {made.accuracy:.1%}, estimated by leaving out places")
    if made.calibration is not None:
        log_info(
            f"calibration error: {made.calibration.before:.1%}, and {made.calibration.after:.1%} "
            f"with the temperature that suggest uses ({made.calibration.temperature:.2f})"
        )
    log_info(f"map: {out}")


@label_app.command("suggest")
def label_suggest(
    embeddings: Embeddings,
    labels: Annotated[
        Path | None, typer.Argument(help="The labels so far.", metavar="[LABELS]")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Places.")] = 10,
    out: Annotated[Path, typer.Option(help="The places: .gpkg, .geojson, .parquet, .fgb.")] = Path(
        "suggestions.gpkg"
    ),
    user: User = None,
) -> None:
    """Choose the places to label next: the decoder is not sure of them, and they differ."""
    from rich.table import Table

    from cgeartheye.commands.label import suggest_labels
    from cgeartheye.geo.vector_writer import FORMATS, write_vectors
    from cgeartheye.utils.console import log_info, show

    if out.suffix[1:] not in FORMATS:
        raise UserError(f"--out {out}: name a file that ends with .{', .'.join(FORMATS)}")
    found = suggest_labels(embeddings, labels, count, user)
    write_vectors([found], out)
    table = Table("rank", "guess", "lon,lat")
    for row in found.itertuples():
        table.add_row(str(row.rank), row.guess, f"{row.lon:.6f},{row.lat:.6f}")
    show(table)
    log_info(f"{len(found)} places: {out}")


@label_app.command("dataset")
def label_dataset(
    scenes: Annotated[
        list[Path],
        typer.Argument(help="The scene that was labelled: one mosaic.", metavar="SCENE..."),
    ],
    labels: Annotated[Path, typer.Option(help="Points, lines, boxes or polygons with a class.")],
    out: Annotated[Path, typer.Option(help="A folder for the data set.")],
    user: User = None,
    chip: Annotated[
        int | None,
        typer.Option(min=28, help="Pixels a side of an image [280, or less where labels are few]."),
    ] = None,
) -> None:
    """Make a data set of labels, split by place, with a config that trains an application."""
    from cgeartheye.commands.label import write_dataset
    from cgeartheye.utils.console import log_info

    counts = write_dataset(scenes, labels, out, user, chip)
    log_info(", ".join(f"{count} images of {part}" for part, count in counts.items()))
    log_info(f"next: cgeartheye train {out / 'train.yaml'}")
