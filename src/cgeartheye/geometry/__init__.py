"""Boxes, horizontal and oriented: conversions, overlap, suppression, and distances."""

from cgeartheye.geometry.detections import Detections
from cgeartheye.geometry.distances import gaussian_kld, hausdorff, kld_loss
from cgeartheye.geometry.oriented import (
    canonical,
    corners_of,
    from_horizontal,
    horizontal_of,
    oriented_around,
    oriented_of,
)
from cgeartheye.geometry.overlap import (
    areas_of,
    intersection_over_smaller,
    overlap,
    paired_intersection,
    paired_overlap,
    rotated_iou,
)
from cgeartheye.geometry.suppression import suppress

__all__ = [
    "Detections",
    "areas_of",
    "canonical",
    "corners_of",
    "from_horizontal",
    "gaussian_kld",
    "hausdorff",
    "horizontal_of",
    "intersection_over_smaller",
    "kld_loss",
    "oriented_around",
    "oriented_of",
    "overlap",
    "paired_intersection",
    "paired_overlap",
    "rotated_iou",
    "suppress",
]
