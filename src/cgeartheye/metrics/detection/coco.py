"""Average precision of horizontal boxes as COCO has it (Lin et al. 2014), by faster-coco-eval."""

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster

from cgeartheye.boxes import areas_of, paired_intersection
from cgeartheye.metrics.detection.matching import RIGHT, UNCOUNTED, WRONG
from cgeartheye.metrics.detection.ragged import RaggedDetections

Array = np.ndarray

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_OVERLAPS = 10
_LARGEST_NUMBER = 100  # boxes of a class in an image that count, the best ones


def coco_precision(tested: RaggedDetections, classes: int) -> tuple[Array, Array]:
    """Measure horizontal boxes; ignored true ones are crowds.

    Args:
        tested: of horizontal boxes, each image's best first.
        classes: their number K.

    Returns:
        At overlaps of 0.5, 0.55, ... 0.95, 0..1 or NaN without true boxes that count: average
        precision of all sizes, then of each of `SIZES`, `[T, A, K]`; and recall `[T, K]`.
    """
    precision = np.full((_OVERLAPS, 1 + len(SIZES), classes), np.nan)
    recall = np.full((_OVERLAPS, classes), np.nan)
    # The library wants a dictionary for each box: those of one class at a time, as COCO judges
    # each class by itself, take less memory and time.
    for label in np.unique(tested.true_labels).tolist():
        true, found = tested.true_labels == label, tested.labels == label
        where, crowds = tested.true_images[true], tested.ignored[true].astype(int)
        truth = _annotated(len(tested.images), where, tested.true_boxes[true], "iscrowd", crowds)
        where, scores = tested.found_images[found], tested.scores[found]
        result = _annotated(len(tested.images), where, tested.boxes[found], "score", scores)
        evaluation = COCOeval_faster(truth, result, "bbox")
        evaluation.params.maxDets = [_LARGEST_NUMBER]
        evaluation.evaluate()
        evaluation.accumulate()
        # [T, recalls, this class, A, this number of boxes]; -1 is what is not defined.
        precision[:, :, label] = evaluation.eval["precision"][:, :, 0, :, 0].mean(1)
        recall[:, label] = evaluation.eval["recall"][:, 0, 0, 0]
    precision[precision < 0], recall[recall < 0] = np.nan, np.nan
    return precision, recall


def coco_matches(tested: RaggedDetections, label: int, where: Array, thresholds: Array) -> Array:
    """Decide which boxes of a class are right by COCO's rules, as `coco_precision` does.

    A found box takes, of the true boxes that no better box took, the one that it overlaps most
    (of equal ones the last); one that takes none and is in a crowd does not count. In an image the
    best 100 boxes count.

    Args:
        tested: of horizontal boxes, each image's best first.
        label: of the class.
        where: places of its found boxes, ascending, `[n]`.
        thresholds: of the overlap, `[T]`.

    Returns:
        `WRONG`, `RIGHT` or `UNCOUNTED`, int8 `[T, n]`.
    """
    found, true = tested.pairs
    pairs = np.flatnonzero((tested.labels[found] == label) & ~tested.ignored[true])
    found, true = np.searchsorted(where, found[pairs]), true[pairs]
    overlaps, in_crowds = tested.pair_overlaps[pairs], _in_crowds(tested, label, where)
    order = np.lexsort((-true, -overlaps, found))
    images = tested.found_images[where]
    places = np.arange(len(where)) - np.searchsorted(images, images)
    outcomes = np.full((len(thresholds), len(where)), WRONG, np.int8)
    for outcome, threshold in zip(outcomes, thresholds, strict=True):
        outcome[in_crowds >= threshold] = UNCOUNTED
        taken: set[int] = set()
        for pair in order[overlaps[order] >= threshold]:
            if outcome[found[pair]] != RIGHT and true[pair] not in taken:
                outcome[found[pair]] = RIGHT
                taken.add(true[pair])
        outcome[places >= _LARGEST_NUMBER] = UNCOUNTED
    return outcomes


def _in_crowds(tested: RaggedDetections, label: int, where: Array) -> Array:
    """Return the largest share of each found box that is in a crowd of its class, 0..1 `[n]`."""
    shares = np.zeros(len(where))
    for crowd in np.flatnonzero(tested.ignored & (tested.true_labels == label)):
        there = np.flatnonzero(tested.found_images[where] == tested.true_images[crowd])
        boxes = torch.from_numpy(tested.boxes[where[there]])
        whole = torch.from_numpy(tested.true_boxes[crowd]).expand_as(boxes)
        share = (paired_intersection(boxes, whole) / areas_of(boxes)).numpy()
        shares[there] = np.maximum(shares[there], share)
    return shares


def _annotated(number: int, images: Array, boxes: Array, mark: str, marks: Array) -> COCO:
    """Return boxes `[n, 4]` of one class, each with its image and a mark, in COCO's form."""
    corner, end = np.split(boxes.astype(np.float64), 2, axis=1)
    columns = (images, np.hstack([corner, end - corner]), (end - corner).prod(1), marks)
    annotations = [
        {"id": place, "image_id": image, "category_id": 0, "bbox": box, "area": area, mark: value}
        for place, (image, box, area, value) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True),
            start=1,  # 0 is nobody to the library
        )
    ]
    every_image = [{"id": image} for image in range(number)]
    return COCO({"images": every_image, "categories": [{"id": 0}], "annotations": annotations})
