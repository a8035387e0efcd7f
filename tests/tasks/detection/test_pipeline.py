from pathlib import Path

import pytest
import torch
from tests.commands.toy_things import CLASSES, write_things

from cgeartheye.boxes import overlap
from cgeartheye.config import Backbone, DetectionData, DetectionDecoder, ObjectDetection, Training
from cgeartheye.models.detection import TOP, LightDetector, coder_of
from cgeartheye.tasks.detection.module import DetectionTask
from cgeartheye.tasks.detection.pipeline import DetectionPipeline


@pytest.mark.parametrize(
    ("kind", "training", "told"),
    [
        ("dino", {"epochs": 80}, "this one 320;"),
        ("dino", {"steps": 500}, "this one 1,000;"),
        ("dino", {"epochs": 25_000}, None),
        ("light", {"epochs": 80}, None),
    ],
)
def test_a_query_detector_is_told_that_it_will_see_few_images(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    training: dict[str, int],
    told: str | None,
) -> None:
    for part, count in (("train", 4), ("val", 1)):
        write_things(tmp_path, part, {f"{part}{n}": (n, 112, 112) for n in range(count)})
    config = ObjectDetection(
        backbone=Backbone(name="tiny", weights="random"),
        data=DetectionData(root=tmp_path, boxes="oriented", classes=CLASSES, batch_size=2),
        decoder=DetectionDecoder(kind=kind),
        training=Training(**training),
    )
    DetectionPipeline(config)._warn_of_few_steps()
    output = " ".join("".join(capsys.readouterr()).split())
    assert told in output if told else not output, output


def test_a_crowd_is_found_although_many_points_are_of_one_object() -> None:
    """Points of one object, up to TOP of them, may all score higher than those of another."""
    torch.manual_seed(0)
    count = 400
    task = DetectionTask.__new__(DetectionTask)
    torch.nn.Module.__init__(task)
    task.coder = coder_of(False)
    task.decoder = LightDetector(8, 2, 1, task.coder, 16)
    task.classes, task.max_detections = ("car",), count
    grid = torch.cartesian_prod(*2 * [torch.arange(20.0)]) * 50 + 25
    objects = torch.cat([grid - 12, grid + 12], 1)
    boxes = objects.repeat_interleave(TOP, 0)[None]
    scores = torch.linspace(0.1, 0.9, count).repeat_interleave(TOP)[None, :, None]
    (found,) = task._best(boxes, scores)
    assert len(found) == count
    assert (overlap(found.boxes, objects) > 0.99).any(0).all()
