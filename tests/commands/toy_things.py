"""Images of bars in three colours at any angle, with their boxes in DIOR-R's layout and COCO's."""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("red", "blue", "white")
COLORS = ((210, 60, 50), (60, 80, 200), (230, 230, 230))
SIDES = ("left_top", "right_top", "right_bottom", "left_bottom")


def draw_things(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """An image uint8 `[H, W, 3]`, corners `[n, 4, 2]` of what it shows, and the classes."""
    random = np.random.default_rng(seed)
    ground = random.normal(110, 12, (height, width, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(ground)
    canvas = ImageDraw.Draw(image)
    centers: list[np.ndarray] = []
    corners, labels = [], []
    for _ in range(random.integers(2, 5)):
        center = random.uniform((20, 20), (width - 20, height - 20))
        if any(np.hypot(*(center - other)) < 34 for other in centers):
            continue
        centers.append(center)
        half = random.uniform(10, 17) * np.array([1, random.uniform(0.3, 0.6)])
        angle, label = random.uniform(0, math.pi), int(random.integers(3))
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        box = center + np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half @ turn
        canvas.polygon([tuple(point) for point in box], fill=COLORS[label])
        corners.append(box)
        labels.append(label)
    return np.array(image), np.array(corners), labels


def write_things(root: Path, part: str, images: dict[str, tuple[int, int, int]]) -> None:
    """Write a part: for each name a seed, rows and columns."""
    boxes = root / "Annotations" / "Oriented Bounding Boxes"
    for folder in (root / "images" / part, boxes):
        folder.mkdir(parents=True, exist_ok=True)
    coco: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    coco["categories"] = [{"id": n + 1, "name": name} for n, name in enumerate(CLASSES)]
    for number, (name, (seed, height, width)) in enumerate(images.items()):
        image, corners, labels = draw_things(seed, height, width)
        Image.fromarray(image).save(root / "images" / part / f"{name}.png")
        size = {"width": width, "height": height}
        coco["images"].append({"id": number, "file_name": f"{name}.png", **size})
        objects = []
        for box, label in zip(corners, labels, strict=True):
            points = "".join(
                f"<{axis}_{side}>{value:.2f}</{axis}_{side}>"
                for side, point in zip(SIDES, box, strict=True)
                for axis, value in zip("xy", point, strict=True)
            )
            objects.append(
                f"<object><name>{CLASSES[label]}</name><difficult>0</difficult>"
                f"<robndbox>{points}</robndbox></object>"
            )
            low, high = box.min(0), box.max(0)
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [*low, *(high - low)],
                    "segmentation": [box.flatten().tolist()],
                    "iscrowd": 0,
                    "area": float(np.prod(high - low)),
                }
            )
        (boxes / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.png</filename><size><width>{width}</width>"
            f"<height>{height}</height><depth>3</depth></size>{''.join(objects)}</annotation>"
        )
    (root / "Annotations" / f"{part}.json").write_text(json.dumps(coco))
