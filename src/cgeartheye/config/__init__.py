"""The schema of a run and the files it is read from."""

from cgeartheye.config.base import Color, Triple
from cgeartheye.config.data import (
    ChangeData,
    DetectionData,
    MaskedData,
    SceneData,
    SegmentationData,
)
from cgeartheye.config.jlssd import ChipCutting, ChipQuality, Curation, Jlssd, PlaceDesign
from cgeartheye.config.loader import load, section, to_yaml
from cgeartheye.config.model import Backbone, Lora, Network, Normalization
from cgeartheye.config.pretraining import (
    Heads,
    Objective,
    OnlineKnn,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Teacher,
    Views,
)
from cgeartheye.config.schema import Config
from cgeartheye.config.tasks import (
    ChangeDecoder,
    ChangeDetection,
    DetectionDecoder,
    FeatureCache,
    ObjectDetection,
    SceneClassification,
    SegmentationDecoder,
    SemanticSegmentation,
    SlidingWindow,
    Training,
)

__all__ = [
    "Backbone",
    "ChangeData",
    "ChangeDecoder",
    "ChangeDetection",
    "ChipCutting",
    "ChipQuality",
    "Color",
    "Config",
    "Curation",
    "DetectionData",
    "DetectionDecoder",
    "FeatureCache",
    "Heads",
    "Jlssd",
    "Lora",
    "MaskedData",
    "Network",
    "Normalization",
    "ObjectDetection",
    "Objective",
    "OnlineKnn",
    "PlaceDesign",
    "Pretraining",
    "PretrainingData",
    "PretrainingSchedule",
    "SceneClassification",
    "SceneData",
    "SegmentationData",
    "SegmentationDecoder",
    "SemanticSegmentation",
    "SlidingWindow",
    "Teacher",
    "Training",
    "Triple",
    "Views",
    "load",
    "section",
    "to_yaml",
]
