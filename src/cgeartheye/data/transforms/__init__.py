"""Transforms of images, masks and boxes alike."""
