"""AdamW with the published parameter groups and schedule."""

import math
from typing import Any

import torch
from torch import nn

from cgeartheye.config import Training


def adamw(model: nn.Module, config: Training) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over what is trained.

    Weight decay acts on matrices only: norms, biases, LayerScale and tokens have none.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trained if decays(name, p)]
    free = [p for name, p in trained if not decays(name, p)]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


def learning_rate(step: int, steps_an_epoch: int, global_batch: int, config: Training) -> float:
    """Learning rate of an optimiser step: linear warm-up, then a cosine to zero.

    Args:
        step: steps done before this one.
        steps_an_epoch: optimiser steps an epoch.
        global_batch: samples a step; the rate grows in proportion (Goyal et al. 2017).
        config: `warmup_epochs` is cut to half of a run that is shorter than twice as long.
    """
    peak = config.lr * (global_batch / config.lr_batch if config.lr_batch else 1.0)
    total = config.epochs * steps_an_epoch
    warmup = min(config.warmup_epochs, config.epochs / 2) * steps_an_epoch
    if step < warmup:
        return peak * (config.warmup_from + (1 - config.warmup_from) * step / warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay acts on a parameter: on matrices, not on norms, biases and tokens."""
    token = name.rsplit(".", 1)[-1] in {"cls_token", "pos_embed", "register_tokens", "mask_token"}
    return parameter.ndim > 1 and not token
