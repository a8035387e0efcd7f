"""Decoders of two dates."""

from cgeartheye.models.change.ban import BAN
from cgeartheye.models.change.difference import DifferenceDecoder

__all__ = ["BAN", "DifferenceDecoder"]
