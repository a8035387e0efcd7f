"""The network that turns images into features, its weights, and how far they are tuned."""

from cgeartheye.models.backbone.build import (
    BackboneBundle,
    Model,
    build,
    build_outline,
    weights_file,
)
from cgeartheye.models.backbone.checkpoint_io import WeightsMetadata
from cgeartheye.models.backbone.conversion import convert, inspect
from cgeartheye.models.backbone.timm_adapter import TimmBackbone
from cgeartheye.models.backbone.variants import SIZES, Size
from cgeartheye.models.backbone.vit import VisionTransformer

__all__ = [
    "SIZES",
    "BackboneBundle",
    "Model",
    "Size",
    "TimmBackbone",
    "VisionTransformer",
    "WeightsMetadata",
    "build",
    "build_outline",
    "convert",
    "inspect",
    "weights_file",
]
