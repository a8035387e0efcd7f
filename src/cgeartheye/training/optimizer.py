"""AdamW and the learning rate of each step, of every training."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cgeartheye.config import Optimization, Training


def adamw(
    model: nn.Module,
    settings: Optimization,
    lr_factor: Callable[[str], float],
    fused: bool = False,
) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019) over what is trained; see `set_rates`.

    Args:
        model: its parameters that require gradients.
        settings: `lr` and `betas`.
        lr_factor: maps the name of a parameter to its factor of the learning rate.
        fused: update all parameters of a group in one kernel.

    Returns:
        An optimizer with groups of equal `lr_factor` and `decays`: weight decay acts on matrices
        only, not on norms, biases, LayerScale and tokens.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = lr_factor(name), _decays(name, parameter)
            groups.setdefault(key, []).append(parameter)
    described: list[dict[str, Any]] = [
        {"params": parameters, "lr_factor": factor, "decays": decays}
        for (factor, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(described, lr=settings.lr, betas=settings.betas, fused=fused or None)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Set learning rate and weight decay of the coming step.

    Args:
        optimizer: made by `adamw`.
        lr: before the factors of the groups.
        weight_decay: of the groups that decay.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
        group["weight_decay"] = weight_decay if group["decays"] else 0.0


def decoder_factor(config: Training) -> Callable[[str], float]:
    """Return the factors of lr in a task: 1 for the backbone, `decoder_lr_mult` for the rest."""
    return lambda name: 1.0 if "backbone" in name.split(".") else config.decoder_lr_mult


def learning_rate(step: int, steps_an_epoch: int, global_batch: int, config: Training) -> float:
    """Return the learning rate of a step of a task's training.

    Args:
        step: steps done before this one.
        steps_an_epoch: optimizer steps an epoch.
        global_batch: samples a step.
        config: the warm-up is cut to half of a run that is shorter than twice as long.
    """
    total = total_steps(steps_an_epoch, config)
    warmup = config.warmup_epochs * steps_an_epoch
    if config.warmup_steps is not None:
        warmup = config.warmup_steps
    return scheduled_lr(step, total, min(warmup, total / 2), global_batch, config)


def scheduled_lr(
    step: int, total: int, warmup: float, global_batch: int, settings: Optimization
) -> float:
    """Return the learning rate of a step: a warm-up, then a cosine or a line.

    Args:
        step: steps done before this one.
        total: steps of the training.
        warmup: steps in which the rate rises.
        global_batch: samples a step; the rate grows in proportion to it (Goyal et al. 2017) or to
            its root, as the noise of the gradient falls.
        settings: peak, ends and shape.
    """
    scale = global_batch / settings.base_batch_size if settings.base_batch_size else 1.0
    peak = settings.lr * (scale if settings.lr_scaling == "linear" else math.sqrt(scale))
    if step < warmup:
        first = settings.warmup_from
        # From 0 on the first step would be lost.
        risen = (step if first else step + 1) / warmup
        return peak * (first + (1 - first) * risen)
    shape = line if settings.schedule == "linear" else cosine
    return shape(peak, settings.lr_end, (step - warmup) / (total - warmup))


def cosine(first: float, last: float, done: float) -> float:
    """Return a value on half a cosine between two values.

    Args:
        first: value at 0.
        last: value at 1.
        done: share of the way, 0..1.
    """
    return last + (first - last) * (0.5 * (1 + math.cos(math.pi * done)))


def line(first: float, last: float, done: float) -> float:
    """Return a value on the line between two values.

    Args:
        first: value at 0.
        last: value at 1.
        done: share of the way, 0..1.
    """
    return last + (first - last) * (1 - done)


def total_steps(steps_an_epoch: int, config: Training) -> int:
    """Return how many optimizer steps a training takes."""
    return config.steps or config.epochs * steps_an_epoch


def _decays(name: str, parameter: nn.Parameter) -> bool:
    token = name.rsplit(".", 1)[-1] in {"cls_token", "pos_embed", "register_tokens", "mask_token"}
    return parameter.ndim > 1 and not token
