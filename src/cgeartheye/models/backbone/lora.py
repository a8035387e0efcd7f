"""Low-rank adaptation (Hu et al. 2021): a frozen network with small trained additions."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cgeartheye.models.backbone.onednn_linear import Linear, linear
from cgeartheye.utils.errors import UserError


class LoraLinear(Linear):
    """A frozen linear layer plus a trained product of two thin matrices.

    `y = W x + b + alpha / rank * B A x`. `weight` and `bias` keep their names, so that weights
    fit with and without LoRA; `lora_a` is A `[rank, in]`, `lora_b` is B `[out, rank]`.
    """

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float):
        super().__init__(frozen.in_features, frozen.out_features, device="meta")
        self.weight, self.bias = frozen.weight, frozen.bias
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(frozen.weight.new_empty(rank, frozen.in_features))
        # B = 0: nothing changes before the first step.
        self.lora_b = nn.Parameter(frozen.weight.new_zeros(frozen.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., in]` to `[..., out]`."""
        added = linear(linear(x, self.lora_a, None), self.lora_b, None)
        return super().forward(x) + self.scale * added

    @torch.no_grad()
    def merged(self) -> Linear:
        """Return one plain layer that computes the same."""
        plain = Linear(self.in_features, self.out_features, device="meta")
        added = self.scale * self.lora_b @ self.lora_a
        plain.weight, plain.bias = nn.Parameter(self.weight + added), self.bias
        return plain


SCALE = "lora_scale"
"""Metadata of a file with LoRA: alpha / rank."""


def add_lora(module: nn.Module, rank: int, alpha: float) -> None:
    """Freeze a network and put LoRA on all its linear layers, those of attention and MLP.

    Args:
        module: a backbone, changed in place.
        rank: columns of B and rows of A.
        alpha: the addition is scaled by `alpha / rank`.

    Raises:
        UserError: the network has no linear layers.
    """
    module.requires_grad_(False)
    if not _replace(module, nn.Linear, lambda layer: LoraLinear(layer, rank, alpha)):
        raise UserError(
            "this backbone has no linear layers to put LoRA on: set backbone.tuning=full or frozen"
        )


def merge_lora(module: nn.Module) -> None:
    """Put what LoRA learned into the weights, in place: the same output at the old cost."""
    _replace(module, LoraLinear, LoraLinear.merged)


def merge_tensors(state: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the tensors of a network with LoRA as those of the plain one that computes the same.

    Args:
        state: by name, `lora_a` and `lora_b` beside the weights.
        scale: alpha / rank.
    """
    merged = {name: t for name, t in state.items() if not name.endswith((".lora_a", ".lora_b"))}
    for name, thin in state.items():
        if name.endswith(".lora_a"):
            layer = name.removesuffix("lora_a")
            weight = merged[f"{layer}weight"]
            added = scale * state[f"{layer}lora_b"].float() @ thin.float()
            merged[f"{layer}weight"] = (weight.float() + added).to(weight.dtype)
    return merged


def _replace(module: nn.Module, kind: type[nn.Module], new: Callable[[Any], nn.Module]) -> int:
    """Replace the layers of a kind; return how many there were."""
    found = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, kind)]
    for name, layer in found:
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, new(layer))
    return len(found)
