"""Weights files: every published naming in, our own out.

Names, shapes and facts of a ViT of the DINOv2 kind are recognized by the file's content, never by
its name. EfficientNets are known too, and get timm's names. Nothing is guessed: what does
not fit is an error that lists it.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cgeartheye.config.model import statistics_problem
from cgeartheye.models.backbone.efficientnet import is_efficientnet, to_timm
from cgeartheye.models.backbone.key_mapping import FORMAT, to_native
from cgeartheye.models.backbone.lora import SCALE, merge_tensors
from cgeartheye.models.backbone.safe_pickle import ZIP_MAGIC, read_pickled
from cgeartheye.models.backbone.stable_bytes import sort_metadata
from cgeartheye.models.backbone.variants import Size
from cgeartheye.models.backbone.vit import VisionTransformer
from cgeartheye.models.backbone.wrappers import (
    read_index,
    refuse_foreign,
    strip_wrappers,
    weights_in,
)
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class WeightsMetadata:
    """Settings that weights were trained with, where their file records them.

    Attributes:
        mean: of the red, green and blue pixel values on the scale 0..255.
        std: their standard deviations.
        gsd: ground sampling distance, m/px.
        image_size: pixels a side.
    """

    mean: Triple | None = None
    std: Triple | None = None
    gsd: float | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        """Raise a UserError where a number makes no sense."""
        if self.gsd is not None and not self.gsd > 0:
            raise UserError(f"gsd {self.gsd} must be above 0")
        if self.mean is None or self.std is None:
            return
        if problem := statistics_problem(self.mean, self.std):
            raise UserError(problem)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> Self:
        """Read the facts in the metadata of a safetensors file.

        Raises:
            UserError: a value that is none.
        """
        try:
            found = {name: json.loads(metadata[name]) for name in asdict(cls()) if name in metadata}
            for name in {"mean", "std"} & found.keys():
                red, green, blue = map(float, found[name])
                found[name] = red, green, blue
            return cls(**found)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"the metadata of {path} are malformed ({error}): mean and std must be three "
                "numbers, gsd and image_size one"
            ) from error

    @classmethod
    def labels(cls) -> set[str]:
        """Return what the metadata call them, and the mark of our files."""
        return {"format", *asdict(cls())}

    def to_metadata(self) -> dict[str, str]:
        """Return the facts as safetensors keeps them."""
        return {"format": FORMAT, **{name: json.dumps(v) for name, v in self.known().items()}}

    def known(self) -> dict[str, Any]:
        """Return what is known, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Weights:
    """The weights of a backbone.

    Attributes:
        path: the file.
        naming: mmpretrain, huggingface, dinov2, timm, efficientnet-pytorch, or native for our own.
        state: tensors by native name, or by timm's of an EfficientNet, in the file's precision.
        facts: their metadata in the file.
        card: its other metadata, label by label: the teacher, the data, their licences.
        ignored: names in the file outside of the backbone.
        foreign: classes and functions that a `.pth` file names and that were not imported.
    """

    path: Path
    naming: str
    state: dict[str, Tensor]
    facts: WeightsMetadata
    card: dict[str, str]
    ignored: list[str]
    foreign: list[str]

    @property
    def is_vit(self) -> bool:
        """Return whether they are a vision transformer's; only then has it what follows."""
        return "cls_token" in self.state

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.state["cls_token"].shape[-1]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len({name.split(".")[1] for name in self.state if name.startswith("blocks.")})

    @property
    def registers(self) -> int:
        """Number of register tokens."""
        return self.state["register_tokens"].shape[1] if "register_tokens" in self.state else 0

    @property
    def grid(self) -> int:
        """Patches a side that the position embeddings are for."""
        return math.isqrt(self.state["pos_embed"].shape[1] - 1)


def read_weights(path: Path) -> Weights:
    """Read the weights of one of our own backbones from a file in any published naming.

    Raises:
        UserError: the file is missing or damaged, or holds no vision transformer.
    """
    weights = read_any_weights(path)
    if not weights.is_vit:
        raise UserError(
            f"{path} holds an EfficientNet: set backbone.name to timm's name for it, such as "
            "timm/tf_efficientnet_lite0, or name the weights of a vision transformer"
        )
    return weights


def read_any_weights(path: Path) -> Weights:
    """Read the weights of a vision transformer or an EfficientNet.

    Raises:
        UserError: see `read_tensors`; or a vision transformer that is not whole.
    """
    tensors, metadata, foreign = read_tensors(path)
    if is_efficientnet(tensors):
        naming, state, ignored = to_timm(tensors)
    else:
        refuse_foreign(tensors, path)
        naming, state, ignored = to_native(tensors, metadata, path)
        state = _without_lora(state, metadata.pop(SCALE, None), path)
    facts = WeightsMetadata.from_metadata(metadata, path)
    card = {
        label: text for label, text in metadata.items() if label not in WeightsMetadata.labels()
    }
    weights = Weights(path, naming, state, facts, card, ignored, foreign)
    if weights.is_vit:
        _check_whole(weights)
    return weights


