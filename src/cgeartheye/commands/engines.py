"""Which engine computes a trained model, and in which precision."""

from pathlib import Path

import torch

from cgeartheye.inference.engines import ENGINES
from cgeartheye.tasks.exports import find_export
from cgeartheye.training.trainer import warn_slow_precision
from cgeartheye.utils.errors import UserError, nearest

_OF_TORCH = ("fp32", "bf16", "fp16")


def choose_engine(run: Path, engine: str | None, precision: str | None) -> tuple[Path, list[str]]:
    """Return what is to be loaded, and what it changes in the config.

    Args:
        run: a run directory, its weights, or an exported folder.
        engine: of `ENGINES`; none: that of an exported folder, else `torch`.
        precision: none: that of the export or of the training.

    Raises:
        UserError: an unknown engine or precision, or one that the run was not exported for.
    """
    if engine is None and precision is None:
        return run, []
    if engine is not None and engine not in ENGINES:
        raise UserError(f"--engine {engine} is unknown: give one of {', '.join(ENGINES)}")
    found, kind = find_export(run, engine, precision)
    if kind != "torch" or precision is None:
        return found, []
    if precision not in _OF_TORCH:
        raise UserError(
            f"torch does not compute in {precision}: give one of {', '.join(_OF_TORCH)}, or "
            f"--engine onnx or openvino{nearest(precision, list(_OF_TORCH))}"
        )
    if not torch.cuda.is_available():
        warn_slow_precision(torch.device("cpu"), precision)
    return found, [f"training.precision={precision}"]
