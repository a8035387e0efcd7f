"""Weights files for people: converted to our own naming, and described."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from cgeartheye.models.backbone.block import PATCH
from cgeartheye.models.backbone.checkpoint_io import (
    Weights,
    WeightsMetadata,
    fingerprint,
    listed,
    read_any_weights,
    save_tensors,
)
from cgeartheye.models.backbone.efficientnet import describe
from cgeartheye.models.backbone.variants import size_name
from cgeartheye.utils.errors import UserError
from cgeartheye.weights import CARD, shipped


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
        card: other metadata that replace those of the source, or add to them, label by label.
        half: write half precision.

    Returns:
        What was written.

    Raises:
        UserError: a file that cannot be read or written, a label that facts have, or numbers that
            half precision cannot hold.
    """
    if target.suffix != ".safetensors":
        raise UserError(f"{target} must end with .safetensors")
    weights = read_any_weights(source)
    known = {
        **({"image_size": weights.grid * PATCH} if weights.is_vit else {}),
        **weights.facts.known(),
        **(facts or WeightsMetadata()).known(),
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
    return read_any_weights(target)


def inspect(source: Path) -> dict[str, str]:
    """Describe weights, label by label, for people.

    Args:
        source: a file, or the name of a size whose weights ship with the package.

    Raises:
        UserError: the file is missing or damaged, or holds neither a vision transformer nor an
            EfficientNet.
    """
    path = source if source.is_file() else shipped(str(source)) or source
    weights = read_any_weights(path)
    card = path.parent / CARD
    count = sum(tensor.numel() for tensor in weights.state.values())
    kinds = sorted({str(t.dtype).removeprefix("torch.") for t in weights.state.values()})
    facts = {name: str(value) for name, value in weights.facts.known().items()}
    return {
        "naming": weights.naming,
        "parameters": f"{count:,}",
        **(_describe_vit(weights) if weights.is_vit else describe(weights.state)),
        "precision": ", ".join(kinds),
        **{label: facts.get(label, "not in the file") for label in asdict(WeightsMetadata())},
        "beside the backbone": listed(weights.ignored) or "nothing",
        "foreign objects (not loaded)": ", ".join(weights.foreign) or "none",
        "fingerprint": fingerprint(weights.state),
        **weights.card,
        **({"model card": str(card)} if card.is_file() else {}),
    }


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
