"""From the `backbone` section of a config to a network that is ready to tune."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from cgeartheye.config import Backbone, Network, Normalization
from cgeartheye.models.backbone.block import PATCH
from cgeartheye.models.backbone.checkpoint_io import (
    Weights,
    WeightsMetadata,
    fingerprint,
    read_weights,
)
from cgeartheye.models.backbone.load_weights import load_into
from cgeartheye.models.backbone.lora import add_lora
from cgeartheye.models.backbone.timm_adapter import TimmBackbone
from cgeartheye.models.backbone.variants import SIZES
from cgeartheye.models.backbone.vit import VisionTransformer
from cgeartheye.utils.errors import UserError, nearest
from cgeartheye.weights import shipped

Model = VisionTransformer | TimmBackbone
T = TypeVar("T")


@dataclass(frozen=True)
class BackboneBundle:
    """A backbone and what is known of it.

    Attributes:
        module: the network, on the CPU; only what is tuned requires gradients.
        normalization: of the pixel values that go in.
        gsd: m/px of the weights; none for random weights.
        registers: number of register tokens; none for a timm backbone.
        fingerprint: of the weights.
        notes: sentences for the user on where all that came from.
    """

    module: Model
    normalization: Normalization
    gsd: float | None
    registers: int | None
    fingerprint: str
    notes: tuple[str, ...]


def weights_file(config: Network) -> Path | None:
    """Return the file that a network's weights come from, its own or a shipped one; none: random.

    Args:
        config: of the network.
    """
    if config.weights is None:
        return shipped(config.name)
    return None if config.weights == "random" else config.weights


def build(config: Backbone, image_size: int) -> BackboneBundle:
    """Build a backbone, load its weights, and get it ready for its tuning.

    Random weights come from torch's generator.

    Args:
        config: what to build.
        image_size: pixels a side of the images that it will see.

    Raises:
        UserError: an unknown name, an image size that does not divide into patches, weights that
            do not fit, or do not state their normalisation or GSD where the config does not either.
    """
    path = weights_file(config)
    if config.name.startswith("timm/"):
        module, facts, weights_fingerprint, notes = _foreign(config, path, image_size)
    elif config.name in SIZES:
        module, facts, weights_fingerprint, notes = _own(config, path, image_size)
    else:
        choices = ", ".join(SIZES)
        raise UserError(
            f"backbone.name: '{config.name}' is none of {choices} or timm/<model>"
            f"{nearest(config.name, list(SIZES))}"
        )
    normalization, gsd = _conditions(config, path, facts, notes)
    if path is None and config.tuning != "full":
        notes.append(
            f"backbone.weights is {config.weights or 'not set'} and tuning is {config.tuning}: "
            "the backbone is random and stays so"
        )
    registers = module.registers if isinstance(module, VisionTransformer) else None
    built = BackboneBundle(module, normalization, gsd, registers, weights_fingerprint, tuple(notes))
    _tune(module, config)
    return built


def build_outline(config: Backbone, image_size: int) -> BackboneBundle:
    """Build a backbone that has no weights and no memory: what an engine computes in its place.

    Args:
        config: what to build.
        image_size: pixels a side of the images that it would see.
    """
    module: Model
    with torch.device("meta"):
        if config.name in SIZES:
            module = VisionTransformer(SIZES[config.name], image_size // PATCH)
        else:
            module = TimmBackbone(config.name.removeprefix("timm/"), image_size)
    normalization = config.normalization or Normalization()
    return BackboneBundle(module.eval(), normalization, config.gsd, config.registers, "", ())


def _own(
    config: Backbone, path: Path | None, image_size: int
) -> tuple[Model, WeightsMetadata, str, list[str]]:
    _check_divides(image_size, PATCH)
    weights = read_weights(path) if path else None
    registers = config.registers
    if registers is None:
        registers = weights.registers if weights else 0
    # Random numbers that weights are about to replace need not be drawn.
    with torch.device("meta" if weights else "cpu"):
        vit = VisionTransformer(
            SIZES[config.name],
            grid=image_size // PATCH,
            registers=registers,
            drop_path=config.drop_path,
            checkpoint_activations=config.checkpoint_activations,
            layer_scale=config.layer_scale,
        )
    if weights is None:
        return vit, WeightsMetadata(), fingerprint(vit.state_dict()), []
    notes = [_origin(weights, config), *load_into(vit, weights)]
    mark = fingerprint(weights.state)
    if registers != weights.registers:  # those that are there were made here
        mark = fingerprint(weights.state | {"register_tokens": vit.register_tokens.detach()})
    return vit, weights.facts, mark, notes


def _foreign(
    config: Backbone, path: Path | None, image_size: int
) -> tuple[Model, WeightsMetadata, str, list[str]]:
    if config.registers is not None:
        raise UserError("backbone.registers is for our own backbones: leave it out for timm/ ones")
    model = TimmBackbone(
        config.name.removeprefix("timm/"),
        image_size,
        config.drop_path,
        config.checkpoint_activations,
    )
    _check_divides(image_size, model.patch_size)
    if path is None:
        return model, WeightsMetadata(), fingerprint(model.state_dict()), []
    facts, weights_fingerprint = model.load(path)
    return model, facts, weights_fingerprint, [f"weights {path}"]


def _conditions(
    config: Backbone, path: Path | None, facts: WeightsMetadata, notes: list[str]
) -> tuple[Normalization, float | None]:
    """Return normalisation and GSD, and note where they come from."""
    if path is None:
        return config.normalization or Normalization(), config.gsd
    in_file = Normalization(mean=facts.mean, std=facts.std) if facts.mean and facts.std else None
    normalization = _chosen("normalization", config.normalization, in_file, path, notes)
    return normalization, _chosen("gsd", config.gsd, facts.gsd, path, notes)


def _chosen(name: str, given: T | None, in_file: T | None, path: Path, notes: list[str]) -> T:
    """Return the config's value, or else that of the weights file."""
    if given is not None:
        replaced = f", in place of {in_file} in the weights file" * (in_file not in (None, given))
        notes.append(f"{name} from the config{replaced}")
        return given
    if in_file is not None:
        notes.append(f"{name} from the weights file")
        return in_file
    raise UserError(
        f"{path} does not record its {name}: set backbone.{name} to what the weights were trained "
        "with"
    )


