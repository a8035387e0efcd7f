"""The query detector, its matching and its losses."""

from cgeartheye.models.detection.box_coder import coder_of
from cgeartheye.models.detection.criterion import set_losses
from cgeartheye.models.detection.dino_detr import DINO
from cgeartheye.models.detection.matcher import pad_targets

__all__ = ["DINO", "coder_of", "pad_targets", "set_losses"]
