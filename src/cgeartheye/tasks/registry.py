"""The task and the pipeline that belong to a config."""

from typing import Any

from cgeartheye.config import ChangeDetection, Config, ObjectDetection, SceneClassification
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.tasks.change.module import ChangeTask
from cgeartheye.tasks.change.pipeline import ChangePipeline
from cgeartheye.tasks.detection.module import DetectionTask
from cgeartheye.tasks.detection.pipeline import DetectionPipeline
from cgeartheye.tasks.pipeline import TaskPipeline
from cgeartheye.tasks.scene.module import SceneTask
from cgeartheye.tasks.scene.pipeline import ScenePipeline
from cgeartheye.tasks.segmentation.module import SegmentationTask
from cgeartheye.tasks.segmentation.pipeline import SegmentationPipeline


def pipeline_for(config: Config) -> TaskPipeline:
    """Return the pipeline of a config's task; a command calls this once."""
    if isinstance(config, SceneClassification):
        return ScenePipeline(config)
    if isinstance(config, ChangeDetection):
        return ChangePipeline(config)
    if isinstance(config, ObjectDetection):
        return DetectionPipeline(config)
    return SegmentationPipeline(config)


def build_task(config: Config, built: BackboneBundle, classes: tuple[str, ...], tta: bool) -> Any:
    """Put a new decoder on a backbone.

    Args:
        config: of the run.
        built: the backbone.
        classes: names by index.
        tta: average predictions over changed views of an image.

    Raises:
        UserError: a decoder that does not fit the backbone or the classes.
    """
    parts = built.module, built.normalization, classes
    if isinstance(config, SceneClassification):
        return SceneTask(*parts, config, tta)
    if isinstance(config, ChangeDetection):
        return ChangeTask(*parts, config, tta)
    if isinstance(config, ObjectDetection):
        return DetectionTask(*parts, config, tta)
    return SegmentationTask(*parts, config, tta)
