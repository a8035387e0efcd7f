"""Checkpoints of a pre-training, in PyTorch's distributed format.

A checkpoint is a folder `checkpoints/step-000001000`: every process writes its part of it, and any
number of processes reads it. Beside the parts lies the teacher's backbone, `model.safetensors`;
that of the last checkpoint also lies in the run directory.
"""

import json
import pickle
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader as loading
from torch.distributed.checkpoint import state_dict_saver as saving
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.optim import Optimizer

from cgeartheye.models.backbone import WeightsMetadata
from cgeartheye.models.backbone.checkpoint_io import save_tensors
from cgeartheye.pretraining.model import SSLNetwork
from cgeartheye.training import distributed
from cgeartheye.training.checkpoint import all_tensors
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_text

KEPT = 2
BACKBONE = "model.safetensors"
POSITION = "position.json"


@dataclass
class Position:
    """How far a pre-training is.

    Attributes:
        store: fingerprint of the images.
        batch: samples a step, over all processes.
        step: steps done.
        skipped: steps in a row whose loss was not finite.
        collapsed: readings in a row that showed a collapse.
    """

    store: str
    batch: int
    step: int = 0
    skipped: int = 0
    collapsed: int = 0


def save(
    folder: Path,
    student: nn.Module,
    teacher: SSLNetwork,
    losses: nn.Module,
    optimizer: Optimizer,
    position: Position,
    facts: WeightsMetadata,
    keep_every: int | None,
) -> None:
    """Write a checkpoint whole or not at all, then drop old ones; every process must call it.

    Args:
        folder: of the checkpoints.
        student: may be sharded.
        teacher: likewise; its `backbone` is written as safetensors besides.
        losses: its buffers (the centres) are kept.
        optimizer: of the student.
        position: how far the training is. The order of samples, their views and every random draw
            follow from the step, so no generator's state is kept.
        facts: of the backbone.
        keep_every: checkpoints of these steps stay, beside the last `KEPT`.

    Raises:
        UserError: it cannot be written; those before stay as they are.
    """
    path = folder / f"step-{position.step:09d}"
    partial = folder / f".{path.name}.partial"
    backbone = all_tensors(teacher.backbone)
    failure: UserError | None = None
    try:
        if distributed.is_main():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        distributed.barrier()
        parts = _parts(student, teacher, losses, optimizer)
        # The groups' settings follow from the config.
        del parts["optimizer"]["param_groups"]
        with _alone():
            saving.save(parts, checkpoint_id=partial, no_dist=not dist.is_initialized())
        if distributed.is_main():
            save_tensors(partial / BACKBONE, backbone, facts.to_metadata())
            write_text(partial / POSITION, json.dumps(asdict(position)))
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
            save_tensors(folder.parent / BACKBONE, backbone, facts.to_metadata())
            _drop_old(folder, keep_every)
    except (OSError, RuntimeError, CheckpointException, UserError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = str(error).strip().splitlines()[-1][:200]
        failure = UserError(
            f"cannot write {path} ({reason}): make room on the disk and go on with --resume; the "
            "last good checkpoint stays"
        )
    distributed.raise_if_any_failed(failure)


def load(
    path: Path,
    student: nn.Module,
    teacher: SSLNetwork,
    losses: nn.Module,
    optimizer: Optimizer,
    position: Position,
) -> Position:
    """Put a checkpoint back; the number of processes and their sharding may have changed.

    Args:
        path: of the checkpoint.
        student: takes its weights.
        teacher: likewise.
        losses: takes the centres.
        optimizer: takes the moments.
        position: the start of the training that goes on.

    Raises:
        UserError: no checkpoint, or one of another model, other images or another batch.
    """
    found = read_position(path)
    if (found.store, found.batch) != (position.store, position.batch):
        raise UserError(
            f"{path} is of a training on other images or with another batch ({found.batch} samples "
            f"a step, here {position.batch}): keep the store, and data.batch_size * processes at "
            f"{found.batch}"
        )
    parts = _parts(student, teacher, losses, optimizer)
    moments = parts["optimizer"]
    _read(path, parts | {"optimizer": {"state": moments["state"]}})
    set_state_dict(student, optimizer, model_state_dict=parts["student"], optim_state_dict=moments)
    set_state_dict(teacher, (), model_state_dict=parts["teacher"], optim_state_dict={})
    losses.load_state_dict(parts["losses"])
    return found


def read_part(path: Path, part: str) -> dict[str, Tensor]:
    """Return the whole tensors of the `student`, the `teacher` or the `losses` of a checkpoint.

    Raises:
        UserError: no checkpoint.
    """
    read_position(path)
    with _one_sentence(path):
        entries = _Reader(path).read_metadata().state_dict_metadata
    tensors = {
        name.removeprefix(f"{part}."): torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in entries.items()
        if name.startswith(f"{part}.") and isinstance(entry, TensorStorageMetadata)
    }
    _read(path, {part: tensors})
    return tensors


def read_position(path: Path) -> Position:
    """Return how far a checkpoint is.

    Raises:
        UserError: no checkpoint.
    """
    try:
        return Position(**json.loads((path / POSITION).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is no checkpoint of a pre-training: name a folder checkpoints/step-..."
        ) from error


def latest(folder: Path) -> Path | None:
    """Return the checkpoint of the latest step, if there is one."""
    return max(folder.glob("step-*"), default=None)


def _parts(
    student: nn.Module, teacher: nn.Module, losses: nn.Module, optimizer: Optimizer
) -> dict[str, Any]:
    weights, moments = get_state_dict(student, optimizer)
    followed, _ = get_state_dict(teacher, ())
    return {
        "student": weights,
        "teacher": followed,
        "losses": losses.state_dict(),
        "optimizer": moments,
    }


def _read(path: Path, parts: dict[str, Any]) -> None:
    with _one_sentence(path), _alone():
        loading.load(parts, storage_reader=_Reader(path), no_dist=not dist.is_initialized())


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        RuntimeError,
        CheckpointException,
        KeyError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise UserError(
            f"{path} is damaged or of another model than the config's: {reason}"
        ) from error


@contextmanager
def _alone() -> Iterator[None]:
    """Keep PyTorch from wondering at a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


class _Reader(FileSystemReader):
    """Reads tensors, and no code: the format's own reader runs what its index says."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        index = Path(self.path) / ".metadata"
        with index.open("rb") as file:
            metadata = _Index(file).load()
        if not isinstance(metadata, Metadata) or not all(
            isinstance(entry, TensorStorageMetadata)
            for entry in metadata.state_dict_metadata.values()
        ):
            raise pickle.UnpicklingError(f"{index} names more than tensors")
        return metadata


class _Index(pickle.Unpickler):
    """Knows the classes of an index of tensors, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in _IN_AN_INDEX:
            raise pickle.UnpicklingError(f"the index names {module}.{name}, it was not read")
        return super().find_class(module, name)


_IN_AN_INDEX = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "Metadata",
            "TensorStorageMetadata",
            "BytesStorageMetadata",
            "TensorProperties",
            "ChunkStorageMetadata",
            "MetadataIndex",
            "StorageMeta",
            "_MEM_FORMAT_ENCODING",
        )
    ),
}


def _drop_old(folder: Path, keep_every: int | None) -> None:
    for path in sorted(folder.glob("step-*"))[:-KEPT]:
        step = int(path.name.removeprefix("step-"))
        if keep_every is None or step % keep_every:
            shutil.rmtree(path)
