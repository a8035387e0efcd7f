"""The windows that int8 is calibrated with, and how far its predictions agree with float32's."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from cgeartheye.boxes import Detections, overlap
from cgeartheye.tasks.inputs import Input
from cgeartheye.tasks.pipeline import TaskPipeline

IMAGES = 200  # that are looked at, evenly spaced
WINDOWS = 256  # that are kept of them
_SURE = 0.3  # score of a box that counts
_SAME = 0.5  # IoU of boxes of one object


class _Recorder:
    """Stands where an engine does: computes the task's own graph, and keeps what it sees."""

    device = torch.device("cpu")

    def __init__(self, task: Any):
        self._task, self.seen = task, list[Tensor]()
        self._count, self._step = 0, 1

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        for image in images:
            if self._count % self._step == 0:
                self.seen.append(image.clone())
            self._count += 1
            if len(self.seen) > WINDOWS:  # every second of those so far, and of those to come
                self.seen, self._step = self.seen[::2], 2 * self._step
        outputs: tuple[Tensor, ...] = self._task.graph(images)
        return outputs


def record_windows(pipeline: TaskPipeline, task: Any, inputs: Sequence[Input]) -> Tensor:
    """Return windows as the network sees them when it predicts images.

    Args:
        pipeline: of the task.
        task: on the CPU.
        inputs: images, or pairs of them.

    Returns:
        uint8 `[N, 3, S, S]`, of two dates `[N, 6, S, S]`: 256 at most, evenly spaced.
    """
    task.engine = recorder = _Recorder(task)
    try:
        step = max(1, -(-len(inputs) // IMAGES))
        for _ in pipeline.predict(task, inputs[::step][:IMAGES]):
            pass
    finally:
        task.engine = None
    return torch.stack(recorder.seen)


@torch.inference_mode()
def agreement(task: Any, other: Any, windows: Tensor) -> float:
    """Return how far two models predict the same.

    Args:
        task: with the float32 model.
        other: the same task with an engine.
        windows: uint8 `[N, C, S, S]`.

    Returns:
        Share of the pixels, or of the images, that get the same class; of boxes twice those that
        both find over all that either finds. 0..1; 1 where there is nothing to find.
    """
    same = total = 0
    for some in windows.split(8):
        for one, two in zip(_answers(task, some), _answers(other, some), strict=True):
            if isinstance(one, Detections):
                same += 2 * _shared(one, two)
                total += len(one.scores) + len(two.scores)
            else:
                same += int((one == two).sum())
                total += one.numel()
    return same / total if total else 1.0


def _answers(task: Any, windows: Tensor) -> Iterator[Any]:
    if hasattr(task, "predict_windows"):
        for found in task.predict_windows(windows):
            yield found[found.scores >= _SURE]
    else:
        yield task.outputs(windows)[0].argmax(1)


def _shared(one: Detections, two: Detections) -> int:
    """Boxes of `one` that `two` has too, each of which counts once."""
    if not len(one.scores) or not len(two.scores):
        return 0
    ious = overlap(one.boxes, two.boxes)
    ious *= one.labels[:, None] == two.labels
    count = 0
    for row in one.scores.argsort(descending=True).tolist():
        best = int(ious[row].argmax())
        if ious[row, best] >= _SAME:
            ious[:, best] = 0
            count += 1
    return count
