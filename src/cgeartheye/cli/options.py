"""Arguments and options that several commands have, and what they read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cgeartheye.config import Config, Jlssd, Pretraining

ConfigFile = Annotated[
    Path,
    typer.Argument(
        help="A config file: .yaml, or .py, which is run as a program, so trust its author.",
        metavar="CONFIG",
    ),
]
RunOrModel = Annotated[
    Path,
    typer.Argument(
        help="A run directory, its model.safetensors, an exported folder, or the id of an "
        "application.",
        metavar="RUN",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Override a field, e.g. data.batch_size=16. Repeat."
    ),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="torch, or onnx or openvino if the run was exported for it [that of an exported "
        "folder, else torch].",
    ),
]
Dem = Annotated[
    str | None,
    typer.Option(
        "--dem",
        help="For a scene with RPCs alone: a raster of heights, or one height in metres above the "
        "ellipsoid.",
    ),
]
Overlap = Annotated[
    float | None,
    typer.Option(
        help="Share of a window that its neighbor covers too [of a map: as in the training; of an "
        "embedding: 1/3]."
    ),
]
Stretch = Annotated[
    tuple[float, float] | None,
    typer.Option(
        help="Values that become 0 and 255, of more than 8 bits [1 and 99 % of the scene]."
    ),
]
Crs = Annotated[str | None, typer.Option(help="Of a scene that names none, e.g. EPSG:32650.")]
InputGsd = Annotated[
    float | None,
    typer.Option("--input-gsd", help="GSD in m/px of a scene that is not georeferenced."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision", help="fp32, bf16, fp16; int8 of an export [as trained or exported]."
    ),
]
WorkDir = Annotated[
    Path | None, typer.Option("--work-dir", help="The run directory [runs/<config name>].")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run directory's last checkpoint.")
]
ResumeFrom = Annotated[
    Path | None,
    typer.Option(help="Go on with this checkpoint, a folder step-...", metavar="CHECKPOINT"),
]


def read_config(
    path: Path, overrides: list[str] | None, work_dir: Path | None
) -> "Config | Pretraining | Jlssd":
    """Read a config of any kind, with the overrides of the command line.

    Args:
        path: of the config file, `.py` or `.yaml`.
        overrides: `field.subfield=value` each, of `--set`.
        work_dir: of `--work-dir`; none: the config's own.
    """
    from cgeartheye.config import load

    overrides = list(overrides or [])
    if work_dir is not None:
        overrides.append(f"work_dir={work_dir}")
    return load(path, overrides)


def read_task_config(path: Path, overrides: list[str] | None, work_dir: Path | None) -> "Config":
    """Read the config of a task.

    Args:
        path: of the config file, `.py` or `.yaml`.
        overrides: `field.subfield=value` each, of `--set`.
        work_dir: of `--work-dir`; none: the config's own.

    Raises:
        UserError: it is of another kind.
    """
    from cgeartheye.config import refuse_other_kinds

    return refuse_other_kinds(read_config(path, overrides, work_dir), str(path))
