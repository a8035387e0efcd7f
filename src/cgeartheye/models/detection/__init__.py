"""The detectors, their assignments and their losses."""

from cgeartheye.models.detection.box_coder import coder_of
from cgeartheye.models.detection.criterion import set_criterion
from cgeartheye.models.detection.dino_detr import DINO
from cgeartheye.models.detection.light import LightDetector
from cgeartheye.models.detection.matcher import Targets, pad_targets
from cgeartheye.models.detection.task_alignment import TOP, aligned_losses, assign

__all__ = [
    "DINO",
    "TOP",
    "LightDetector",
    "Targets",
    "aligned_losses",
    "assign",
    "coder_of",
    "pad_targets",
    "set_criterion",
]
