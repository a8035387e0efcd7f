"""The small networks that are trained on top of a backbone."""

from cgeartheye.decoders.linear import LinearClassifier

__all__ = ["LinearClassifier"]
