"""Reads the tensors of a `.pth` file without running code from it.

A `.pth` file is a pickle: a program that may import and call anything. Here it can make plain
containers and descriptions of tensors, and nothing else. Whatever other class or function it names
(mmengine's HistoryBuffer, numpy's scalars, an optimizer's state, `os.system`) is never imported: an
inert placeholder takes its place. Only the tensors of the model are then read from the file.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from cgeartheye.models.backbone.wrappers import refuse_sharded
from cgeartheye.utils.errors import UserError

# Where checkpoints keep the weights, the best first: a self-distilled teacher, or an average over
# the steps, is what is used. mmengine's `ema_state_dict` is not: it has them the other way round.
WRAPPERS = (
    "teacher",
    "model_ema",
    "state_dict_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "backbone",
    "encoder",
    "student",
)
# What pickles call the types of elements, in `torch` or `torch.cuda`.
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
ZIP_MAGIC = b"PK\x03\x04"
# The first object in a file of the format that `torch.save` wrote until 2020.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class _StoredTensor:
    """Position of a tensor: which elements of a storage it has."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Opened:
    """Pickled content, the foreign globals it names, and how to get the bytes of a storage."""

    content: object
    foreign: list[str]
    load: Callable[[str], bytes]


def read_pickled(path: Path) -> tuple[dict[str, Tensor], str | None, list[str]]:
    """Read the model's tensors from a `.pth` file, in the format of today or that before 2020.

    Returns:
        Tensors by name; which of several state dicts in the file they are, in words, none: there
        is no other; and the names of the foreign classes and functions in the file.

    Raises:
        UserError: the file is damaged, or holds no state dict.
    """
    try:
        with ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            if file.read(4) == ZIP_MAGIC:
                opened = _open_zip(stack.enter_context(zipfile.ZipFile(file)))
            else:
                file.seek(0)
                opened = _open_legacy(file)
            refuse_sharded(opened.foreign, path)
            state, choice = _state_dict(opened.content)
            if not state:
                raise UserError(
                    f"{path} holds {_summary(opened.content)} and no state dict of tensors: save "
                    "the model's state_dict() in it"
                )
            # Tensors may share a storage.
            keys = {stored.storage.key for stored in state.values()}
            storages = {key: _tensor(opened.load(key)) for key in keys}
            tensors = {name: _view(s, storages[s.storage.key]) for name, s in state.items()}
            return tensors, choice, opened.foreign
    except UserError:
        raise
    except Exception as error:  # in a damaged file anything can go wrong
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise UserError(
            f"{path} is damaged or incomplete, download or copy it again ({reason})"
        ) from error


def _open_zip(archive: zipfile.ZipFile) -> _Opened:
    pickles = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError("a zip archive that torch.save did not write")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") == b"big":
        raise ValueError("written on a big-endian machine")
    unpickler = _TensorUnpickler(io.BytesIO(archive.read(pickles[0])))
    content = unpickler.load()
    # zipfile compares checksums, which torch.load does not.
    return _Opened(content, unpickler.foreign, lambda key: archive.read(f"{folder}data/{key}"))


def _open_legacy(file: BinaryIO) -> _Opened:
    if _TensorUnpickler(file).load() != LEGACY_MAGIC:
        raise ValueError("a pickle that torch.save did not write")
    for _ in ("protocol", "system"):
        _TensorUnpickler(file).load()
    unpickler = _TensorUnpickler(file)
    content = unpickler.load()
    places = {}
    for key in _TensorUnpickler(file).load():
        length = int.from_bytes(file.read(8), "little") * unpickler.storages[key].dtype.itemsize
        places[key] = file.tell(), length
        file.seek(length, io.SEEK_CUR)

    def load(key: str) -> bytes:
        start, length = places[key]
        file.seek(start)
        return file.read(length)

    return _Opened(content, unpickler.foreign, load)


def _state_dict(content: object) -> tuple[dict[str, _StoredTensor], str | None]:
    """Return the tensors of the best state dict, and which it is where there are several."""
    if not isinstance(content, Mapping):
        return {}, None
    found = {name: _state_dict(content.get(name)) for name in WRAPPERS}
    held = [name for name, (state, _) in found.items() if state]
    if held:
        state, within = found[held[0]]
        others = ", ".join(held[1:])
        notes = [f"{held[0]}, not {others}"] if others else []
        return state, "; ".join([*notes, *([within] if within else [])]) or None
    return {
        name: value
        for name, value in content.items()
        if isinstance(value, _StoredTensor) and isinstance(name, str)
    }, None


def _summary(content: object) -> str:
    if isinstance(content, Mapping):
        names = ", ".join(map(str, list(content)[:5]))
        return f"a dict ({names})" if names else "an empty dict"
    return f"a {type(content).__module__}.{type(content).__name__}"


def _tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0).byte()


def _view(stored: _StoredTensor, data: Tensor) -> Tensor:
    elements = data.view(stored.storage.dtype)
    if len(elements) < stored.storage.count:
        raise ValueError("a tensor is cut short")
    return elements.as_strided(stored.shape, stored.stride, stored.offset)


class _TensorUnpickler(pickle._Unpickler):
    """Makes plain containers, descriptions of tensors, and placeholders for everything else.

    It is the standard library's unpickler written in Python: from the one written in C a single
    damaged byte can demand gigabytes.
    """

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}
        self._placeholders: dict[str, type[_Placeholder]] = {}

    @property
    def foreign(self) -> list[str]:
        """Full names of the globals that placeholders stand for."""
        return sorted(self._placeholders)

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a global; nothing is imported.

        The functions are made anew each time, because a pickle can set attributes of what it gets.
        """
        if module == "torch._utils":
            if name in {"_rebuild_tensor", "_rebuild_tensor_v2"}:
                return lambda storage, offset, shape, stride, *_: _StoredTensor(
                    storage, offset, shape, stride
                )
            if name == "_rebuild_parameter":
                return lambda data, *_: data
        if module in {"torch", "torch.cuda"} and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch", "Size"):
            return tuple
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        placeholder = type(name, (_Placeholder,), {"__module__": module})
        return self._placeholders.setdefault(f"{module}.{name}", placeholder)

    def persistent_load(self, identity: Any) -> Any:
        """Return what an identity stands for: a storage, or a class beside its source code."""
        kind, *what = identity
        if kind == "module":
            return what[0]
        dtype, key, _device, count, *view = what
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(view):
            raise ValueError(f"unknown kind of storage {identity!r:.100}")
        return self.storages.setdefault(key, _Storage(key, dtype, count))


class _Placeholder:
    """Takes part in every step of unpickling and does nothing."""

    def __new__(cls, *_: object, **__: object) -> "_Placeholder":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object): ...

    def __call__(self, *_: object, **__: object) -> "_Placeholder":
        return self

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def _ignore(self, elements: object) -> None: ...

    append = extend = add = _ignore
