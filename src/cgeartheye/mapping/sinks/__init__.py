"""Destinations of finished rows of windows."""
