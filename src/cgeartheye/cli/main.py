"""The command line: each command parses, calls one function and prints.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cgeartheye.cli.jlssd import jlssd_app
from cgeartheye.cli.renamed import with_old_options
from cgeartheye.utils.errors import UserError

app = typer.Typer(
    name="cgeartheye",
    help="A vision foundation model for sub-metre satellite imagery.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take [defaults] for markup
)
weights_app = typer.Typer(help="Look into weights files and convert them.", no_args_is_help=True)
config_app = typer.Typer(help="Show what a config file says.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")
app.add_typer(config_app, name="config")
app.add_typer(jlssd_app, name="jlssd")


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
app.add_typer(pretrain_app, name="pretrain")

ConfigFile = Annotated[Path, typer.Argument(help="A config file, .py or .yaml.", metavar="CONFIG")]
RunOrModel = Annotated[
    Path, typer.Argument(help="A run directory or its model.safetensors.", metavar="RUN")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Override a field, e.g. data.batch_size=16. Repeat."
    ),
]
WorkDir = Annotated[
    Path | None, typer.Option("--work-dir", help="The run directory [runs/<config name>].")
]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from cgeartheye import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def train(
    config: ConfigFile,
    set_: Overrides = None,
    work_dir: WorkDir = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run directory's last checkpoint.")
    ] = False,
    resume_from: Annotated[
        Path | None, typer.Option(help="Go on with this checkpoint.", metavar="CHECKPOINT")
    ] = None,
) -> None:
    """Train, evaluate after every epoch, test the best model and write its report."""
    from cgeartheye.commands import tasks

    try:
        tasks.train(_load(config, set_, work_dir), resume=resume, checkpoint=resume_from)
    except KeyboardInterrupt:
        print("interrupted: --resume goes on from the last checkpoint", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def test(
    target: Annotated[
        Path, typer.Argument(help="A run directory, or a config file.", metavar="RUN|CONFIG")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A run directory, model.safetensors, checkpoint or published .pth."),
    ] = None,
    set_: Overrides = None,
    work_dir: WorkDir = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write every prediction: a .csv or .json file, or a folder of masks."),
    ] = None,
    show_dir: Annotated[
        Path | None, typer.Option(help="Save every image with its prediction here.")
    ] = None,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Average over mirror images and the config's scales."),
    ] = False,
) -> None:
    """Test a trained model: figures in the terminal, test.json and report.html."""
    from cgeartheye.commands import tasks

    if target.is_dir():
        config, checkpoint = target / "config.yaml", checkpoint or target
    else:
        config = target
    tasks.test(_load(config, set_, work_dir), checkpoint, out=out, show_dir=show_dir, tta=tta)


@app.command()
def predict(
    run: RunOrModel,
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[
        Path, typer.Option(help="A .csv, .json or .geojson file, or a folder of masks.")
    ],
    set_: Overrides = None,
) -> None:
    """Classify images, or every pixel of them."""
    from cgeartheye.commands import tasks

    tasks.predict(run, inputs, out, set_ or [])


@app.command("map", cls=with_old_options("map"))
def map_(
    run: RunOrModel,
    out: Annotated[Path, typer.Option(help="A folder for the map alone.")],
    scenes: Annotated[
        list[Path] | None,
        typer.Argument(help="Rasters, or folders of them: one mosaic.", metavar="SCENE..."),
    ] = None,
    before: Annotated[
        list[Path] | None,
        typer.Option(help="For a change model, the scene of the first date. Repeat: one mosaic."),
    ] = None,
    after: Annotated[
        list[Path] | None, typer.Option(help="That of the second date, on any grid of its own.")
    ] = None,
    date_labels: Annotated[
        tuple[str, str] | None,
        typer.Option(help="What to call the two dates [their tag of date, or file name]."),
    ] = None,
    coregister: Annotated[
        bool,
        typer.Option("--coregister", help="Find how the second date is displaced; move it back."),
    ] = False,
    vector_format: Annotated[
        list[str] | None,
        typer.Option(
            help="Polygons too: gpkg, parquet, geojson or fgb; of objects gpkg if "
            "none is named. Repeat for several."
        ),
    ] = None,
    max_object_size: Annotated[
        float | None,
        typer.Option(
            help="For a detector, metres that the largest object reaches, its diagonal: windows "
            "overlap by as much (as in its training)."
        ),
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(help="For a detector, the least of an object (what its test found, or 0.3)."),
    ] = None,
    gsd: Annotated[
        float | None, typer.Option(help="Metres a pixel that the model sees [as in its training].")
    ] = None,
    aoi: Annotated[
        Path | None, typer.Option(help="A vector file; outside its polygons there is no map.")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Share of a window that its neighbour covers too [1/3].")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write those of every class.")
    ] = False,
    bands: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Which bands are red, green and blue [as in training]."),
    ] = None,
    stretch: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Values that become 0 and 255, of more than 8 bits [1 and 99 % of the scene]."
        ),
    ] = None,
    crs: Annotated[
        str | None, typer.Option(help="Of a scene that names none, e.g. EPSG:32650.")
    ] = None,
    input_gsd: Annotated[
        float | None, typer.Option(help="Metres a pixel of a scene that is on no map.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    set_: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish a map that was interrupted.")
    ] = False,
) -> None:
    """Map a scene of any size, what changed, or objects: GeoTIFF, polygons, a preview page."""
    from cgeartheye.commands.map import map_scenes

    if not (scenes or before or after):
        raise UserError("name a scene to map, or two dates with --before and --after")
    if scenes and (before or after):
        raise UserError(f"{scenes[0]} is named beside --before and --after: leave one or the other")
    if bool(before) != bool(after):
        missing = "--after" if before else "--before"
        raise UserError(f"one date is missing: name its scene with {missing}")

    given = {
        "vector_format": tuple(vector_format) if vector_format else None,
        "gsd": gsd,
        "aoi": aoi,
        "overlap": overlap,
        "probabilities": probabilities or None,
        "bands": bands,
        "stretch": stretch,
        "crs": crs,
        "input_gsd": input_gsd,
        "date_labels": date_labels,
        "coregister": coregister or None,
        "max_object_size": max_object_size,
        "score_threshold": score_threshold,
    }
    options = {name: value for name, value in given.items() if value is not None}
    overrides = [*(set_ or []), *([f"training.device={device}"] if device else [])]
    try:
        map_scenes(run, scenes or before or [], out, options, overrides, resume, after)
    except KeyboardInterrupt:
        print("interrupted: --resume finishes the map", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def probe(config: ConfigFile, set_: Overrides = None, work_dir: WorkDir = None) -> None:
    """Measure a frozen backbone: kNN and linear probe, with all labels and with few."""
    from cgeartheye.commands.probe import probe

    read = _load(config, set_, work_dir)
    if read.task != "scene_classification":
        raise UserError(f"{config} is no config of scene classification, which a probe needs")
    probe(read)


@app.command()
def check(config: ConfigFile, set_: Overrides = None, work_dir: WorkDir = None) -> None:
    """Examine the data that a config names before training on them."""
    from cgeartheye.commands import tasks

    if not tasks.check(_load(config, set_, work_dir)):
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the world, the run and the report go.")] = Path(
        "demo"
    ),
) -> None:
    """Draw a small world, train a classifier on it, test it and write the report."""
    from cgeartheye.demo.run import demo

    demo(out)


@pretrain_app.command("run")
def pretrain_run(
    config: ConfigFile,
    set_: Overrides = None,
    work_dir: WorkDir = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run directory's last checkpoint.")
    ] = False,
    resume_from: Annotated[
        Path | None, typer.Option(help="Go on with this checkpoint, a folder step-...")
    ] = None,
) -> None:
    """Learn a backbone from a store of unlabelled images."""
    from cgeartheye.pretraining.trainer import pretrain

    read = _read(config, set_, work_dir)
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
        float | None, typer.Option(min=0.001, help="Metres a pixel of the chips [the raster's].")
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
    from cgeartheye.pretraining.store.inputs import Settings
    from cgeartheye.pretraining.store.summary import show_packed, show_problems

    if source is None and not verify:
        raise UserError("name a folder, a table or a raster to pack, or --verify a store")
    if source is not None:
        settings = Settings(chip_size, gsd, bands, season, max_side, jpeg_quality)
        show_packed(out, pack.pack(source, out, settings, skip_damaged, workers))
    if verify and not show_problems(out, pack.verify(out)):
        raise typer.Exit(1)


@weights_app.command("inspect")
def weights_inspect(
    file: Annotated[
        Path, typer.Argument(help="A weights file, or a size whose weights ship: tiny.")
    ],
) -> None:
    """Say what a weights file holds; no code runs from it."""
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
    gsd: Annotated[float | None, typer.Option(help="Metres a pixel.")] = None,
    card: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=TEXT",
            help="Say more of the weights, which inspect shows, e.g. teacher=... Repeat.",
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


@config_app.command("show")
def config_show(config: ConfigFile, set_: Overrides = None, work_dir: WorkDir = None) -> None:
    """Print the resolved config as YAML, itself a valid config file."""
    from cgeartheye.config import to_yaml

    print(to_yaml(_read(config, set_, work_dir)), end="")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a user's mistake is one sentence and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        app([argument for argument in arguments if argument != "--debug"])
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _read(path: Path, overrides: list[str] | None, work_dir: Path | None):  # type: ignore[no-untyped-def]
    from cgeartheye.config import load

    overrides = list(overrides or [])
    if work_dir is not None:
        overrides.append(f"work_dir={work_dir}")
    return load(path, overrides)


def _load(path: Path, overrides: list[str] | None, work_dir: Path | None):  # type: ignore[no-untyped-def]
    """Read the config of a task."""
    from cgeartheye.commands.tasks import refuse_other_kinds

    return refuse_other_kinds(_read(path, overrides, work_dir), str(path))
