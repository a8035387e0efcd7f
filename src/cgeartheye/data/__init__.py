"""Image files and the data sets made of them."""

from cgeartheye.data.boxes import (
    BoxChips,
    DetectionParts,
    box_fingerprint,
    load_detection_parts,
)
from cgeartheye.data.images import images_below, read_georeference, read_image
from cgeartheye.data.legend import UNLABELLED, Legend
from cgeartheye.data.masks import (
    MaskedChips,
    SegmentationChips,
    SegmentationParts,
    fingerprint_masks,
    load_segmentation_parts,
)
from cgeartheye.data.pairs import ChangeChips, ChangeParts, load_change_parts, read_pair
from cgeartheye.data.scenes import SceneChips, SceneParts, fingerprint, load_parts
from cgeartheye.data.transforms import Normalise, eval_transform

__all__ = [
    "UNLABELLED",
    "BoxChips",
    "ChangeChips",
    "ChangeParts",
    "DetectionParts",
    "Legend",
    "MaskedChips",
    "Normalise",
    "SceneChips",
    "SceneParts",
    "SegmentationChips",
    "SegmentationParts",
    "box_fingerprint",
    "eval_transform",
    "fingerprint",
    "fingerprint_masks",
    "images_below",
    "load_change_parts",
    "load_detection_parts",
    "load_parts",
    "load_segmentation_parts",
    "read_georeference",
    "read_image",
    "read_pair",
]
