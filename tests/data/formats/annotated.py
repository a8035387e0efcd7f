"""Three images with boxes, written in each format; and the messages about mistakes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from cgeartheye.boxes import corners_of, horizontal_of
from cgeartheye.config import DetectionData
from cgeartheye.data import load_detection_parts
from cgeartheye.utils.errors import UserError

CLASSES = ("ship", "plane", "tank")
SIZES = {"a": (60, 40), "b": (50, 70), "c": (30, 30)}
# Class, and cx, cy, w, h, angle; `b` has no object.
TRUTH = {
    "a": [(0, (30.0, 20.0, 24.0, 8.0, 0.5)), (2, (12.0, 28.0, 10.0, 6.0, 2.0))],
    "b": [],
    "c": [(1, (15.0, 15.0, 12.0, 12.0, 0.0))],
}
DIFFICULT = {("a", 1)}
PARTS = {"train": ("a", "b"), "val": ("c",)}
FORMATS = ("coco", "dior", "dota", "yolo")
PLACES = {
    "coco": "Annotations/train.json",
    "dior": "Annotations/Oriented Bounding Boxes/a.xml",
    "dota": "labelTxt/train/a.txt",
    "yolo": "labels/train/a.txt",
}


def corners(box) -> list[float]:
    return corners_of(torch.tensor(box, dtype=torch.float64)).flatten().tolist()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_images(root: Path) -> None:
    for part, names in PARTS.items():
        for name in names:
            path = root / "images" / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZES[name], (len(name), 90, ord(name))).save(path)


def coco(names) -> dict:
    images = [
        {"id": 10 + n, "file_name": f"{name}.png", "width": 1, "height": 1}
        for n, name in enumerate(names)
    ]
    annotations = []
    for image, name in zip(images, names, strict=True):
        for label, box in TRUTH[name]:
            x0, y0, x1, y1 = horizontal_of(torch.tensor(box, dtype=torch.float64)).tolist()
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image["id"],
                    "category_id": 7 - label,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": [corners(box)],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 7 - label, "name": name} for label, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_data(root: Path, kind: str) -> Path:
    write_images(root)
    fields = [f"{axis}_{c}" for c in ("left_top", "right_top", "right_bottom", "left_bottom")
              for axis in "xy"]  # fmt: skip
    for part, names in PARTS.items():
        if kind == "coco":
            write(root / "Annotations" / f"{part}.json", json.dumps(coco(names)))
        for name in names:
            lines = []
            for n, (label, box) in enumerate(TRUTH[name]):
                numbers, flag = corners(box), int((name, n) in DIFFICULT)
                if kind == "dior":
                    inside = "".join(
                        f"<{f}>{x}</{f}>" for f, x in zip(fields, numbers, strict=True)
                    )
                    lines.append(
                        f"<object><name>{CLASSES[label].title()}</name><difficult>{flag}"
                        f"</difficult><robndbox>{inside}</robndbox></object>"
                    )
                elif kind == "dota":
                    lines.append(f"{' '.join(map(str, numbers))} {CLASSES[label]} {flag}")
                elif kind == "yolo":
                    shares = [x / SIZES[name][place % 2] for place, x in enumerate(numbers)]
                    lines.append(f"{label} {' '.join(map(str, shares))}")
            if kind == "dior":
                text = f"<annotation>{''.join(lines)}</annotation>"
                write(root / "Annotations/Oriented Bounding Boxes" / f"{name}.xml", text)
            elif kind == "dota":
                head = ["imagesource:GoogleEarth", "gsd:0.5"]
                write(root / "labelTxt" / part / f"{name}.txt", "\n".join([*head, *lines]))
            elif kind == "yolo" and lines:
                write(root / "labels" / part / f"{name}.txt", "\n".join(lines) + "\n")
    return root


def config(root: Path, **fields) -> DetectionData:
    options = {"classes": CLASSES, "image_size": 56, "workers": 0, "boxes": "oriented"}
    return DetectionData(root=root, **{**options, **fields})


def refused(root: Path, **fields) -> str:
    with pytest.raises(UserError) as caught:
        load_detection_parts(config(root, **fields))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence
