"""Weights files: every published naming in, our own out.

Names, shapes and facts of a ViT of the DINOv2 kind are told apart by what the file holds, never by
what it is called. EfficientNets are known too, and get timm's names. Nothing is guessed: what does
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
from torch import Tensor, nn

from cgeartheye.models.backbone.efficientnet import describe, is_efficientnet, to_timm
from cgeartheye.models.backbone.key_mapping import FORMAT, to_native
from cgeartheye.models.backbone.safe_pickle import ZIP_MAGIC, read_pickled
from cgeartheye.models.backbone.variants import size_name
from cgeartheye.models.backbone.vit import PATCH, VisionTransformer, resample_positions
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing
from cgeartheye.weights import CARD, shipped

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class WeightsMetadata:
    """What weights were trained with, where their file says it.

    Attributes:
        mean: of the red, green and blue pixel values on the scale 0..255.
        std: their standard deviations.
        gsd: ground sampling distance, metres a pixel.
        image_size: pixels a side.
    """

    mean: Triple | None = None
    std: Triple | None = None
    gsd: float | None = None
    image_size: int | None = None

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
        known = {name: json.dumps(v) for name, v in asdict(self).items() if v is not None}
        return {"format": FORMAT, **known}


@dataclass(frozen=True)
class Weights:
    """The weights of a backbone.

    Attributes:
        path: the file.
        naming: mmpretrain, huggingface, dinov2, timm, efficientnet-pytorch, or native for our own.
        state: tensors by native name, or by timm's of an EfficientNet, in the file's precision.
        facts: what the file says of them.
        card: what else it says, label by label: the teacher, the data, their licences.
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
        """Whether they are a vision transformer's; only then has it what follows."""
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
    weights = _read(path)
    if not weights.is_vit:
        raise UserError(
            f"{path} holds an EfficientNet: set backbone.name to timm's name for it, such as "
            "timm/tf_efficientnet_lite0, or name the weights of a vision transformer"
        )
    return weights


def _read(path: Path) -> Weights:
    tensors, metadata, foreign = read_tensors(path)
    if is_efficientnet(tensors):
        naming, state, ignored = to_timm(tensors)
    else:
        naming, state, ignored = to_native(tensors, metadata, path)
    facts = WeightsMetadata.from_metadata(metadata, path)
    card = {
        label: text for label, text in metadata.items() if label not in WeightsMetadata.labels()
    }
    return Weights(path, naming, state, facts, card, ignored, foreign)


def read_weights_metadata(path: Path) -> WeightsMetadata:
    """Read what a weights file of any network says of itself.

    Raises:
        UserError: see `read_tensors`, `Facts.from_metadata`.
    """
    return WeightsMetadata.from_metadata(read_tensors(path)[1], path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Read a safetensors or `.pth` file, whichever it is, as it is.

    Returns:
        Tensors by the file's names, the metadata of a safetensors file, and the classes and
        functions that a `.pth` file names (see `safe_pickle.py`; none was imported).

    Raises:
        UserError: the file is missing, damaged, or something else.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror}") from error
    # A safetensors file begins with the length of a JSON object.
    if head[4:9] != b"\0\0\0\0{":
        if not head.startswith((ZIP_MAGIC, b"\x80")):
            raise UserError(f"{path} is {_kind(head)}, not a weights file: download it again")
        tensors, foreign = read_pickled(path)
        return tensors, {}, foreign
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


