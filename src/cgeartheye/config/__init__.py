"""The schema of a run and the files it is read from."""

from cgeartheye.config.files import load, to_yaml
from cgeartheye.config.schema import (
    Backbone,
    Config,
    FeatureCache,
    Heads,
    Lora,
    Network,
    Normalisation,
    Objective,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    SceneClassification,
    SceneData,
    Training,
    Views,
    Watch,
)

__all__ = [
    "Backbone",
    "Config",
    "FeatureCache",
    "Heads",
    "Lora",
    "Network",
    "Normalisation",
    "Objective",
    "Pretraining",
    "PretrainingData",
    "PretrainingSchedule",
    "SceneClassification",
    "SceneData",
    "Training",
    "Views",
    "Watch",
    "load",
    "to_yaml",
]