def _without_lora(state: dict[str, Tensor], scale: str | None, path: Path) -> dict[str, Tensor]:
    """Merge what LoRA learned into the weights."""
    if not any(name.endswith(".lora_a") for name in state):
        return state
    if scale is None:
        raise UserError(
            f"{path} has LoRA's matrices, but not how they are scaled: train it again, or name the "
            "weights that it began with"
        )
    return merge_tensors(state, float(scale))


def _check_whole(weights: Weights) -> None:
    """Make sure that weights are those of a whole vision transformer of their size.

    Raises:
        UserError: lists what is missing, left over or of another shape.
    """
    state = weights.state
    swiglu = "blocks.0.mlp.w12.weight" in state
    first = state.get(f"blocks.0.mlp.{'w12' if swiglu else 'fc1'}.weight")
    hidden = 1 if first is None else len(first) // (2 if swiglu else 1)
    size = Size(weights.width, weights.depth, heads=1, hidden=hidden, swiglu=swiglu)
    with torch.device("meta"):
        vit = VisionTransformer(size, grid=weights.grid, registers=weights.registers)
    expected = vit.state_dict()
    if "mask_token" not in state:
        del expected["mask_token"]
    check_fit(expected, state, weights.path)


def read_weights_metadata(path: Path) -> WeightsMetadata:
    """Read the metadata of a weights file of any network.

    Raises:
        UserError: see `read_tensors`, `Facts.from_metadata`.
    """
    return WeightsMetadata.from_metadata(read_tensors(path)[1], path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Read a safetensors or `.pth` file, whichever it is, or a list of such files.

    Args:
        path: a file; the list of a model's shards, `model.safetensors.index.json`; or a folder as
            transformers save it.

    Returns:
        Tensors by the file's names without wrappers around modules, the metadata of a safetensors
        file (of a `.pth` file `state dict`, which of several was taken), and the classes and
        functions that a `.pth` file names (see `safe_pickle.py`; none was imported).

    Raises:
        UserError: the file is missing, damaged, or something else.
    """
    if path.is_dir():
        path = weights_in(path)
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    tensors, metadata, foreign = _read_file(path)
    return strip_wrappers(tensors, path), metadata, foreign


def _read_shards(path: Path) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Read all tensors that the list of a model's shards names."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    foreign: list[str] = []
    for shard, names in read_index(path).items():
        found, shard_metadata, others = _read_file(shard)
        absent = [name for name in names if name not in found]
        if absent:
            raise UserError(f"{shard} lacks {absent[0]}, which {path} lists: copy both again")
        tensors |= {name: found[name] for name in names}
        metadata |= shard_metadata
        foreign += others
    return strip_wrappers(tensors, path), metadata, sorted(set(foreign))


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror}") from error
    # A safetensors file begins with the length of a JSON object.
    if head[4:9] != b"\0\0\0\0{":
        if not head.startswith((ZIP_MAGIC, b"\x80")):
            raise UserError(f"{path} is {_kind(head)}, not a weights file: download it again")
        tensors, choice, foreign = read_pickled(path)
        return tensors, {"state dict": choice} if choice else {}, foreign
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise UserError(
            f"{path} is damaged or incomplete, download or copy it again ({error})"
        ) from error
    if not tensors:
        raise UserError(f"{path} holds no tensors: name a file with weights")
    return tensors, metadata, []


def check_fit(
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    path: Path,
    what: str = "backbone",
) -> None:
    """Make sure that tensors fit a network one to one.

    Args:
        expected: what the network has.
        found: what the file has.
        path: of the file, for messages.
        what: the network is.

    Raises:
        UserError: lists everything that is missing, left over, of another shape, or that holds no
            finite numbers with fractions where the network has such.
    """
    shared = expected.keys() & found.keys()
    problems = [
        ("missing", expected.keys() - found.keys()),
        ("left over", found.keys() - expected.keys()),
        (
            "of another shape",
            {n for n in shared if expected[n].shape != found[n].shape},
        ),
        (
            "of whole numbers",
            {n for n in shared if expected[n].is_floating_point() > found[n].is_floating_point()},
        ),
        ("not finite", {n for n in shared if not found[n].isfinite().all()}),
    ]
    mismatches = "; ".join(f"{kind}: {listed(names)}" for kind, names in problems if names)
    if mismatches:
        raise UserError(
            f"{path} does not fit the {what}: {mismatches}; name the weights of this model"
        )


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: of the file.
        tensors: by name.
        metadata: texts by name.

    Raises:
        UserError: it cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, errors=(SafetensorError,)) as temporary:
        save_file(plain, temporary, dict(metadata))
        sort_metadata(temporary)
        with safe_open(temporary, "pt") as file:  # it refuses one that is cut off
            if set(file.keys()) != plain.keys():
                raise OSError("tensors are missing in what was written")


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes: the same for the same weights in any file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous()
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def listed(names: Iterable[str]) -> str:
    """List names of tensors, those that differ only in the layer as one."""
    counts = Counter(re.sub(r"\b(blocks|layers|layer|stages)\.\d+\.", r"\1.*.", n) for n in names)
    return ", ".join(f"{n} ({c} times)" if c > 1 else n for n, c in sorted(counts.items()))


def _kind(head: bytes) -> str:
    """Name what is often found in place of weights."""
    if not head:
        return "empty"
    if head.lstrip()[:1] == b"<":
        return "a web page"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return "something else"
