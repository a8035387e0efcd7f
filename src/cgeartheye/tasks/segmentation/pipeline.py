"""Pipeline of a segmenter: it is built, fed, tested and used."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from cgeartheye.config import Normalization, SegmentationData, SemanticSegmentation
from cgeartheye.data import Legend, SegmentationParts, load_segmentation_parts
from cgeartheye.data.checks.findings import CheckResult
from cgeartheye.data.checks.segmentation import check_masks
from cgeartheye.data.formats.masks import make_legend
from cgeartheye.metrics.classification import ConfusionMatrix
from cgeartheye.reports.examples import Example
from cgeartheye.reports.segmentation import four_panels, segmentation_report
from cgeartheye.tasks.dense.pipeline import DensePipeline
from cgeartheye.tasks.inputs import Input, find_inputs, load_image
from cgeartheye.utils.errors import UserError


class SegmentationPipeline(DensePipeline):
    """See `TaskPipeline`."""

    config: SemanticSegmentation
    images = ("image",)

    def __init__(self, config: SemanticSegmentation):
        self.config = config

    @cached_property
    def parts(self) -> SegmentationParts:
        """The images and masks of each part."""
        return load_segmentation_parts(self.config.data)

    @property
    def legend(self) -> Legend:
        """The classes of the data, and how its masks encode them."""
        return make_legend(self.config.data)

    def published_decoder(
        self, path: Path, tensors: Mapping[str, Tensor], classes: int
    ) -> dict[str, Tensor]:
        """See `TaskPipeline`; UPerNet and its auxiliary head have mmsegmentation's names."""
        heads = ["neck.", "decode_head."]
        if self.config.decoder.auxiliary:
            heads.append("auxiliary_head.")
        state = {name: t for name, t in tensors.items() if name.startswith(tuple(heads))}
        last = state.get("decode_head.conv_seg.weight")
        if last is None or self.config.decoder.kind != "upernet":
            raise UserError(
                f"{path} holds no UPerNet (neck, decode_head) for decoder.kind=upernet: name a run "
                "directory, or train with backbone.weights set to this file"
            )
        if len(last) != classes:
            raise UserError(
                f"{path} knows {len(last)} classes, the data in {self.config.data.root} have "
                f"{classes}: test it on the data that it was trained on"
            )
        return state

    def find(self, inputs: list[Path]) -> list[Input]:
        """Return images."""
        return find_inputs(inputs)

    def unlabeled(self, inputs: Sequence[Input]) -> Dataset[dict[str, Any]]:
        """Return images without masks."""
        return _Images(inputs, self.config.data)

    def panels(self, example: Example) -> np.ndarray:
        """Draw image, truth, prediction and errors side by side."""
        return four_panels(example, self.legend.colors)

    def score(self, confusion: ConfusionMatrix) -> float:
        """Return the mean IoU of an image."""
        return confusion.mean_iou

    @property
    def write_report(self) -> Callable[..., None]:
        """Return the function that writes `report.html`."""
        return partial(segmentation_report, colors=self.legend.colors)

    def check(self, normalization: Normalization, progress: Any) -> CheckResult:
        """Examine the data."""
        return check_masks(self.config.data, normalization, progress)


class _Images(Dataset[dict[str, Any]]):
    """Images without masks."""

    def __init__(self, inputs: Sequence[Input], data: SegmentationData):
        self._inputs, self._data = inputs, data

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (file,) = self._inputs[index].images
        image = load_image(file, self._data.bands, self._data.stretch)
        return {"image": image, "index": index}
