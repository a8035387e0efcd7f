"""The schema of a run and the files it is read from."""

from cgeartheye.config.base import Colour, Triple
from cgeartheye.config.data import (
    ChangeData,
    DetectionData,
    MaskedData,
    SceneData,
    SegmentationData,
)
from cgeartheye.config.jlssd import ChipCutting, ChipQuality, Curation, Jlssd, PlaceDesign
from cgeartheye.config.loader import load, make, section, to_yaml
from cgeartheye.config.model import Backbone, Lora, Network, Normalisation
from cgeartheye.config.pretraining import (
    Heads,
    Objective,
    Pretraining,
    PretrainingData,
    Teacher,
    Views,
    Watch,
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
)
from cgeartheye.config.training import Optimization, PretrainingSchedule, Training

__all__ = [
    "Backbone",
    "ChangeData",
    "ChangeDecoder",
    "ChangeDetection",
    "ChipCutting",
    "ChipQuality",
    "Colour",
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
    "Normalisation",
    "ObjectDetection",
    "Objective",
    "Optimization",
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
    "Watch",
    "load",
    "make",
    "section",
    "to_yaml",
]
