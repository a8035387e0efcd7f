"""Wrappers that frameworks put around weights: prefixes of names, shards, unfinished forms."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from cgeartheye.utils.errors import UserError

T = TypeVar("T")

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""Names of transformers' lists of a model's shards."""

# torch.compile, activation checkpointing, FSDP and DeepSpeed put a module of theirs around ours.
_WRAPPER = re.compile(
    r"(?:(?<=\.)|^)"
    r"(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|_forward_module)\."
)
_DCP_WAY = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"


def strip_wrappers(tensors: Mapping[str, T], path: Path) -> dict[str, T]:
    """Return tensors by the names that they have without wrappers around modules.

    Raises:
        UserError: two tensors then have the same name, or FSDP has flattened them.
    """
    stripped: dict[str, T] = {}
    for name, tensor in tensors.items():
        if re.search(r"(^|\.)_?flat_param(_\d+)?$", name):
            raise UserError(
                f"{path} holds parameters that FSDP has flattened ({name}): save the model with "
                "StateDictType.FULL_STATE_DICT"
            )
        plain = _WRAPPER.sub("", name)
        if plain in stripped:
            raise UserError(f"{path} holds {plain} twice: name the weights of one backbone")
        stripped[plain] = tensor
    return stripped


def refuse_sharded(foreign: Iterable[str], path: Path) -> None:
    """Refuse a pickle whose tensors are shards of one process.

    Args:
        foreign: classes that it names.
        path: of the file.

    Raises:
        UserError: it is one.
    """
    kinds = {name.rpartition(".")[2] for name in foreign} & {"DTensor", "ShardedTensor"}
    if kinds:
        raise UserError(
            f"{path} holds the shards of one process ({', '.join(sorted(kinds))}): save it with "
            "get_model_state_dict and StateDictOptions(full_state_dict=True), or gather a folder "
            f"of shards with {_DCP_WAY} FOLDER model.pth"
        )


def refuse_foreign(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse what resembles a backbone of ours and is something else, with the way out.

    Args:
        tensors: by the names of the file, without wrappers.
        path: of the file.

    Raises:
        UserError: adapters of PEFT, one shard of several, DINOv3, or another patch embedding.
    """
    names = list(tensors)
    adapters = [name for name in names if re.search(r"\.(base_layer|lora_[AB])\.", name)]
    if adapters:
        raise UserError(
            f"{path} holds adapters of PEFT beside the weights ({adapters[0]}): merge them with "
            "model.merge_and_unload() and save the model"
        )
    if shard := re.search(r"-(\d{5})-of-(\d{5})\.(safetensors|bin)$", path.name):
        index = INDEXES[0] if shard[3] == "safetensors" else INDEXES[1]
        raise UserError(
            f"{path} is shard {int(shard[1])} of {int(shard[2])}: name {index} beside it, which "
            "lists all of them"
        )
    if any(re.search(r"(^|\.)(rope_embed\.|rope_embeddings\.|storage_tokens$)", n) for n in names):
        raise UserError(
            f"{path} holds DINOv3, whose positions are rotary: set backbone.name to timm's name "
            "for it, such as timm/vit_small_patch16_dinov3, with weights in timm's naming"
        )
    for name in names:
        if re.search(r"(^|\.)patch_embed(ding)?s?\.proj(ection)?\.weight$", name):
            _check_patch_embedding(tuple(tensors[name].shape), path)
    if any(re.search(r"(^|\.)fc_norm\.", name) for name in names):
        raise UserError(
            f"{path} holds a vision transformer that averages its patches (fc_norm) and has no "
            "normalised class token: set backbone.name to timm/<model>"
        )


def read_index(path: Path) -> dict[Path, list[str]]:
    """Read the list of a model's shards.

    Returns:
        The names of the tensors in each.

    Raises:
        UserError: it is damaged, names a file elsewhere, or a shard is missing.
    """
    try:
        content = json.loads(path.read_bytes())
        places = {str(name): str(file) for name, file in content["weight_map"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is no list of shards with a weight_map: download or copy it again"
        ) from error
    shards: dict[Path, list[str]] = {}
    for name, file in places.items():
        if Path(file).name != file:
            raise UserError(f"{path} names a shard in another folder ({file}): copy it again")
        shards.setdefault(path.parent / file, []).append(name)
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing or not shards:
        raise UserError(
            f"{path} lists {len(shards)} shards, and {', '.join(missing) or 'none'} "
            "is missing beside it: download or copy all of them"
        )
    return shards


def weights_in(folder: Path) -> Path:
    """Return the weights file in a folder as transformers save it.

    Raises:
        UserError: there is none; or it is a checkpoint of torch.distributed.
    """
    for name in ("model.safetensors", *INDEXES, "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    if (folder / ".metadata").is_file():
        raise UserError(
            f"{folder} is a distributed checkpoint (DCP): gather it with {_DCP_WAY} {folder} "
            "model.pth; of our own pre-training name the run's model.safetensors"
        )
    raise UserError(f"{folder} is a folder without weights: name a .safetensors or .pth file")


def _check_patch_embedding(shape: tuple[int, ...], path: Path) -> None:
    bands, side = (shape[1], shape[-1]) if len(shape) == 4 else (3, 14)
    if bands != 3:
        raise UserError(
            f"{path} takes {bands} bands and a backbone here takes 3: name weights for red, green "
            "and blue"
        )
    if side != 14:
        raise UserError(
            f"{path} has patches of {side} pixels and our own backbones have 14: set "
            f"backbone.name to timm's name for it, such as timm/vit_base_patch{side}_224"
        )
