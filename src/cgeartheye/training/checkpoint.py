"""What a training needs to go on as if it had never stopped."""

import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from cgeartheye.training import distributed
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

# Whole tensors in the first process, so that a checkpoint fits any number of processes; what is
# frozen is in the weights file already.
_TUNED = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


@dataclass
class Position:
    """How far a training is.

    Attributes:
        samples: in the training data.
        step_size: samples a step, over all processes.
        step: optimiser steps done.
        best: the best value of the monitored metric so far.
        stale: evaluations since the best one.
    """

    samples: int
    step_size: int
    step: int = 0
    best: float | None = None
    stale: int = 0


def tuned_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, unsharded, on the CPU of the first process."""
    return _tensors(get_model_state_dict(model, options=_TUNED))


def all_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the whole state of a model, unsharded, on the CPU of the first process."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return _tensors(get_model_state_dict(model, options=options))


def save(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    position: Position,
) -> None:
    """Write a checkpoint whole or not at all; every process must call it.

    The order of samples, their augmentation and every random draw of a step follow from the step's
    number (see `samplers.py` and `trainer.py`), so no generator's state is kept.
    """
    weights, moments = get_state_dict(model, optimizer, options=_TUNED)
    failure = None
    if distributed.is_main():
        try:
            with replacing(path) as temporary:
                content = {
                    "model": weights,
                    "optimizer": moments,
                    "scaler": scaler.state_dict(),
                    "position": asdict(position),
                }
                torch.save(content, temporary)
        except UserError as error:
            failure = error
        except RuntimeError:  # how torch.save tells of a full disk
            failure = UserError(
                f"cannot write {path}, the disk seems to be full: the last good checkpoint stays"
            )
    distributed.raise_from_rank0(failure)


def load(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    position: Position,
) -> Position:
    """Put a checkpoint back; the number of processes may have changed since.

    Args:
        path: of the checkpoint.
        model: takes the weights.
        optimizer: takes the moments.
        scaler: takes its state.
        position: the start of the training that goes on.

    Raises:
        UserError: not a checkpoint, or one of another model or of other steps.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}")
    try:
        # Tensors and plain containers only: no code runs from the file.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found = Position(**content["position"])
        set_state_dict(
            model,
            optimizer,
            model_state_dict=content["model"],
            optim_state_dict=content["optimizer"],
            options=StateDictOptions(full_state_dict=True, ignore_frozen_params=True, strict=False),
        )
        scaler.load_state_dict(content["scaler"])
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds more than tensors: it was not read"
        ) from error
    except (KeyError, TypeError, RuntimeError, OSError, ValueError, EOFError) as error:
        reason = str(error).strip().split(os.linesep)[0]
        raise UserError(f"{path} is not a checkpoint of this training: {reason}") from error
    if (found.samples, found.step_size) != (position.samples, position.step_size):
        raise UserError(
            f"{path} is of a training with {found.samples} images, {found.step_size} a step, this "
            f"one has {position.samples} and {position.step_size}: keep the data, and "
            f"data.batch_size * training.grad_accum_steps * processes at {found.step_size}"
        )
    return found


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    assert all(isinstance(value, Tensor) for value in state.values())
    return state
