"""The small networks that are trained on top of a backbone."""

from cgeartheye.decoders.ban import BAN
from cgeartheye.decoders.box_coder import coder_of
from cgeartheye.decoders.change import DifferenceDecoder
from cgeartheye.decoders.dino import DINO
from cgeartheye.decoders.light import LightDecoder
from cgeartheye.decoders.linear import LinearClassifier
from cgeartheye.decoders.losses import cross_entropy, dice
from cgeartheye.decoders.matching import gather_truth
from cgeartheye.decoders.set_losses import set_losses
from cgeartheye.decoders.upernet import UPerNet

__all__ = [
    "BAN",
    "DINO",
    "DifferenceDecoder",
    "LightDecoder",
    "LinearClassifier",
    "UPerNet",
    "coder_of",
    "cross_entropy",
    "dice",
    "gather_truth",
    "set_losses",
]
