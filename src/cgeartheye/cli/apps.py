"""The commands on application models."""

from pathlib import Path
from typing import Annotated

import typer

apps_app = typer.Typer(help="Publish trained models, and keep them.", no_args_is_help=True)

Registry = Annotated[
    Path | None,
    typer.Option(help="Folder of applications [CGEARTHEYE_APPS, or the user's data folder]."),
]
Name = Annotated[str, typer.Argument(help="Id of an application.", metavar="NAME")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace an application of that id.")]


@apps_app.command("publish")
def apps_publish(
    run: Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")],
    name: Annotated[str, typer.Option(help='For people, e.g. "Roads, 0.2 m".')],
    description: Annotated[
        str, typer.Option(help="What it finds, where it works and where it does not.")
    ] = "",
    license: Annotated[str, typer.Option(help="SPDX identifier, e.g. CC-BY-4.0.")] = "other",
    id: Annotated[str | None, typer.Option(help="Its id [made of the name].")] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            help="Make the thumbnail of this image [first test image]. Repeat: two dates."
        ),
    ] = None,
    registry: Registry = None,
    replace: Replace = False,
) -> None:
    """Make an application of a trained run: one folder that needs no other file."""
    from cgeartheye.apps.publish import publish
    from cgeartheye.apps.registry import default_registry
    from cgeartheye.utils.console import log_info

    card = publish(run, name, description, license, id, registry, image or (), replace)
    log_info(f"published {card.id} (version {card.version}) in {registry or default_registry()}")


@apps_app.command("examples")
def apps_examples(
    demo: Annotated[
        Path, typer.Option(help="Folder of the demo, which is run if it is not there.")
    ] = Path("demo"),
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder with real data sets (UCMerced, EPFL-roads, GSI-solar, LEVIR-CD-20, "
            "NWPU-VHR10): one more application is learned from each that is there."
        ),
    ] = None,
    registry: Registry = None,
    replace: Replace = False,
) -> None:
    """Publish the models of the demo, which know a drawn world, and some of real images."""
    from cgeartheye.apps.examples import publish_examples
    from cgeartheye.apps.publish import publish
    from cgeartheye.demo import run as world
    from cgeartheye.utils.console import log_info

    if not (demo / "report.html").exists():
        world.demo(demo)
    for run, name, finds in (
        (world.CLASSIFIER, "Drawn scenes", "The kind of land of a chip of 72 m."),
        (world.SEGMENTER, "Drawn land cover", "The land cover of every pixel."),
        (world.DETECTOR, "Drawn change", "What was built or cleared between two dates."),
        (world.FINDER, "Drawn objects", "Ships, aeroplanes and tanks with their headings."),
    ):
        text = f"{finds} Learned from a world that is drawn by code: of no use on real images."
        card = publish(demo / run, name, text, "MIT", None, registry, (), replace)
        log_info(f"published {card.id} (version {card.version})")
    if data:
        publish_examples(data, demo / "real", registry, replace)


@apps_app.command("list")
def apps_list(registry: Registry = None) -> None:
    """List the applications."""
    from rich.table import Table

    from cgeartheye.apps.registry import Registry as Applications
    from cgeartheye.utils.console import log_info, show

    found = Applications(registry)
    cards = found.cards()
    if not cards:
        log_info(f"no applications in {found.folder}: cgeartheye apps publish RUN --name NAME")
        return
    table = Table()
    for column in ("id", "name", "task", "GSD m/px", "classes", "figures, %", "of the"):
        table.add_column(column, overflow="fold")
    for card in cards:
        figures = [
            f"{name} {value:.1f}" for name, value in card.figures.items() if value is not None
        ]
        table.add_row(
            card.id,
            card.title,
            card.task.replace("_", " "),
            f"{card.gsd:.2f}" if card.gsd else "any",
            str(len(card.classes)),
            ", ".join(figures[:2]) or "not tested",
            (card.measured_on or "").partition(",")[0],
        )
    show(table)


@apps_app.command("show")
def apps_show(name: Name, registry: Registry = None) -> None:
    """Show the card of an application."""
    from rich.table import Table

    from cgeartheye.apps.registry import Registry as Applications
    from cgeartheye.utils.console import show

    card = Applications(registry).card(name)
    table = Table(show_header=False, title=card.title)
    table.add_column()
    table.add_column(overflow="fold")
    for field, value in card.model_dump(mode="json").items():
        if field == "figures":
            value = ", ".join(f"{k} {v:.1f} %" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        table.add_row(field.replace("_", " "), "not known" if value is None else str(value))
    show(table)


@apps_app.command("export")
def apps_export(
    name: Name,
    file: Annotated[Path, typer.Argument(help="A .zip file.")],
    registry: Registry = None,
) -> None:
    """Write an application as one file."""
    from cgeartheye.apps.registry import Registry as Applications
    from cgeartheye.utils.console import log_info

    Applications(registry).export(name, file)
    log_info(f"exported to {file}")


@apps_app.command("import")
def apps_import(
    source: Annotated[Path, typer.Argument(help="A .zip file, or a folder of an application.")],
    registry: Registry = None,
    replace: Replace = False,
) -> None:
    """Take an application that was exported elsewhere; no code runs from it."""
    from cgeartheye.apps.registry import Registry as Applications
    from cgeartheye.utils.console import log_info

    card = Applications(registry).take(source, replace)
    log_info(f"imported {card.id} (version {card.version})")


@apps_app.command("remove")
def apps_remove(name: Name, registry: Registry = None) -> None:
    """Delete an application."""
    from cgeartheye.apps.registry import Registry as Applications
    from cgeartheye.utils.console import log_info

    Applications(registry).remove(name)
    log_info(f"removed {name}")
