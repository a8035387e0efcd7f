"""Image files and the data sets made of them."""

from cgeartheye.data.images import images_below, read_georeference, read_image
from cgeartheye.data.legend import UNLABELLED, Legend
from cgeartheye.data.masks import (
    SegmentationChips,
    SegmentationParts,
    fingerprint_masks,
    load_segmentation_parts,
)
from cgeartheye.data.scenes import SceneChips, SceneParts, fingerprint, load_parts
from cgeartheye.data.transforms import Normalise, eval_transform

__all__ = [
    "UNLABELLED",
    "Legend",
    "Normalise",
    "SceneChips",
    "SceneParts",
    "SegmentationChips",
    "SegmentationParts",
    "eval_transform",
    "fingerprint",
    "fingerprint_masks",
    "images_below",
    "load_parts",
    "load_segmentation_parts",
    "read_georeference",
    "read_image",
]
