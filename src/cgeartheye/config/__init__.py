"""The schema of a run and the files it is read from."""

from cgeartheye.config.files import load, to_yaml
from cgeartheye.config.schema import (
    Backbone,
    Config,
    FeatureCache,
    Lora,
    Normalisation,
    SceneClassification,
    SceneData,
    Training,
)

__all__ = [
    "Backbone",
    "Config",
    "FeatureCache",
    "Lora",
    "Normalisation",
    "SceneClassification",
    "SceneData",
    "Training",
    "load",
    "to_yaml",
]
