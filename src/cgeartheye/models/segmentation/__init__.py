"""Decoders of land cover, and their losses."""

from cgeartheye.models.segmentation.light import LightDecoder
from cgeartheye.models.segmentation.losses import cross_entropy, dice
from cgeartheye.models.segmentation.upernet import UPerNet

__all__ = ["LightDecoder", "UPerNet", "cross_entropy", "dice"]
