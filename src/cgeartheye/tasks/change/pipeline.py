"""Pipeline of a detector of change: it is built, fed, tested and used."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from cgeartheye.config import ChangeData, ChangeDetection, Normalization
from cgeartheye.data import ChangeParts, Legend, load_change_parts, refuse_other_size
from cgeartheye.data.checks.change import check_pairs
from cgeartheye.data.checks.findings import CheckResult
from cgeartheye.data.formats.masks import change_legend
from cgeartheye.metrics.classification import ConfusionMatrix, changed_iou
from cgeartheye.reports.change import change_panels, change_report
from cgeartheye.reports.examples import Example
from cgeartheye.tasks.dense.pipeline import DensePipeline
from cgeartheye.tasks.inputs import Input, find_images, load_image
from cgeartheye.utils.errors import UserError


class ChangePipeline(DensePipeline):
    """See `TaskPipeline`."""

    config: ChangeDetection
    images = ("image1", "image2")

    def __init__(self, config: ChangeDetection):
        self.config = config

    @cached_property
    def parts(self) -> ChangeParts:
        """The pairs and masks of each part."""
        return load_change_parts(self.config.data)

    @property
    def legend(self) -> Legend:
        """The classes, and how masks encode them."""
        return change_legend(self.config.data)

    def published_decoder(
        self, path: Path, tensors: Mapping[str, Tensor], classes: int
    ) -> dict[str, Tensor]:
        """See `TaskPipeline`; BAN has Open-CD's names behind `decode_head.`."""
        prefix = "decode_head."
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        if not state or self.config.decoder.kind != "ban":
            raise UserError(
                f"{path} holds no BAN (decode_head) for decoder.kind=ban: name a run directory, or "
                "train with backbone.weights set to this file"
            )
        return state

    def find(self, inputs: list[Path]) -> list[Input]:
        """Return pairs.

        Raises:
            UserError: not two inputs, two files of which one is none, or images without a partner.
        """
        if len(inputs) != 2:
            raise UserError("change needs two inputs: the image or folder of each date")
        before, after = (find_images([path]) for path in inputs)
        if all(path.is_file() for path in inputs):
            return [Input((inputs[0], inputs[1]), inputs[1].name)]
        of_stem = {str(Path(name).with_suffix("")): path for path, name in after.items()}
        pairs = []
        for path, name in before.items():
            partner = of_stem.pop(str(Path(name).with_suffix("")), None)
            if partner is None:
                raise UserError(f"{path} has no image of its name in {inputs[1]}: add it")
            pairs.append(Input((path, partner), name))
        if of_stem:
            alone = next(iter(of_stem.values()))
            raise UserError(f"{alone} has no image of its name in {inputs[0]}: add it")
        return pairs

    def unlabeled(self, inputs: Sequence[Input]) -> Dataset[dict[str, Any]]:
        """Return pairs without masks."""
        return _Pairs(inputs, self.config.data)

    def panels(self, example: Example) -> np.ndarray:
        """Draw before, after, truth and prediction side by side."""
        return change_panels(example)

    def score(self, confusion: ConfusionMatrix) -> float:
        """Return the IoU of changed in a pair."""
        return changed_iou(confusion)

    @property
    def write_report(self) -> Callable[..., None]:
        """Return the function that writes `report.html`."""
        return change_report

    def check(self, normalization: Normalization, progress: Any) -> CheckResult:
        """Examine the data."""
        return check_pairs(self.config.data, normalization, progress)


class _Pairs(Dataset[dict[str, Any]]):
    """Pairs without masks."""

    def __init__(self, inputs: Sequence[Input], data: ChangeData):
        self._inputs, self._data = inputs, data

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair, data = self._inputs[index], self._data
        before, after = (load_image(file, data.bands, data.stretch) for file in pair.images)
        first, second = pair.image_names
        refuse_other_size(first, second, (before, after))
        return {"image1": before, "image2": after, "index": index}
