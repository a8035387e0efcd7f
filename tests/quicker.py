"""What makes runs in tests quicker, here and in the processes that `processes` starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest

from cgeartheye.models.backbone.variants import SIZES, Size
from cgeartheye.reports import box_charts, charts

CHARTS = {
    charts: ("curves", "confusion_matrix", "reliability", "embedding"),
    box_charts: ("scores", "mean_curves", "class_curves", "stacked_bars"),
}


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
def shallow_backbone() -> Iterator[None]:
    """Give `tiny` four layers, for tests of what surrounds the backbone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", replace(SIZES["tiny"], depth=4))
        yield


def leave_charts_out(patch: pytest.MonkeyPatch) -> None:
    """Leave charts out of the reports of runs: they take as long as a small training."""
    for module, names in CHARTS.items():
        for name in names:
            patch.setattr(module, name, _no_chart)
    patch.setattr(
        charts,
        "embed",
        lambda features: (np.arange(len(features)), np.zeros((len(features), 2))),
    )


def _no_chart(*_: object, **__: object) -> str:
    return "<svg></svg>"
