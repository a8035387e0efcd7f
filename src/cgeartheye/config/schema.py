"""The one schema of a run.

Every field that a user can set is in this folder, with its default, its unit and its reason. A
config file (see `loader.py`) binds one of the classes below.
"""

from cgeartheye.config.jlssd import Jlssd
from cgeartheye.config.pretraining import Pretraining
from cgeartheye.config.tasks import (
    ChangeDetection,
    ObjectDetection,
    SceneClassification,
    SemanticSegmentation,
)

# What the commands of tasks take.
Config = SceneClassification | SemanticSegmentation | ChangeDetection | ObjectDetection
KINDS: dict[str, type[Config] | type[Pretraining] | type[Jlssd]] = {
    "scene_classification": SceneClassification,
    "semantic_segmentation": SemanticSegmentation,
    "change_detection": ChangeDetection,
    "object_detection": ObjectDetection,
    "pretraining": Pretraining,
    "jlssd": Jlssd,
}
