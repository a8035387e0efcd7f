"""The network that turns images into features, its weights, and how far they are tuned."""

from cgeartheye.backbone.build import Built, Model, build, weights_file
from cgeartheye.backbone.sizes import SIZES, Size
from cgeartheye.backbone.vit import VisionTransformer
from cgeartheye.backbone.weights import Facts, convert, inspect

__all__ = [
    "SIZES",
    "Built",
    "Facts",
    "Model",
    "Size",
    "VisionTransformer",
    "build",
    "convert",
    "inspect",
    "weights_file",
]
