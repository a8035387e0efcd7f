"""Common part of segmentation and change detection."""
