"""Backbones as plain PyTorch modules: for features, or in a training loop of one's own."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self

from torch import Tensor, nn

from cgeartheye.api.isolation import own_random_state
from cgeartheye.api.preprocessing import Preprocessing, Triple
from cgeartheye.config import Backbone as BackboneConfig
from cgeartheye.config import Normalization, section
from cgeartheye.models import backbone as networks
from cgeartheye.models.backbone.checkpoint_io import WeightsMetadata, save_tensors
from cgeartheye.models.backbone.named import name_and_file
from cgeartheye.models.backbone.timm_adapter import TimmBackbone
from cgeartheye.utils.errors import UserError
from cgeartheye.weights import shipped


class Backbone(nn.Module):
    """A network that turns images into features; made by `create_backbone`.

    Attributes:
        network: the network itself.
        embed_dim: C, channels of a class token and of the maps of a transformer.
        depth: layers of a transformer, stages of other networks.
        patch_size: pixels of the image a side of a cell of the last map.
        preprocessing: how images become what `forward` takes.
        frozen: whether it stays in evaluation mode and requires no gradients.
        notes: where the weights, their normalization and their GSD come from.
    """

    def __init__(
        self,
        network: networks.Model,
        preprocessing: Preprocessing,
        frozen: bool,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.frozen = frozen
        self.notes = tuple(notes)
        self.embed_dim: int = network.embed_dim
        self.depth: int = network.depth
        self.patch_size: int = network.patch_size

    def forward(
        self, images: Tensor, layers: Sequence[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode images.

        Args:
            images: float `[B, 3, H, W]`, normalized as `preprocessing` has it; H and W are
                multiples of `patch_size`.
            layers: indices of the layers whose maps are wanted, from 0 or, negative, from the
                end; -1 is the last. None: no maps.

        Returns:
            The class token `[B, C]`, and for each of `layers` a map `[B, C, H / patch_size,
            W / patch_size]`. A convolutional network has the pooled features and the maps of its
            stages in their place.

        Raises:
            UserError: images that are not floating-point numbers, sides that are no multiples, or
                a layer that does not exist.
        """
        if not images.is_floating_point():
            raise UserError(
                f"the backbone takes normalized float images, not {images.dtype}: transform them "
                "with backbone.preprocessing.transform(), or use extract_features"
            )
        encoded: tuple[Tensor, list[Tensor]] = self.network(images, layers)
        return encoded

    def train(self, mode: bool = True) -> Self:
        """Switch to training; a frozen backbone stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def save(self, path: str | PathLike[str], card: Mapping[str, str] | None = None) -> Path:
        """Save the weights with their normalization and GSD, for `backbone.weights` of a config.

        Args:
            path: a `.safetensors` file.
            card: more to know of the weights, label by label, such as the data and their license.

        Returns:
            The path.

        Raises:
            UserError: another ending, a backbone with LoRA's matrices, or no room on the disk.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise UserError(f"{path}: the file's ending must be .safetensors")
        own = self.network
        module: nn.Module = own.model if isinstance(own, TimmBackbone) else own
        tensors = module.state_dict()
        if any(name.endswith(".lora_a") for name in tensors):
            raise UserError(
                "the backbone has LoRA's matrices, which a file of plain weights has no place for: "
                "save backbone.state_dict() with torch.save"
            )
        known = self.preprocessing
        facts = WeightsMetadata(known.mean, known.std, known.gsd).to_metadata()
        save_tensors(path, tensors, {**(card or {}), **facts})
        return path

    def extra_repr(self) -> str:
        """Return what `print` shows beside the layers."""
        return f"embed_dim={self.embed_dim}, patch_size={self.patch_size}, frozen={self.frozen}"


def create_backbone(
    name: str | PathLike[str],
    pretrained: bool = True,
    *,
    weights: str | PathLike[str] | None = None,
    tuning: Literal["frozen", "lora", "full"] = "frozen",
    image_size: int = 224,
    mean: Triple | None = None,
    std: Triple | None = None,
    gsd: float | None = None,
    drop_path: float = 0.0,
    checkpoint_activations: bool = False,
) -> Backbone:
    """Create a backbone with weights, for features or for a training loop of one's own.

    Args:
        name: tiny, small, base, large, huge or giant; `timm/<model>`; or a weights file in any
            published naming (safetensors or .pth), whose size is read from its tensors.
        pretrained: with weights: those of `weights`, or else those that ship for this size. False:
            random ones, drawn from torch's generator.
        weights: a weights file, where `name` is none itself. Nothing is ever downloaded.
        tuning: `frozen`: in evaluation mode for good, no parameter requires a gradient; `lora`: a
            low-rank update of every layer does; `full`: all do.
        image_size: pixels a side of most images that it will see; other sizes work too, but a
            timm model may be built for one.
        mean: of the pixel values on the scale 0..255, where the weights file does not state it.
        std: their standard deviations, on the same scale.
        gsd: m/px that the weights were trained at, where the weights file does not state it.
        drop_path: probability that a layer is left out in training.
        checkpoint_activations: trade a second forward pass for memory in training.

    Returns:
        A `torch.nn.Module` on the CPU with `embed_dim`, `depth`, `patch_size` and `preprocessing`.

    Raises:
        UserError: an unknown name, a size without weights of its own, or weights that are missing,
            do not fit, or do not state their normalization or GSD where the arguments do not
            either.

    Examples:
        >>> import cgeartheye as cge, torch
        >>> backbone = cge.create_backbone("tiny")
        >>> backbone.embed_dim, backbone.patch_size
        (192, 14)
        >>> class_token, (feature_map,) = backbone(torch.zeros(1, 3, 56, 70), layers=[-1])
        >>> class_token.shape, feature_map.shape
        (torch.Size([1, 192]), torch.Size([1, 192, 4, 5]))
    """
    name, file = name_and_file(name, weights)
    if pretrained and file is None and not shipped(name):
        raise UserError(
            f"no weights of '{name}' ship with cgeartheye: name a file with weights=..., or take "
            "random ones with pretrained=False"
        )
    if not pretrained and file is not None:
        raise UserError(f"pretrained=False asks for random weights, and {file} is named beside it")
    values: dict[str, Any] = {
        "name": name,
        "weights": file if pretrained else "random",
        "tuning": tuning,
        "drop_path": drop_path,
        "checkpoint_activations": checkpoint_activations,
        "gsd": gsd,
    }
    if (mean is None) != (std is None):
        raise UserError("mean and std go together: give both or neither")
    if mean is not None and std is not None:
        values["normalisation"] = Normalization(mean=mean, std=std)
    # Random weights are drawn as the caller seeded it; those that a file replaces leave no trace.
    with own_random_state() if pretrained else nullcontext():
        built = networks.build(section(BackboneConfig, values), image_size)
    normal = built.normalization
    preprocessing = Preprocessing(normal.mean, normal.std, built.gsd, built.module.patch_size)
    return Backbone(built.module, preprocessing, tuning == "frozen", built.notes)
