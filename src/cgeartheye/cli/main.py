"""The command line: each command parses, calls one function and prints.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import io
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cgeartheye.cli.apps import apps_app
from cgeartheye.cli.changes import changes_command
from cgeartheye.cli.data import data_app
from cgeartheye.cli.embed import embed_command
from cgeartheye.cli.jlssd import jlssd_app
from cgeartheye.cli.label import label_app
from cgeartheye.cli.map import map_command, plan_command
from cgeartheye.cli.options import (
    ConfigFile,
    Dem,
    EngineName,
    Overrides,
    Precision,
    Resume,
    ResumeFrom,
    RunOrModel,
    WorkDir,
    read_config,
    read_task_config,
)
from cgeartheye.cli.pretrain import pretrain_app
from cgeartheye.cli.renamed import with_old_options
from cgeartheye.cli.search import search_command
from cgeartheye.cli.serve import serve_command, token_command, worker_command
from cgeartheye.cli.weights import weights_app
from cgeartheye.utils.errors import UserError

app = typer.Typer(
    name="cgeartheye",
    help="A vision foundation model for sub-metre satellite imagery.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take [defaults] for markup
)
config_app = typer.Typer(help="Show the fields of a config file.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")
app.add_typer(pretrain_app, name="pretrain")
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")
app.add_typer(jlssd_app, name="jlssd")
app.add_typer(apps_app, name="apps")
app.add_typer(label_app, name="label")


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
    resume: Resume = False,
    resume_from: ResumeFrom = None,
) -> None:
    """Train, evaluate after every epoch, test the best model and write its report."""
    read = read_task_config(config, set_, work_dir)  # first: what follows imports for seconds
    from cgeartheye.commands import tasks
    from cgeartheye.training.checkpoint import latest

    try:
        tasks.train(read, resume=resume, checkpoint=resume_from)
    except KeyboardInterrupt:
        assert read.work_dir is not None
        last = latest(read.work_dir / "checkpoints")
        more = f"--resume goes on from {last}" if last else "there is no checkpoint yet"
        print(f"interrupted: {more}", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def test(
    target: Annotated[
        Path, typer.Argument(help="A run directory, or a config file.", metavar="RUN|CONFIG")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A run directory, model.safetensors or published .pth."),
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
    engine: EngineName = None,
    precision: Precision = None,
) -> None:
    """Test a trained model: figures in the terminal, test.json and report.html."""
    if target.is_dir():
        config, checkpoint = target / "config.yaml", checkpoint or target
    else:
        config = target
    read = read_task_config(config, set_, work_dir)
    from cgeartheye.commands import tasks

    tasks.test(
        read,
        checkpoint,
        out=out,
        show_dir=show_dir,
        tta=tta,
        engine=engine,
        precision=precision,
    )


@app.command()
def predict(
    run: RunOrModel,
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[
        Path, typer.Option(help="A .csv, .json or .geojson file, or a folder of masks.")
    ],
    set_: Overrides = None,
    engine: EngineName = None,
    precision: Precision = None,
    dem: Dem = None,
) -> None:
    """Classify images, or every pixel of them."""
    from cgeartheye.apps.registry import find_run
    from cgeartheye.commands import tasks

    tasks.predict(find_run(run), inputs, out, set_ or [], engine, precision, dem)


@app.command()
def export(
    run: RunOrModel,
    format_: Annotated[str, typer.Option("--format", help="onnx, openvino or torch.")],
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16 or int8.")] = "fp32",
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(help="For int8, images like those to be predicted; of two dates repeat."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder [export/FORMAT-PRECISION in the run's].")
    ] = None,
    set_: Overrides = None,
) -> None:
    """Write a trained model as one graph for ONNX Runtime or OpenVINO, or in fewer bits."""
    from cgeartheye.apps.registry import find_run
    from cgeartheye.commands.export import export

    export(find_run(run), format_, precision, calibrate, out, set_)


app.command("map", cls=with_old_options("map"))(map_command)
app.command("plan")(plan_command)
app.command("embed")(embed_command)
app.command("search")(search_command)
app.command("changes")(changes_command)
app.command("serve")(serve_command)
app.command("worker")(worker_command)
app.command("serve-token")(token_command)


@app.command()
def probe(config: ConfigFile, set_: Overrides = None, work_dir: WorkDir = None) -> None:
    """Measure a frozen backbone: kNN and linear probe, with all labels and with few."""
    read = read_task_config(config, set_, work_dir)
    if read.task != "scene_classification":
        raise UserError(f"{config} is no config of scene classification, which a probe needs")
    from cgeartheye.commands.probe import probe

    probe(read)


@app.command()
def benchmark(
    table: Annotated[
        Path, typer.Argument(help="The table's file, .yaml.", metavar="TABLE", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the benchmark [runs/<table name>].")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what the folder holds.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cells at once; with GPUs each has its own [1; of --cluster one a GPU, or one for "
            "two cores].",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="Run the cells by Ray: local, or the address of a cluster."),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Measure backbones on data sets by several protocols and seeds: a table, cell by cell."""
    from cgeartheye.benchmark.run import benchmark

    benchmark(table, set_ or [], out, resume, workers, cluster)


@app.command()
def check(config: ConfigFile, set_: Overrides = None, work_dir: WorkDir = None) -> None:
    """Examine the data that a config names before training on them."""
    read = read_task_config(config, set_, work_dir)
    from cgeartheye.commands.check import check as examine

    if not examine(read):
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


@config_app.command("show")
def config_show(config: ConfigFile, set_: Overrides = None, work_dir: WorkDir = None) -> None:
    """Print the resolved config as YAML, itself a valid config file."""
    from cgeartheye.config import to_yaml

    print(to_yaml(read_config(config, set_, work_dir)), end="")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a user's mistake is one sentence and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app([argument for argument in arguments if argument != "--debug"])
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
