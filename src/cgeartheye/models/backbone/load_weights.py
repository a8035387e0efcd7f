"""Weights into a vision transformer."""

import torch
from torch import Tensor, nn

from cgeartheye.models.backbone.checkpoint_io import Weights, check_fit
from cgeartheye.models.backbone.variants import size_name
from cgeartheye.models.backbone.vit import VisionTransformer, resample_positions
from cgeartheye.utils.errors import UserError


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
        grid = vit.grid, vit.grid
        state["pos_embed"] = resample_positions(state["pos_embed"], grid, weights.registers)
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
