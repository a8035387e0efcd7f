"""The network that turns images into features, its weights, and how far they are tuned."""

from cgeartheye.models.backbone.build import Built, Model, build, weights_file
from cgeartheye.models.backbone.checkpoint_io import Facts, convert, inspect
from cgeartheye.models.backbone.timm_adapter import TimmBackbone
from cgeartheye.models.backbone.variants import SIZES, Size
from cgeartheye.models.backbone.vit import VisionTransformer

__all__ = [
    "SIZES",
    "Built",
    "Facts",
    "Model",
    "Size",
    "TimmBackbone",
    "VisionTransformer",
    "build",
    "convert",
    "inspect",
    "weights_file",
]
