"""CGEarthEye: a vision foundation model for sub-metre satellite imagery.

    import cgeartheye as cge

    backbone = cge.create_backbone("tiny")
    features = cge.extract_features(backbone, "chips/")
    run = cge.train("mine.yaml", **{"training.epochs": 5})
    model = cge.load_model(run)
    predictions = model.predict("new/")
    result = cge.map_raster(model, "scene.tif", out="map", vector_format="gpkg")

Importing the package is free: a name is imported, and with it what it needs, when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cgeartheye import config
    from cgeartheye.api.backbones import Backbone, create_backbone
    from cgeartheye.api.embeddings import embed_raster, search
    from cgeartheye.api.features import Features, ImageFeatures, extract_features
    from cgeartheye.api.maps import MapResult, map_raster
    from cgeartheye.api.models import Model, load_model
    from cgeartheye.api.predictions import (
        BoxPrediction,
        ClassPrediction,
        MaskPrediction,
        Predictions,
    )
    from cgeartheye.api.preprocessing import Preprocessing
    from cgeartheye.api.runs import Run, train
    from cgeartheye.config import (
        ChangeDetection,
        ObjectDetection,
        SceneClassification,
        SemanticSegmentation,
    )
    from cgeartheye.utils.errors import UserError

__all__ = [
    "Backbone",
    "BoxPrediction",
    "ChangeDetection",
    "ClassPrediction",
    "Features",
    "ImageFeatures",
    "MapResult",
    "MaskPrediction",
    "Model",
    "ObjectDetection",
    "Predictions",
    "Preprocessing",
    "Run",
    "SceneClassification",
    "SemanticSegmentation",
    "UserError",
    "__version__",
    "config",
    "create_backbone",
    "embed_raster",
    "extract_features",
    "load_model",
    "map_raster",
    "search",
    "train",
]

_MODULES = {
    "api.backbones": ("Backbone", "create_backbone"),
    "api.embeddings": ("embed_raster", "search"),
    "api.features": ("Features", "ImageFeatures", "extract_features"),
    "api.maps": ("MapResult", "map_raster"),
    "api.models": ("Model", "load_model"),
    "api.predictions": ("BoxPrediction", "ClassPrediction", "MaskPrediction", "Predictions"),
    "api.preprocessing": ("Preprocessing",),
    "api.runs": ("Run", "train"),
    "config": ("ChangeDetection", "ObjectDetection", "SceneClassification", "SemanticSegmentation"),
    "utils.errors": ("UserError",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "config":
        return import_module("cgeartheye.config")
    if name not in _HOME:
        raise AttributeError(f"module 'cgeartheye' has no attribute '{name}'")
    value = getattr(import_module(f"cgeartheye.{_HOME[name]}"), name)
    globals()[name] = value  # the next use is a plain look-up
    return value


def __dir__() -> list[str]:
    return __all__
