from pathlib import Path

import pytest
from tests.commands.toy_things import CLASSES, write_things

from cgeartheye.config import Backbone, DetectionData, DetectionDecoder, ObjectDetection, Training
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
