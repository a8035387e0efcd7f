"""The published namings of a ViT's tensors, and how they become ours, which is DINOv2's."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from cgeartheye.utils.errors import UserError

# The mark of our own files in their metadata.
FORMAT = "cgeartheye"

# Of each naming, what to replace by what to get ours, which is DINOv2's.
_RENAMED = {
    "mmpretrain": (
        (r"^layers\.", "blocks."),
        (r"^ln1\.", "norm."),
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"\.ln(\d)\.", r".norm\1."),
        (r"\.(attn|ffn)\.gamma(\d)\.weight$", r".ls\2.gamma"),
        (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
        (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
        (r"\.ffn\.", ".mlp."),
    ),
    "huggingface": (
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.", ""),
        (r"^encoder\.layer\.", "blocks."),
        (r"^layernorm\.", "norm."),
        (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
        (r"\.attention\.(attention\.query|q_proj)\.", ".attn.q."),
        (r"\.attention\.(attention\.key|k_proj)\.", ".attn.k."),
        (r"\.attention\.(attention\.value|v_proj)\.", ".attn.v."),
        (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.mlp\.gate_proj\.", ".mlp.w1."),
        (r"\.mlp\.up_proj\.", ".mlp.w2."),
        (r"\.mlp\.weights_in\.", ".mlp.w12."),
        (r"\.mlp\.(weights_out|down_proj)\.", ".mlp.w3."),
    ),
    # The release of the largest model keeps its blocks in chunks: blocks.CHUNK.N.
    "dinov2": ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),),
    "timm": ((r"^reg_token$", "register_tokens"),),
    "native": (),
}
# What may be beside a backbone whose names have no prefix.
_OUTSIDE = re.compile(
    r"^(head|neck|decode_head|auxiliary_head|classifier|decoder|data_preprocessor|optimizer)\."
)


def to_native(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path
) -> tuple[str, dict[str, Tensor], list[str]]:
    """Rename the tensors of a backbone.

    Args:
        tensors: by the names of a file; others may be beside the backbone.
        metadata: of the file.
        path: the file, for messages.

    Returns:
        The naming (mmpretrain, huggingface, dinov2, timm, or native for our own), the backbone's
        tensors by native name, and the file's names outside of the backbone. What has no native
        name keeps its own.

    Raises:
        UserError: no class token, no position embeddings, or a tensor twice.
    """
    prefix = _prefix(tensors, path)
    inside = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    if not prefix:
        inside = {n: t for n, t in inside.items() if not _OUTSIDE.match(n)}
    outside = sorted(tensors.keys() - {prefix + name for name in inside})
    naming = _naming(inside, metadata)
    state: dict[str, Tensor] = {}
    for name, tensor in inside.items():
        for pattern, replacement in _RENAMED[naming]:
            name = re.sub(pattern, replacement, name)
        if name in state:
            raise UserError(f"{path} holds {name} twice: name the weights of one backbone")
        state[name] = tensor
    _join(state, ("attn.q", "attn.k", "attn.v"), "attn.qkv")
    _join(state, ("mlp.w1", "mlp.w2"), "mlp.w12")
    if naming == "timm":
        state = _unpack_swiglu(state)
    state["pos_embed"] = _with_class_slot(state.get("pos_embed"), path)
    return naming, state, outside


def _prefix(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Find what the names of the backbone begin with, by its class token."""
    tokens = [name for name in tensors if re.search(r"(^|\.)cls_token$", name)]
    if not tokens:
        first = ", ".join(list(tensors)[:3])
        raise UserError(
            f"{path} holds no vision transformer (no class token among {first}, ...): name the "
            "weights of a backbone"
        )
    best = min(tokens, key=lambda name: ("teacher" not in name, len(name)))
    return re.sub(r"(embeddings\.)?cls_token$", "", best)


def _naming(names: Iterable[str], metadata: Mapping[str, str]) -> str:
    names = set(names)
    if any(name.startswith("layers.") for name in names):
        return "mmpretrain"
    if any(name.startswith("embeddings.") for name in names):
        return "huggingface"
    if metadata.get("format") == FORMAT:
        return "native"
    return "dinov2" if "mask_token" in names else "timm"


def _join(state: dict[str, Tensor], parts: tuple[str, ...], whole: str) -> None:
    """Stack matrices that we keep as one, in place."""
    for first in [name for name in state if f".{parts[0]}." in name]:
        names = [first.replace(f".{parts[0]}.", f".{part}.") for part in parts]
        if all(name in state for name in names):
            joined = torch.cat([state.pop(name) for name in names])
            state[first.replace(f".{parts[0]}.", f".{whole}.")] = joined


def _unpack_swiglu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Distinguish timm's packed SwiGLU from an MLP, whose names it shares."""
    fc1, fc2 = (state.get(f"blocks.0.mlp.fc{i}.weight") for i in (1, 2))
    if fc1 is None or fc2 is None or fc1.shape[0] != 2 * fc2.shape[1]:
        return state
    return {
        name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3."): tensor
        for name, tensor in state.items()
    }


def _with_class_slot(positions: Tensor | None, path: Path) -> Tensor:
    """Return position embeddings `[1, 1 + n * n, C]`.

    Where timm has registers, the class token's own position is part of the token: its slot is zero.
    """
    count = positions.shape[1] if positions is not None and positions.ndim == 3 else 0
    if positions is not None and count and math.isqrt(count) ** 2 == count:
        return torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    if positions is None or count < 2 or math.isqrt(count - 1) ** 2 != count - 1:
        raise UserError(
            f"{path} has no position embeddings of a square of patches: name the weights of a ViT "
            "that has"
        )
    return positions
