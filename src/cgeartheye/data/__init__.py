"""Image files and the data sets made of them."""

from cgeartheye.data.images import images_below, read_georeference, read_image
from cgeartheye.data.scenes import SceneChips, SceneParts, fingerprint, load_parts
from cgeartheye.data.transforms import Normalise, eval_transform

__all__ = [
    "Normalise",
    "SceneChips",
    "SceneParts",
    "eval_transform",
    "fingerprint",
    "images_below",
    "load_parts",
    "read_georeference",
    "read_image",
]
