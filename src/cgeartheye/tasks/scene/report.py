"""The pictures of a test of a scene classifier."""

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from cgeartheye.config import SceneClassification, to_yaml
from cgeartheye.data import SceneChips
from cgeartheye.metrics.classification import ClassificationMetrics
from cgeartheye.reports.scene import scene_report
from cgeartheye.tasks.model_io import device_of
from cgeartheye.tasks.scene.module import SceneTask
from cgeartheye.training.run_dir import environment, read_history
from cgeartheye.utils.console import bar
from cgeartheye.utils.fonts import font_for, writable
from cgeartheye.utils.io import write_image

FEATURE_PICTURES = 6
CAPTION = 20  # pixels


def write_report(
    path: Path,
    config: SceneClassification,
    task: SceneTask,
    chips: SceneChips,
    metrics: ClassificationMetrics,
    probabilities: np.ndarray,
    features: np.ndarray,
    started: float,
    part: str,
    verdict: list[str],
) -> None:
    """Write `report.html`.

    Args:
        path: of the report.
        config: of the run; its log is taken in where there is one.
        task: the tested model.
        chips: what it was tested on.
        metrics: over all chips.
        probabilities: `[chips, classes]`.
        features: class tokens `[chips, C]`.
        started: `time.monotonic()` at the start of the test.
        part: of the data that was tested.
        verdict: sentences on what was not learned.
    """
    assert config.work_dir is not None
    indices = np.linspace(0, len(chips) - 1, min(FEATURE_PICTURES, len(chips))).astype(int)
    views = torch.stack([chips[int(index)]["image"] for index in indices])
    device = device_of(task)
    maps = torch.zeros(0)  # an engine hands none over
    if task.engine is None:
        with torch.no_grad():
            _, (maps,) = task.backbone(task.normalize(views.to(device)), layers=[-1])
    scene_report(
        path,
        title=config.work_dir.name,
        classes=chips.classes,
        metrics=metrics,
        history=read_history(config.work_dir),
        probabilities=probabilities,
        labels=np.array(chips.labels),
        names=chips.names,
        load_image=lambda index: chips.load_image_stack(index).permute(1, 2, 0).numpy(),
        embedding=features,
        feature_views=views.permute(0, 2, 3, 1).numpy(),
        feature_maps=maps.float().cpu().numpy(),
        config_yaml=to_yaml(config),
        environment={
            **environment(device),
            "test": f"{time.monotonic() - started:.1f} s",
        },
        part=part,
        verdict=verdict,
    )


def save_pictures(folder: Path, chips: SceneChips, probabilities: np.ndarray) -> None:
    """Save every image with its prediction and its class beneath.

    Args:
        folder: for the pictures.
        chips: N tested images.
        probabilities: `[N, K]`.
    """
    shown = writable(chips.classes)
    with bar("saving pictures", len(chips), "images") as progress:
        for index, (name, scores) in enumerate(zip(chips.names, probabilities, strict=True)):
            best, truth = int(scores.argmax()), chips.labels[index]
            picture = Image.fromarray(chips.load_image_stack(index).permute(1, 2, 0).numpy())
            text = f"{shown[best]} {scores[best]:.0%}"
            if best != truth:
                text += f", not {shown[truth]}"
            font = font_for(text, 13)
            width = max(picture.width, round(font.getlength(text)) + 8)
            canvas = Image.new("RGB", (width, picture.height + CAPTION), "white")
            canvas.paste(picture, (0, 0))
            color = "darkgreen" if best == truth else "firebrick"
            ImageDraw.Draw(canvas).text((4, picture.height + 2), text, color, font)
            write_image((folder / name).with_suffix(".jpg"), canvas, quality=90)
            progress.advance()
