"""Boxes, horizontal and oriented: conversions, overlap, suppression, and distances."""

from cgeartheye.boxes.convert import (
    canonical,
    corners_of,
    from_horizontal,
    horizontal_of,
    oriented_around,
    oriented_of,
)
from cgeartheye.boxes.detections import Detections
from cgeartheye.boxes.iou import (
    areas_of,
    intersection_over_smaller,
    overlap,
    paired_intersection,
    paired_overlap,
    rotated_iou,
)
from cgeartheye.boxes.losses import gaussian_kld, hausdorff, hellinger, kld_loss
from cgeartheye.boxes.nms import nms

__all__ = [
    "Detections",
    "areas_of",
    "canonical",
    "corners_of",
    "from_horizontal",
    "gaussian_kld",
    "hausdorff",
    "hellinger",
    "horizontal_of",
    "intersection_over_smaller",
    "kld_loss",
    "nms",
    "oriented_around",
    "oriented_of",
    "overlap",
    "paired_intersection",
    "paired_overlap",
    "rotated_iou",
]
