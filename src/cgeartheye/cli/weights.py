"""The commands on weights files."""

from pathlib import Path
from typing import Annotated

import typer

from cgeartheye.utils.errors import UserError

weights_app = typer.Typer(help="Look into weights files and convert them.", no_args_is_help=True)


@weights_app.command("inspect")
def weights_inspect(
    file: Annotated[
        Path, typer.Argument(help="A weights file, or a size whose weights ship: tiny.")
    ],
) -> None:
    """Show the content of a weights file; no code runs from it."""
    from rich.console import Console
    from rich.table import Table

    from cgeartheye.models.backbone import inspect

    table = Table(show_header=False, title=str(file))
    table.add_column()
    table.add_column(overflow="fold")
    for label, value in inspect(file).items():
        table.add_row(label, value)
    Console().print(table)


@weights_app.command("convert")
def weights_convert(
    file: Annotated[Path, typer.Argument(help="Weights in any published naming.")],
    out: Annotated[Path, typer.Argument(help="A .safetensors file.")],
    mean: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Of the pixels, 0..255.")
    ] = None,
    std: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Of the pixels, 0..255.")
    ] = None,
    gsd: Annotated[float | None, typer.Option(help="GSD in m/px.")] = None,
    card: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=TEXT",
            help="Add a line to the model card, which inspect shows, e.g. teacher=... Repeat.",
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Write half precision.")] = False,
) -> None:
    """Write the backbone of a weights file as safetensors, in our own naming.

    An EfficientNet gets timm's names, for backbone.name=timm/tf_efficientnet_lite0 and the like.
    """
    from cgeartheye.models.backbone import WeightsMetadata, convert

    entries = [entry.partition("=") for entry in card or ()]
    for label, equals, text in entries:
        if not (label and equals and text):
            raise UserError(f"--card takes LABEL=TEXT, not '{label}{equals}{text}'")
    texts = {label: text for label, _, text in entries}
    weights = convert(file, out, WeightsMetadata(mean=mean, std=std, gsd=gsd), texts, half)
    print(f"{out}: {len(weights.state)} tensors from {file}")