def _tune(module: Model, config: Backbone) -> None:
    if config.tuning == "frozen":
        module.requires_grad_(False).eval()
    elif config.tuning == "lora":
        add_lora(module, config.lora.rank, config.lora.alpha)
    elif isinstance(module, VisionTransformer):
        # Only pre-training uses it, and DDP waits for the gradient of all that requires one.
        module.mask_token.requires_grad_(False)
    if config.compile:
        for part in list(module.blocks) or [module]:
            part.compile()


def _check_divides(image_size: int, patch: int) -> None:
    below = image_size // patch * patch
    if below != image_size:
        sizes = f"{below} or {below + patch}" if below else str(patch)
        raise UserError(
            f"data.image_size={image_size} is not a multiple of the backbone's patch size "
            f"{patch}: set it to {sizes}"
        )


def _origin(weights: Weights, config: Backbone) -> str:
    if config.weights is None:
        teacher = weights.card.get("teacher")
        distilled = f" (distilled from {teacher})" * (teacher is not None)
        return f"weights of {config.name} that ship with cgeartheye{distilled}"
    parts = [f"weights {weights.path} ({weights.naming} naming)"]
    if "state dict" in weights.card:
        parts.append(f"of its state dicts {weights.card['state dict']}")
    if weights.ignored:
        parts.append(f"{len(weights.ignored)} tensors beside the backbone ignored")
    if weights.foreign:
        parts.append(f"{len(weights.foreign)} kinds of foreign objects not loaded")
    return ", ".join(parts)
