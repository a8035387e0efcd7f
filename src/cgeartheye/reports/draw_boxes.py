"""Pictures with boxes, horizontal and oriented."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from cgeartheye.boxes import Detections, corners_of, from_horizontal, horizontal_of
from cgeartheye.metrics.detection.errors import KINDS, BoxErrors, Kind
from cgeartheye.reports.charts import COLORS
from cgeartheye.reports.examples import Color
from cgeartheye.utils.colors import distinct_colors
from cgeartheye.utils.fonts import font_for, writable

Array = np.ndarray

PANEL = 960  # pixels of the longer side of a report's picture
LEAST = 480  # the least of other pictures; on smaller ones names would hide the image
CROP = 300  # pixels a side of a crop
_FINE = 2  # lines are drawn so many times larger, then reduced
_REPORT_PEN = 3  # pixels; pictures of a report are shown at half their size

# The colors of dark paper: light enough for imagery.
KIND_COLORS: Mapping[Kind, Color] = {
    Kind.RIGHT: ImageColor.getrgb(COLORS["green"][1])[:3],
    Kind.CLASS: ImageColor.getrgb(COLORS["purple"][1])[:3],
    Kind.PLACE: ImageColor.getrgb(COLORS["blue"][1])[:3],
    Kind.DUPLICATE: (255, 222, 60),
    Kind.BACKGROUND: ImageColor.getrgb(COLORS["orange"][1])[:3],
}
MISSED: Color = (255, 255, 255)
LEGEND = {KINDS[kind]: color for kind, color in KIND_COLORS.items()} | {"missed (dashed)": MISSED}


@dataclass(frozen=True)
class Drawn:
    """Boxes of one look.

    Attributes:
        boxes: `[n, 4]` or `[n, 5]`, in pixels of the image.
        colors: n of them.
        texts: written at the boxes, n of them; an empty one is not written.
        dashed: how the lines are.
    """

    boxes: Tensor
    colors: Sequence[Color]
    texts: Sequence[str]
    dashed: bool = False


def draw_boxes(image: Array, layers: Sequence[Drawn], pen: int = 2) -> Array:
    """Draw boxes into an image.

    Args:
        image: uint8 `[H, W, 3]`.
        layers: boxes, the last on top.
        pen: width of the lines in pixels; letters and dashes go by it.

    Returns:
        uint8 `[H, W, 3]`.
    """
    height, width = image.shape[:2]
    sheet = Image.new("RGBA", (width * _FINE, height * _FINE))
    paper = ImageDraw.Draw(sheet)
    outlines = [
        (outline, color, text, layer.dashed)
        for layer in layers
        for outline, color, text in zip(
            _outlines(layer.boxes).tolist(), layer.colors, layer.texts, strict=True
        )
    ]
    for outline, color, _, dashed in outlines:
        points = [(x * _FINE, y * _FINE) for x, y in outline]
        lines = _dashes(points, 4 * pen * _FINE) if dashed else [[*points, *points[:2]]]
        # A dark edge keeps the line visible on bright ground.
        for ink, line_width in (((0, 0, 0, 150), pen + 2), ((*color, 255), pen)):
            for line in lines:
                paper.line(line, fill=ink, width=line_width * _FINE, joint="curve")
    # Where names would overlap those of the upper layers stay: in a crowd all of them
    # would hide it.
    written: list[_Area] = []
    for outline, color, text, dashed in reversed(outlines):
        if text:
            # What is found is named above, what was missed below: they often overlap.
            font = font_for(text, 6 * pen * _FINE)
            area = _area_of(paper, font, outline, text, below=dashed)
            if not any(_overlap(area, other) for other in written):
                _write(paper, font, area, color, text)
                written.append(area)
    sheet = sheet.resize((width, height), Image.Resampling.BOX)
    return np.asarray(Image.alpha_composite(Image.fromarray(image).convert("RGBA"), sheet))[..., :3]


def draw_found(image: Array, preds: Detections, classes: Sequence[str]) -> Array:
    """Draw what was found into an image: each class in a color, with its name and the score.

    Args:
        image: uint8 `[H, W, 3]`.
        preds: in pixels of the image.
        classes: names by index; see `writable`.

    Returns:
        uint8 `[n * H, n * W, 3]`: enlarged as often as its longer side has `LEAST` pixels.
    """
    factor = math.ceil(LEAST / max(image.shape[:2]))
    labels = preds.labels.tolist()
    palette = distinct_colors(len(classes))
    shown = writable(classes)
    texts = [
        f"{shown[label]} {score:.2f}"
        for label, score in zip(labels, preds.scores.tolist(), strict=True)
    ]
    colors = [palette[label] for label in labels]
    # The best one comes on top.
    order = list(range(len(labels)))[::-1]
    boxes = _moved(preds.boxes.cpu().flip(0), factor, (0.0, 0.0))
    return draw_boxes(
        _resized(image, factor),
        [Drawn(boxes, [colors[i] for i in order], [texts[i] for i in order])],
    )


def outcome_picture(image: Array, errors: BoxErrors, place: int, classes: Sequence[str]) -> Array:
    """Draw what is right, what is wrong and what was missed in an image.

    Args:
        image: uint8 `[H, W, 3]`; brought to `PANEL` pixels.
        errors: of all images.
        place: of the image among those of `errors.metrics.tested`.
        classes: names by index, written where a box is not right.

    Returns:
        uint8 `[h, w, 3]`.
    """
    scale = PANEL / max(image.shape[:2])
    tested = errors.metrics.tested
    layers = _layers(errors, tested.found_of(place), tested.true_of(place), classes)
    moved = [Drawn(_moved(x.boxes, scale, (0.0, 0.0)), x.colors, x.texts, x.dashed) for x in layers]
    return draw_boxes(_resized(image, scale), moved, _REPORT_PEN)


def crop_picture(
    image: Array, box: Tensor, color: Color, true: Tensor | None, dashed: bool
) -> Array:
    """Cut a box with its surroundings out of an image.

    Args:
        image: uint8 `[H, W, 3]`.
        box: `[4]` or `[5]`.
        color: of the box.
        true: the true box that it is about, drawn dashed; or none.
        dashed: whether the box itself is drawn so.

    Returns:
        uint8 `[CROP, CROP, 3]`; black past the image.
    """
    x0, y0, x1, y1 = (box if len(box) == 4 else horizontal_of(box)).tolist()
    side = max(48.0, 1.8 * (x1 - x0), 1.8 * (y1 - y0))
    # Within the image, as far as it goes.
    left, top = (
        min(max((low + high - side) / 2, 0.0), max(0.0, end - side))
        for low, high, end in ((x0, x1, image.shape[1]), (y0, y1, image.shape[0]))
    )
    window = Image.fromarray(image).transform(
        (CROP, CROP),
        Image.Transform.EXTENT,
        (left, top, left + side, top + side),
        Image.Resampling.BICUBIC,
    )
    layers = [] if true is None else [Drawn(true[None], [MISSED], [""], dashed=True)]
    layers.append(Drawn(box[None], [color], [""], dashed))
    moved = [
        Drawn(_moved(x.boxes, CROP / side, (left, top)), x.colors, x.texts, x.dashed)
        for x in layers
    ]
    return draw_boxes(np.asarray(window), moved, _REPORT_PEN)


def _layers(errors: BoxErrors, preds: slice, true: slice, classes: Sequence[str]) -> list[Drawn]:
    """Return the boxes of an image that are shown, errors on top."""
    tested = errors.metrics.tested
    shown = writable(classes)
    layers = []
    for kind in Kind:
        which = np.flatnonzero(errors.kinds[preds] == kind)
        names = [shown[label] for label in tested.labels[preds][which]]
        layers.append(
            Drawn(
                torch.from_numpy(tested.boxes[preds][which]),
                [KIND_COLORS[kind]] * len(which),
                [""] * len(which) if kind == Kind.RIGHT else names,
            )
        )
    which = np.flatnonzero(errors.missed[true])
    names = [shown[label] for label in tested.true_labels[true][which]]
    boxes = torch.from_numpy(tested.true_boxes[true][which])
    return [*layers, Drawn(boxes, [MISSED] * len(which), names, dashed=True)]


def _resized(image: Array, scale: float) -> Array:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def _moved(boxes: Tensor, scale: float, origin: tuple[float, float]) -> Tensor:
    """Return boxes of either kind in the pixels of a window."""
    shift = torch.tensor(origin)
    if boxes.shape[1] == 4:
        return (boxes - shift.repeat(2)) * scale
    return torch.cat([(boxes[:, :2] - shift) * scale, boxes[:, 2:4] * scale, boxes[:, 4:]], dim=1)


def _outlines(boxes: Tensor) -> Tensor:
    """Return the corners of boxes of either kind, `[n, 4, 2]`."""
    return corners_of(from_horizontal(boxes) if boxes.shape[1] == 4 else boxes)


def _dashes(
    points: Sequence[tuple[float, float]], length: float
) -> list[list[tuple[float, float]]]:
    """Cut the sides of a polygon into dashes of a length, with gaps of three quarters of it."""
    dashes = []
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        whole = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
        for start in np.arange(0.0, whole, 1.75 * length):
            ends = start / whole, min(whole, start + length) / whole
            dashes.append([(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t) for t in ends])
    return dashes


_Area = tuple[float, float, float, float]  # left, top, right, bottom


def _area_of(
    paper: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    outline: Sequence[Sequence[float]],
    text: str,
    below: bool,
) -> _Area:
    """Return the place of a name, above the top corner of a box or below the lowest."""
    corners = sorted((y * _FINE, x * _FINE) for x, y in outline)
    y, x = corners[-1 if below else 0]
    left, top, right, bottom = paper.textbbox((0, 0), text, font)
    width, height = right - left + 4 * _FINE, bottom - top + 4 * _FINE
    x = min(max(x, 0), max(0, paper.im.size[0] - width))
    y = min(max(y if below else y - height, 0), max(0, paper.im.size[1] - height))
    return x, y, x + width, y + height


def _overlap(one: _Area, other: _Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _write(
    paper: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    area: _Area,
    color: Color,
    text: str,
) -> None:
    left, top, *_ = paper.textbbox((0, 0), text, font)
    paper.rectangle(area, fill=(*color, 215))
    start = area[0] + 2 * _FINE - left, area[1] + 2 * _FINE - top
    paper.text(start, text, fill=(0, 0, 0, 255), font=font)
