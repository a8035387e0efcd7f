"""Checkpoints of every training, in PyTorch's distributed format.

A checkpoint is a folder `checkpoints/step-000001000`: every process writes its part of it, and any
number of processes reads it. No code runs from it.
"""

import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader as loading
from torch.distributed.checkpoint import state_dict_saver as saving
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from cgeartheye.training import distributed
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_json
from cgeartheye.utils.state import json_object

POSITION = "position.json"


class Position(Protocol):
    """Position of a training: a dataclass of what JSON can hold.

    Attributes:
        step: optimizer steps done.
    """

    step: int


P = TypeVar("P", bound=Position)


@dataclass(frozen=True)
class State:
    """All that a training changes.

    The order of samples, their augmentation and every random draw of a step follow from the step's
    number (see `samplers.py`), so no generator's state is kept. Nor are the settings of the
    optimizer's groups: they follow from the config.

    Attributes:
        modules: by name; they may be sharded.
        optimizer: of the first of the modules.
        frozen: whether the parameters of the modules that are not trained are kept too.
    """

    modules: Mapping[str, nn.Module]
    optimizer: Optimizer
    frozen: bool

    def tensors(self) -> dict[str, Any]:
        """Return the state as PyTorch's format takes it, by module; `optimizer` is the moments."""
        parts: dict[str, Any] = {
            name: get_model_state_dict(module, options=self._options())
            for name, module in self.modules.items()
            if module.state_dict()  # of none PyTorch thinks that it was lost
        }
        moments = get_optimizer_state_dict(self._trained, self.optimizer, options=self._options())
        return parts | {"optimizer": {"state": moments["state"]}}

    def put_back(self, parts: dict[str, Any], strict: bool) -> None:
        """Take what `tensors` returned, with other values.

        Args:
            parts: the values.
            strict: all parameters have moments.
        """
        for name, module in self.modules.items():
            if name in parts:
                options = self._options(strict=self.frozen)
                set_model_state_dict(module, parts[name], options=options)
        moments = get_optimizer_state_dict(self._trained, self.optimizer, options=self._options())
        moments["state"] = parts["optimizer"]["state"]
        set_optimizer_state_dict(
            self._trained, self.optimizer, moments, options=self._options(strict)
        )

    @property
    def _trained(self) -> nn.Module:
        return next(iter(self.modules.values()))

    def _options(self, strict: bool = True) -> StateDictOptions:
        return StateDictOptions(ignore_frozen_params=not self.frozen, strict=strict)


def tuned_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, unsharded, on the CPU of the first process."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    return _only_tensors(get_model_state_dict(model, options=options))


def all_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the whole state of a model, unsharded, on the CPU of the first process."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return _only_tensors(get_model_state_dict(model, options=options))


