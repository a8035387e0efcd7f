"""The commands that learn a backbone from unlabelled images."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cgeartheye.cli.options import (
    ConfigFile,
    Dem,
    Overrides,
    Resume,
    ResumeFrom,
    WorkDir,
    read_config,
)
from cgeartheye.cli.renamed import with_old_options
from cgeartheye.utils.errors import UserError


class _ConfigOrCommand(typer.core.TyperGroup):
    """Takes `pretrain CONFIG` for `pretrain run CONFIG`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


pretrain_app = typer.Typer(
    cls=_ConfigOrCommand,
    help="Learn a backbone from unlabelled images: pretrain CONFIG.",
    no_args_is_help=True,
)


@pretrain_app.command("run")
def pretrain_run(
    config: ConfigFile,
    set_: Overrides = None,
    work_dir: WorkDir = None,
    resume: Resume = False,
    resume_from: ResumeFrom = None,
) -> None:
    """Learn a backbone from a store of unlabelled images."""
    from cgeartheye.pretraining.trainer import pretrain

    read = read_config(config, set_, work_dir)
    if read.task != "pretraining":
        raise UserError(f"{config} is the config of a task: cgeartheye train {config}")
    pretrain(read, resume, resume_from)


@pretrain_app.command("pack", cls=with_old_options("pretrain pack"))
def pretrain_pack(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A folder of images, a table (.csv, .parquet) with columns path, place and "
            "season, or GeoTIFFs.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The store; images are added to one that exists.")] = (
        Path("store")
    ),
    chip_size: Annotated[
        int | None, typer.Option(min=14, help="Cut rasters into chips of so many pixels a side.")
    ] = None,
    gsd: Annotated[
        float | None, typer.Option(min=0.001, help="GSD in m/px of the chips [the raster's].")
    ] = None,
    bands: Annotated[
        tuple[int, int, int], typer.Option(help="Which bands are red, green and blue.")
    ] = (1, 2, 3),
    season: Annotated[
        str | None, typer.Option(help="Of all images [the table's, or a raster's file name].")
    ] = None,
    max_side: Annotated[int | None, typer.Option(min=14, help="Make longer images smaller.")] = (
        None
    ),
    jpeg_quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Encode every image anew, as JPEG.")
    ] = None,
    dem: Dem = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave damaged images out and list them.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read and encode.")] = 2,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read and decode every image of the store.")
    ] = False,
) -> None:
    """Pack unlabelled images into a store; what is already there is not packed again."""
    from cgeartheye.pretraining.store import pack
    from cgeartheye.pretraining.store.items import Settings
    from cgeartheye.pretraining.store.summary import show_packed, show_problems

    if source is None and not verify:
        raise UserError("name a folder, a table or a raster to pack, or --verify a store")
    if source is not None:
        settings = Settings(chip_size, gsd, bands, season, max_side, jpeg_quality, dem)
        show_packed(out, pack.pack(source, out, settings, skip_damaged, workers))
    if verify and not show_problems(out, pack.verify(out)):
        raise typer.Exit(1)
