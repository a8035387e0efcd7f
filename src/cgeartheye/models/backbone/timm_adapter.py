"""Any timm network behind the contract of our own backbone, so that peers can be compared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cgeartheye.models.backbone.checkpoint_io import (
    WeightsMetadata,
    check_fit,
    fingerprint,
    read_tensors,
)
from cgeartheye.models.backbone.efficientnet import is_efficientnet, to_timm
from cgeartheye.models.backbone.vit import resolve_layers
from cgeartheye.utils.errors import UserError, nearest


class TimmBackbone(nn.Module):
    """A timm network without its classifier.

    Attributes:
        embed_dim: C, channels of the pooled features.
        depth: layers of a transformer, stages of other networks.
        patch_size: pixels of the image a side of a pixel of the last map.
        maps: channels of each layer's map, and pixels of the image a side of one of its pixels.
        blocks: the layers of a transformer; empty for other networks.
    """

    def __init__(
        self,
        name: str,
        image_size: int,
        drop_path: float = 0.0,
        checkpoint_activations: bool = False,
    ):
        """Build a network with random weights; nothing is downloaded.

        Args:
            name: of the model in timm.
            image_size: pixels a side; a plain ViT takes any other size too.
            drop_path: as in `VisionTransformer`.
            checkpoint_activations: as in `VisionTransformer`.

        Raises:
            UserError: timm is not installed, or does not know the model.
        """
        super().__init__()
        self.model = _create(name, image_size, drop_path)
        if checkpoint_activations:
            self.model.set_grad_checkpointing(True)
        self.embed_dim: int = getattr(self.model, "head_hidden_size", self.model.num_features)
        self.maps: list[tuple[int, int]] = [
            (info["num_chs"], info["reduction"]) for info in self.model.feature_info
        ]
        self.depth = len(self.maps)
        self.patch_size: int = self.maps[-1][1]

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers of a transformer."""
        is_plain = len(set(self.maps)) == 1  # an EfficientNet is made of blocks too
        return list(getattr(self.model, "blocks", ())) if is_plain else []

    def forward(
        self, images: Tensor, layers: Sequence[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode images.

        Args:
            images: float `[B, 3, H, W]`, normalised.
            layers: indices of the layers or stages whose maps are wanted; -1 is the last.

        Returns:
            The features before the classifier `[B, C]`, and for each of `layers` a map
            `[B, channels, H / reduction, W / reduction]`; a transformer's last is normalised.
        """
        features, maps = self.forward_maps(images, layers)
        return self.model.forward_head(features, pre_logits=True), maps

    def forward_maps(
        self, images: Tensor, layers: Sequence[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode images as `forward` does, without its pooling.

        Returns:
            What is pooled, `[B, C, h, w]` (convolutional) or `[B, tokens, C]`, and the maps.
        """
        indices = resolve_layers(layers, self.depth)
        if not indices:
            return self.model.forward_features(images), []
        order = sorted(set(indices))
        features, found = self.model.forward_intermediates(images, indices=order)
        maps: dict[int, Tensor] = dict(zip(order, found, strict=True))
        last = self.depth - 1
        if last in maps and features.ndim == 3:
            patches = features[:, self.model.num_prefix_tokens :]
            maps[last] = patches.transpose(1, 2).unflatten(2, maps[last].shape[-2:])
        return features, [maps[index] for index in indices]

    def load(self, path: Path) -> tuple[WeightsMetadata, str]:
        """Load weights with timm's names, or an EfficientNet's with those of its first port.

        Returns:
            Their metadata in the file, and their fingerprint.

        Raises:
            UserError: the file cannot be read, or its tensors do not fit one to one.
        """
        tensors, metadata, _ = read_tensors(path)
        if is_efficientnet(tensors):
            tensors = to_timm(tensors)[1]
        classifiers = self.model.pretrained_cfg.get("classifier") or ()
        heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
        state = {
            name: tensor
            for name, tensor in tensors.items()
            if not name.startswith(tuple(f"{head}." for head in heads))
        }
        check_fit(self.model.state_dict(), state, path)
        self.model.load_state_dict(state)
        return WeightsMetadata.from_metadata(metadata, path), fingerprint(state)


def _create(name: str, image_size: int, drop_path: float) -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"timm/{name} needs timm, which is not installed: pip install cgeartheye[timm]"
        ) from error
    if not timm.is_model(name):
        close = nearest(name, timm.list_models())
        raise UserError(f"backbone.name: timm has no model '{name}'{close}")
    options: dict[str, Any] = {"num_classes": 0}
    if drop_path:
        options["drop_path_rate"] = drop_path
    try:
        # Plain ViTs: position embeddings are resampled to whatever comes.
        return timm.create_model(name, dynamic_img_size=True, **options)
    except TypeError:
        pass
    try:
        return timm.create_model(name, img_size=image_size, **options)
    except TypeError:
        return timm.create_model(name, **options)
