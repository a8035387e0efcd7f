"""Backbones, and the decoders that are trained on top of them."""