def save(
    folder: Path,
    state: State,
    position: Position,
    kept: int,
    keep_every: int | None = None,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Write a checkpoint whole or not at all, then drop old ones; every process must call it.

    Args:
        folder: of the checkpoints.
        state: what is kept.
        position: a dataclass; how far the training is.
        kept: how many checkpoints stay.
        keep_every: checkpoints of these steps stay besides.
        beside: writes further files into the folder of the checkpoint; the first process calls it.

    Raises:
        UserError: it cannot be written; those before stay as they are.
    """
    path = folder / f"step-{position.step:09d}"
    partial = folder / f".{path.name}.partial"
    # Running statistics of batch norms differ between processes until they are shared.
    for module in state.modules.values():
        distributed.share_buffers(module)
    failure: UserError | None = None
    try:
        if distributed.is_main():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
    except OSError as error:
        failure = _unwritten(path, error)
    distributed.raise_if_any_failed(failure)  # and all wait for the folder
    try:
        with _alone():
            saving.save(state.tensors(), checkpoint_id=partial, no_dist=not dist.is_initialized())
        if distributed.is_main():
            if beside:
                beside(partial)
            write_json(partial / POSITION, asdict(position))  # type: ignore[call-overload]
            # One of this step is the same: a resumed training drops later checkpoints. It takes
            # long to remove, and what is killed meanwhile would have none.
            same = folder / f".{path.name}.same"
            shutil.rmtree(same, ignore_errors=True)
            if path.exists():
                path.rename(same)
            partial.rename(path)
            shutil.rmtree(same, ignore_errors=True)
            _drop_old(folder, kept, keep_every)
    except (OSError, RuntimeError, CheckpointException, UserError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        failure = _unwritten(path, error)
    distributed.raise_if_any_failed(failure)


def _unwritten(path: Path, error: BaseException) -> UserError:
    reason = str(error).strip().splitlines()[-1][:200]
    return UserError(
        f"cannot write {path} ({reason}): make room on the disk and go on with --resume; the "
        "last good checkpoint stays"
    )


def load(path: Path, state: State) -> None:
    """Put a checkpoint back; the number of processes and their sharding may have changed.

    Args:
        path: of the checkpoint; `read_position` has read how far it is.
        state: takes what was kept.

    Raises:
        UserError: a damaged checkpoint, or one of another model.
    """
    parts = state.tensors()
    with _one_sentence(path):
        known = _Reader(path).read_metadata().state_dict_metadata.keys()
    # AdamW has no moments of what is held back at first, such as prototypes, but PyTorch makes some
    # up to be read (findings/frozen_head_refuses_resume.sh).
    wanted = parts["optimizer"]["state"]
    found = {
        name: moments
        for name, moments in wanted.items()
        if any(f"optimizer.state.{name}.{moment}" in known for moment in moments)
    }
    parts["optimizer"]["state"] = found
    _read(path, parts)
    state.put_back(parts, strict=state.frozen and len(found) == len(wanted))


def read_part(path: Path, part: str) -> dict[str, Tensor]:
    """Return the whole tensors of one of the modules of a checkpoint.

    Args:
        path: of the checkpoint.
        part: name of the module; see `State`.

    Raises:
        UserError: no checkpoint.
    """
    _known(path)
    with _one_sentence(path):
        entries = _Reader(path).read_metadata().state_dict_metadata
    tensors = {
        name.removeprefix(f"{part}."): torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in entries.items()
        if name.startswith(f"{part}.") and isinstance(entry, TensorStorageMetadata)
    }
    _read(path, {part: tensors})
    return tensors


def read_position(path: Path, kind: type[P]) -> P:
    """Return how far a checkpoint is.

    Args:
        path: of the checkpoint.
        kind: the dataclass that it was written with.

    Raises:
        UserError: no checkpoint, or one of another kind of training.
    """
    known = _known(path)
    try:
        kind(**known)
    except TypeError as error:
        raise UserError(f"{path} is a checkpoint of another kind of training") from error
    try:
        position = TypeAdapter(kind).validate_python(known)
    except ValidationError as error:
        raise _damaged(path) from error
    if path.name.startswith("step-") and position.step != _step(path):
        raise _damaged(path)
    return position


def latest(folder: Path) -> Path | None:
    """Return the checkpoint of the latest step, if there is one."""
    return max(folder.glob("step-*"), default=None)


def forget_after(folder: Path, step: int) -> None:
    """Drop checkpoints after `step`: they are about to be made again."""
    if distributed.is_main():
        for path in folder.glob("step-*"):
            if _step(path) > step:
                shutil.rmtree(path)
    distributed.barrier()


def _known(path: Path) -> dict[str, Any]:
    try:
        return json_object((path / POSITION).read_bytes())
    except OSError as error:
        raise UserError(
            f"{path} is no checkpoint: name a folder checkpoints/step-... of a run"
        ) from error
    except ValueError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    return UserError(
        f"{path / POSITION} is damaged, so where the run was is lost: delete {path}, then go on "
        "from the checkpoint before it with --resume"
    )


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
        # What the documentation of pickle names besides.
        AttributeError,
        EOFError,
        ImportError,
        IndexError,
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
    """Reads tensors, and no code: the format's own reader unpickles its index."""

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


def _drop_old(folder: Path, kept: int, keep_every: int | None) -> None:
    for path in sorted(folder.glob("step-*"))[:-kept]:
        if keep_every is None or _step(path) % keep_every:
            shutil.rmtree(path)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _only_tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    assert all(isinstance(value, Tensor) for value in state.values())
    return state
