"""Image files and the data sets made of them."""

from cgeartheye.data.datasets.change import (
    ChangeChips,
    ChangeParts,
    load_change_parts,
    read_pair,
    refuse_other_size,
)
from cgeartheye.data.datasets.detection import (
    BoxChips,
    DetectionParts,
    box_fingerprint,
    load_detection_parts,
)
from cgeartheye.data.datasets.scene import SceneChips, SceneParts, fingerprint, load_parts
from cgeartheye.data.datasets.segmentation import (
    MaskedChips,
    SegmentationChips,
    SegmentationParts,
    fingerprint_masks,
    load_segmentation_parts,
)
from cgeartheye.data.formats.masks import UNLABELED, Legend
from cgeartheye.data.image_io import images_below, read_georeference, read_image
from cgeartheye.data.transforms.image import Normalize, eval_transform

__all__ = [
    "UNLABELED",
    "BoxChips",
    "ChangeChips",
    "ChangeParts",
    "DetectionParts",
    "Legend",
    "MaskedChips",
    "Normalize",
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
    "refuse_other_size",
]
