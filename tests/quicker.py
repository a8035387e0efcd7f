"""What makes runs in tests quicker, here and in the processes that `processes` starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest

from cgeartheye.models.backbone.variants import SIZES, Size
from cgeartheye.reports import box_charts, charts, detection

CHARTS = {
    charts: ("curves", "confusion_matrix", "reliability", "embedding"),
    box_charts: ("scores", "mean_curves", "class_curves", "stacked_bars"),
}
PICTURES = "outcome_picture", "crop_picture"


@dataclass(frozen=True)
class Ways:
    """What is in effect in a process."""

    tiny: Size
    charts: bool

    @staticmethod
    def current() -> "Ways":
        return Ways(SIZES["tiny"], charts.curves is not _no_chart)

    def apply(self) -> None:
        """Put them into effect, to the end of this process."""
        patch = pytest.MonkeyPatch()
        patch.setitem(SIZES, "tiny", self.tiny)
        if not self.charts:
            leave_charts_out(patch)


@contextmanager
def shallow_backbone(depth: int = 4) -> Iterator[None]:
    """Give `tiny` few layers, for tests of what surrounds the backbone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", replace(SIZES["tiny"], depth=depth))
        yield


def leave_charts_out(patch: pytest.MonkeyPatch) -> None:
    """Leave charts out of the reports of runs: they take as long as a small training.

    Pictures with boxes are shown without these.
    """
    for module, names in CHARTS.items():
        for name in names:
            patch.setattr(module, name, _no_chart)
    for name in PICTURES:
        patch.setattr(detection, name, lambda image, *_, **__: image)
    patch.setattr(
        charts,
        "embed",
        lambda features: (np.arange(len(features)), np.zeros((len(features), 2))),
    )


def _no_chart(*_: object, **__: object) -> str:
    return "<svg></svg>"