def load_into(vit: VisionTransformer, weights: Weights) -> list[str]:
    """Put weights into a network, which may still be on the meta device.

    Position embeddings are resampled to the network's grid. A mask token may be missing, because
    only pre-training uses it: it becomes zero.

    Returns:
        Sentences on what was adapted.

    Raises:
        UserError: weights of another size; or a list of all that is missing, left over or of
            another shape.
    """
    _check_size(vit, weights)
    state, notes = dict(weights.state), []
    if weights.grid != vit.grid:
        state["pos_embed"] = resample_positions(state["pos_embed"], (vit.grid, vit.grid))
        notes.append(
            f"position embeddings resampled from {weights.grid} x {weights.grid} patches to "
            f"{vit.grid} x {vit.grid}"
        )
    if weights.registers != vit.registers:
        _fit_registers(state, vit.registers)
        notes.append(
            f"the weights have {weights.registers} register tokens and backbone.registers is "
            f"{vit.registers}: "
            + (
                "the last are dropped"
                if weights.registers > vit.registers
                else "the new are random"
            )
        )
    state.setdefault("mask_token", torch.zeros(1, vit.embed_dim))
    expected = vit.state_dict()
    check_fit(expected, state, weights.path)
    own = {name: tensor.to(expected[name].dtype, copy=True) for name, tensor in state.items()}
    vit.load_state_dict(own, assign=vit.cls_token.is_meta)
    return notes


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
        UserError: lists everything that is missing, left over or of another shape.
    """
    problems = [
        ("missing", expected.keys() - found.keys()),
        ("left over", found.keys() - expected.keys()),
        (
            "of another shape",
            {n for n in expected.keys() & found.keys() if expected[n].shape != found[n].shape},
        ),
    ]
    told = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems if names)
    if told:
        raise UserError(f"{path} does not fit the {what}: {told}; name the weights of this model")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary, dict(metadata))
        except SafetensorError as error:  # how it tells of a full disk
            raise UserError(f"cannot write {path}: {error}") from error


def convert(
    source: Path,
    target: Path,
    facts: WeightsMetadata | None = None,
    card: Mapping[str, str] | None = None,
    half: bool = False,
) -> Weights:
    """Write the backbone of a weights file in our own naming, as safetensors.

    An EfficientNet is written in timm's naming, for a timm backbone.

    Args:
        source: a vision transformer or an EfficientNet in any published naming.
        target: a `.safetensors` file.
        facts: replace those of the source, or add to them.
        card: likewise what else is said of them, label by label.
        half: write half precision.

    Returns:
        What was written.

    Raises:
        UserError: a file that cannot be read or written, a label that facts have, or numbers that
            half precision cannot hold.
    """
    if target.suffix != ".safetensors":
        raise UserError(f"{target} must end with .safetensors")
    weights = _read(source)
    known = {
        **({"image_size": weights.grid * PATCH} if weights.is_vit else {}),
        **_known(weights.facts),
        **_known(facts or WeightsMetadata()),
    }
    card = weights.card | dict(card or {})
    for label in sorted(WeightsMetadata.labels() & card.keys()):
        raise UserError(f"a model card cannot have the label {label}: choose another")
    state = (
        {name: tensor.half() for name, tensor in weights.state.items()} if half else weights.state
    )
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise UserError(f"{source}: {name} is not finite{' in half precision' * half}")
    save_tensors(target, state, card | WeightsMetadata(**known).to_metadata())
    return _read(target)


def inspect(source: Path) -> dict[str, str]:
    """Describe weights, label by label, for people.

    Args:
        source: a file, or the name of a size whose weights ship with the package.

    Raises:
        UserError: the file is missing or damaged, or holds neither a vision transformer nor an
            EfficientNet.
    """
    path = source if source.is_file() else shipped(str(source)) or source
    weights = _read(path)
    card = path.parent / CARD
    count = sum(tensor.numel() for tensor in weights.state.values())
    kinds = sorted({str(t.dtype).removeprefix("torch.") for t in weights.state.values()})
    facts = {name: str(value) for name, value in _known(weights.facts).items()}
    return {
        "naming": weights.naming,
        "parameters": f"{count:,}",
        **(_describe_vit(weights) if weights.is_vit else describe(weights.state)),
        "precision": ", ".join(kinds),
        **{label: facts.get(label, "not in the file") for label in asdict(WeightsMetadata())},
        "beside the backbone": _listed(weights.ignored) or "nothing",
        "foreign objects (not loaded)": ", ".join(weights.foreign) or "none",
        "fingerprint": fingerprint(weights.state),
        **weights.card,
        **({"model card": str(card)} if card.is_file() else {}),
    }


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes: the same for the same weights in any file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous()
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _describe_vit(weights: Weights) -> dict[str, str]:
    side = weights.grid
    return {
        "size": size_name(weights.width, weights.depth) or "none of the published",
        "width": str(weights.width),
        "layers": str(weights.depth),
        "MLP": "SwiGLU" if "blocks.0.mlp.w12.weight" in weights.state else "GELU",
        "registers": str(weights.registers),
        "positions": f"{side} x {side} patches ({side * PATCH} px)",
    }


def _fit_registers(state: dict[str, Tensor], count: int) -> None:
    tokens = state.pop("register_tokens", None)
    if not count:
        return
    new = nn.init.trunc_normal_(torch.empty(1, count, state["cls_token"].shape[-1]), std=0.02)
    if tokens is not None:
        kept = min(count, tokens.shape[1])
        new[:, :kept] = tokens[:, :kept]
    state["register_tokens"] = new


def _check_size(vit: VisionTransformer, weights: Weights) -> None:
    found, asked = (weights.width, weights.depth), (vit.embed_dim, vit.depth)
    if found == asked:
        return
    name, asked_name = size_name(*found), size_name(*asked) or "another"
    held = f"a {name} backbone" if name else "a backbone of no published size"
    fix = f"set backbone.name={name}" if name else "name weights of that size"
    raise UserError(
        f"{weights.path} holds {held} (width {found[0]}, {found[1]} layers), the config asks for "
        f"{asked_name} (width {asked[0]}, {asked[1]} layers): {fix}"
    )


def _listed(names: Iterable[str]) -> str:
    """List names, those that differ only in the layer as one."""
    counts = Counter(re.sub(r"\b(blocks|layers|layer|stages)\.\d+\.", r"\1.*.", n) for n in names)
    return ", ".join(f"{n} ({c} times)" if c > 1 else n for n, c in sorted(counts.items()))


def _known(facts: WeightsMetadata) -> dict[str, Any]:
    return {name: value for name, value in asdict(facts).items() if value is not None}


def _kind(head: bytes) -> str:
    """Name what is often found in place of weights."""
    if not head:
        return "empty"
    if head.lstrip()[:1] == b"<":
        return "a web page"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return "something else"
