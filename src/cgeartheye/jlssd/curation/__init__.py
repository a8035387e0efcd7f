"""Redundant places thinned by their features."""
