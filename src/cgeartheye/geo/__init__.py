"""Georeferenced rasters and vectors: read, resampled, laid on each other, written."""
