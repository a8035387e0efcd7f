"""A `tiny` of four layers, for tests of what surrounds the backbone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from cgeartheye.models.backbone.variants import SIZES


@contextmanager
def shallow_backbone() -> Iterator[None]:
    """Give `tiny` four layers, here and in what `processes` starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", replace(SIZES["tiny"], depth=4))
        yield
