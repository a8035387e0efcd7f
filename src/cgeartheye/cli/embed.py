"""The command that embeds scenes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cgeartheye.cli.options import Crs, InputGsd, Overlap, Stretch


def embed_command(
    scenes: Annotated[
        list[Path],
        typer.Argument(
            help="Rasters, each with an embedding of its own; a folder is one mosaic.",
            metavar="SCENE...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="A folder; each scene gets one in it by its name.")],
    backbone: Annotated[
        str, typer.Option(help="tiny, small, ... giant, timm/<model>, or a weights file.")
    ] = "tiny",
    weights: Annotated[
        Path | None, typer.Option(help="Weights file [those that ship for the size].")
    ] = None,
    level: Annotated[
        str,
        typer.Option(
            help="patch: a vector for each patch of 14 px, for search and labels; cell: one for "
            "each window, as GeoParquet."
        ),
    ] = "patch",
    components: Annotated[
        int, typer.Option(min=0, help="Principal components that are kept of a patch; 0: all.")
    ] = 64,
    dtype: Annotated[str, typer.Option(help="Of the components: int8 or float16.")] = "int8",
    window: Annotated[
        int, typer.Option(help="Pixels a side that the backbone sees at a time.")
    ] = 280,
    overlap: Overlap = None,
    gsd: Annotated[
        float | None, typer.Option(help="GSD in m/px that the backbone sees [as in its training].")
    ] = None,
    aoi: Annotated[
        Path | None, typer.Option(help="A vector file; outside its polygons nothing is encoded.")
    ] = None,
    bands: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Which are red, green and blue [1 2 3].")
    ] = None,
    stretch: Stretch = None,
    crs: Crs = None,
    input_gsd: InputGsd = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish embeddings that were interrupted.")
    ] = False,
) -> None:
    """Encode scenes with a frozen backbone, for search, labels with few clicks, and change."""
    from cgeartheye.commands.embed import embed_scenes

    given = {
        "overlap": overlap,
        "gsd": gsd,
        "aoi": aoi,
        "bands": bands,
        "stretch": stretch,
        "crs": crs,
        "input_gsd": input_gsd,
    }
    options = {name: value for name, value in given.items() if value is not None}
    try:
        embed_scenes(
            scenes,
            out,
            backbone,
            level,
            options,
            weights,
            window,
            components,
            dtype,
            device,
            resume,
        )
    except KeyboardInterrupt:
        print("interrupted: --resume finishes the embedding", file=sys.stderr)
        raise typer.Exit(130) from None
