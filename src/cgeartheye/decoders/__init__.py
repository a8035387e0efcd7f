"""The small networks that are trained on top of a backbone."""

from cgeartheye.decoders.ban import BAN
from cgeartheye.decoders.change import DifferenceDecoder
from cgeartheye.decoders.light import LightDecoder
from cgeartheye.decoders.linear import LinearClassifier
from cgeartheye.decoders.losses import cross_entropy, dice
from cgeartheye.decoders.upernet import UPerNet

__all__ = [
    "BAN",
    "DifferenceDecoder",
    "LightDecoder",
    "LinearClassifier",
    "UPerNet",
    "cross_entropy",
    "dice",
]
