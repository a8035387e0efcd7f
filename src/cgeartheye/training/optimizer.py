"""AdamW with the published parameter groups and schedule."""

import math
from typing import Any

import torch
from torch import nn

from cgeartheye.config import PretrainingSchedule, Training


def adamw(model: nn.Module, config: Training) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over what is trained.

    Weight decay acts on matrices only: norms, biases, LayerScale and tokens have none. Each group
    has a factor of the learning rate, `lr_factor`.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = 1.0 if "backbone" in name.split(".") else config.decoder_lr_mult
            groups.setdefault((factor, decays(name, parameter)), []).append(parameter)
    described: list[dict[str, Any]] = [
        {"params": parameters, "lr_factor": factor} | ({} if decayed else {"weight_decay": 0.0})
        for (factor, decayed), parameters in groups.items()
    ]
    return torch.optim.AdamW(
        described,
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


def learning_rate(step: int, steps_an_epoch: int, global_batch: int, config: Training) -> float:
    """Learning rate of an optimiser step: linear warm-up, then a cosine or a line to zero.

    Args:
        step: steps done before this one.
        steps_an_epoch: optimiser steps an epoch.
        global_batch: samples a step.
        config: the warm-up is cut to half of a run that is shorter than twice as long.
    """
    peak = peak_lr(config, global_batch)
    total = total_steps(steps_an_epoch, config)
    warmup = config.warmup_epochs * steps_an_epoch
    if config.warmup_steps is not None:
        warmup = config.warmup_steps
    warmup = min(warmup, total / 2)
    if step < warmup:
        return peak * (config.warmup_from + (1 - config.warmup_from) * step / warmup)
    done = (step - warmup) / (total - warmup)
    return peak * (
        1 - done if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    )


def peak_lr(config: Training | PretrainingSchedule, global_batch: int) -> float:
    """Return the learning rate after the warm-up, scaled to the batch that is in use.

    In proportion to the batch (Goyal et al. 2017), or to its root, with which the noise of the
    gradient falls.

    Args:
        config: `lr` is meant for `base_batch_size` samples a step, or for any if that is None.
        global_batch: samples a step.
    """
    if config.base_batch_size is None:
        return config.lr
    ratio = global_batch / config.base_batch_size
    return config.lr * (math.sqrt(ratio) if config.lr_scaling == "sqrt" else ratio)


def total_steps(steps_an_epoch: int, config: Training) -> int:
    """Return how many optimiser steps a training takes."""
    return config.steps or config.epochs * steps_an_epoch


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay acts on a parameter: on matrices, not on norms, biases and tokens."""
    token = name.rsplit(".", 1)[-1] in {"cls_token", "pos_embed", "register_tokens", "mask_token"}
    return parameter.ndim > 1 and not token
