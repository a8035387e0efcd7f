"""The published command lines, translated into those of `cgeartheye`.

`--cfg-options k=v k2=v2` and `--resume [CHECKPOINT]` take several values or none, which the
command line of `cgeartheye` does not; otherwise the two agree.
"""

import argparse
from pathlib import Path
from typing import Literal

from cgeartheye.cli import main
from cgeartheye.config import ObjectDetection, load
from cgeartheye.utils.errors import UserError

Boxes = Literal["horizontal", "oriented"]
_TOOLS = {"horizontal": "hbb", "oriented": "obb"}


def train(verb: str = "train", boxes: Boxes | None = None) -> None:
    """`train_*.py CONFIG [--amp] [--work-dir D] [--resume [CKPT]] [--cfg-options k=v ...]`.

    Args:
        verb: `train`, or `pretrain`, whose program takes the same arguments.
        boxes: those of the config; none: it is of another task.
    """
    parser = argparse.ArgumentParser(description="Train a model.")
    _add_common(parser)
    parser.add_argument("--amp", action="store_true", help="mixed precision (bfloat16)")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on with a checkpoint, by default the last one of the run directory",
    )
    given = parser.parse_args()
    if boxes:
        _check_boxes(parser, given, "train", boxes)
    command = [verb, given.config, *_common(given)]
    if given.amp:
        command += ["--set", "training.precision=bf16"]
    if given.resume == "auto":
        command += ["--resume"]
    elif given.resume:
        command += ["--resume-from", given.resume]
    main(command)


def test(boxes: Boxes | None = None) -> None:  # noqa: PT028 - it is no test of pytest
    """`test_*.py CONFIG [CKPT] [--out F] [--show-dir D] [--tta] [--cfg-options k=v ...]`.

    Args:
        boxes: those of the config; none: it is of another task.
    """
    parser = argparse.ArgumentParser(description="Test a model.")
    _add_common(parser)
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="run directory, model.safetensors or published .pth; by default that of the config",
    )
    parser.add_argument(
        "--out",
        help="write every prediction: a .csv or .json file, or a folder of masks or DOTA's texts",
    )
    parser.add_argument("--show-dir", help="save every image with its prediction here")
    parser.add_argument("--tta", action="store_true", help="average over mirror images")
    given = parser.parse_args()
    if boxes:
        _check_boxes(parser, given, "test", boxes)
    command = ["test", given.config, *([given.checkpoint] if given.checkpoint else [])]
    command += _common(given)
    if given.out:
        command += ["--out", given.out]
    if given.show_dir:
        command += ["--show-dir", given.show_dir]
    if given.tta:
        command += ["--tta"]
    main(command)


def _check_boxes(
    parser: argparse.ArgumentParser, given: argparse.Namespace, verb: str, boxes: Boxes
) -> None:
    """End with one sentence where the config has the other kind of boxes, or none at all."""
    try:
        config = load(Path(given.config), given.cfg_options)
    except UserError as error:
        parser.error(str(error))
    if not isinstance(config, ObjectDetection):
        parser.error(f"{given.config} is no config of object detection: cgeartheye {verb} takes it")
    if config.data.boxes != boxes:
        parser.error(
            f"{given.config} has {config.data.boxes} boxes: run "
            f"tools/{verb}_{_TOOLS[config.data.boxes]}.py"
        )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="a config file, .py or .yaml")
    parser.add_argument("--work-dir", help="the run directory")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="FIELD=VALUE", help="override fields"
    )
    # What older launchers pass; torchrun sets environment variables.
    parser.add_argument("--launcher", help=argparse.SUPPRESS)
    parser.add_argument("--local_rank", "--local-rank", help=argparse.SUPPRESS)


def _common(given: argparse.Namespace) -> list[str]:
    arguments = ["--work-dir", given.work_dir] if given.work_dir else []
    for override in given.cfg_options:
        arguments += ["--set", override]
    return arguments
