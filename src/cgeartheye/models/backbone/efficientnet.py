"""The naming of EfficientNet's first port to PyTorch, and how it becomes timm's.

EfficientNets (Tan & Le 2019) of that port number their blocks through, timm's within each stage.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import groupby

import torch
from torch import Tensor

# What names the tensors outside of the blocks, and those of a block with and without expansion.
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_SQUEEZE,
}
_PLAIN = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
    **_SQUEEZE,
}
_BLOCKS, _CLASSIFIERS = "_blocks", ("_fc.", "classifier.")


def is_efficientnet(names: Iterable[str]) -> bool:
    """Return whether a file's tensors are an EfficientNet's, in either naming."""
    names = set(names)
    return names >= {"_conv_stem.weight", "_bn1.weight"} or names >= {
        "conv_stem.weight",
        "bn2.weight",
    }


def to_timm(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor], list[str]]:
    """Rename the tensors of an EfficientNet; what has no name there keeps its own.

    Returns:
        The naming that they had (efficientnet-pytorch, or timm), the tensors, and the names of the
        classifier, which is left out.
    """
    outside = sorted(name for name in tensors if name.startswith(_CLASSIFIERS))
    inside = {name: tensor for name, tensor in tensors.items() if name not in outside}
    if "conv_stem.weight" in inside:
        return "timm", inside, outside
    places = _places(inside)
    return (
        "efficientnet-pytorch",
        {_renamed(name, inside, places): tensor for name, tensor in inside.items()},
        outside,
    )


def describe(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Describe an EfficientNet with timm's names, label by label, for people."""
    stages = [name.split(".")[1] for name in state if name.endswith("conv_dw.weight")]
    depths = [str(len(list(blocks))) for _, blocks in groupby(sorted(stages))]
    return {
        "network": "EfficientNet, for backbone.name=timm/tf_efficientnet_...",
        "blocks of each stage": ", ".join(depths),
        "features": str(len(state["bn2.weight"])),
    }


def _places(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return stage and number within it of each block.

    Blocks of a stage have as many channels as each other, and no two stages in a row do.
    """
    projections = [re.fullmatch(rf"{_BLOCKS}\.(\d+)\._project_conv\.weight", n) for n in tensors]
    numbers = sorted((found[1] for found in projections if found), key=int)

    def channels(number: str) -> torch.Size:
        return tensors[f"{_BLOCKS}.{number}._project_conv.weight"].shape[:1]

    return {
        number: f"{stage}.{index}"
        for stage, (_, blocks) in enumerate(groupby(numbers, channels))
        for index, number in enumerate(blocks)
    }


def _renamed(name: str, tensors: Mapping[str, Tensor], places: Mapping[str, str]) -> str:
    first, *rest = name.split(".")
    if first != _BLOCKS:
        return ".".join([_OUTSIDE.get(first, first), *rest])
    number, layer, *rest = rest
    expands = f"{_BLOCKS}.{number}._expand_conv.weight" in tensors
    layers = _EXPANDING if expands else _PLAIN
    return ".".join(["blocks", places.get(number, number), layers.get(layer, layer), *rest])
