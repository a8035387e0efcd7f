"""Checks of a data set, made before training."""
