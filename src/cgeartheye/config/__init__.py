"""The schema of a run and the files it is read from."""

from typing import Any

from cgeartheye.config.base import Color, Triple
from cgeartheye.config.benchmark import BenchmarkData, BenchmarkTable, Protocol
from cgeartheye.config.data import (
    ChangeData,
    DetectionData,
    MaskedData,
    SceneData,
    SegmentationData,
)
from cgeartheye.config.jlssd import ChipCutting, ChipQuality, Curation, Jlssd, PlaceDesign
from cgeartheye.config.loader import (
    load,
    make,
    read_section,
    refuse_other_kinds,
    section,
    to_yaml,
)
from cgeartheye.config.model import Backbone, Lora, Network, Normalization
from cgeartheye.config.pretraining import (
    Heads,
    Objective,
    OnlineKnn,
    Pretraining,
    PretrainingData,
    Teacher,
    Views,
)
from cgeartheye.config.renamed import CLASSES, note
from cgeartheye.config.schema import Config
from cgeartheye.config.tasks import (
    ChangeDecoder,
    ChangeDetection,
    DetectionDecoder,
    FeatureCache,
    ObjectDetection,
    SceneClassification,
    SceneDecoder,
    SegmentationDecoder,
    SemanticSegmentation,
    SlidingWindow,
)
from cgeartheye.config.training import Optimization, PretrainingSchedule, Training

__all__ = [
    "Backbone",
    "BenchmarkData",
    "BenchmarkTable",
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
    "Optimization",
    "PlaceDesign",
    "Pretraining",
    "PretrainingData",
    "PretrainingSchedule",
    "Protocol",
    "SceneClassification",
    "SceneData",
    "SceneDecoder",
    "SegmentationData",
    "SegmentationDecoder",
    "SemanticSegmentation",
    "SlidingWindow",
    "Teacher",
    "Training",
    "Triple",
    "Views",
    "load",
    "make",
    "read_section",
    "refuse_other_kinds",
    "section",
    "to_yaml",
]


def __getattr__(name: str) -> Any:
    """Return a class that a config file imports under its old name."""
    if name not in CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    note(name, CLASSES[name])
    return globals()[CLASSES[name]]
