import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

# The peers that the benchmarks measure are those that the tests compare with.
sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))


@pytest.fixture
def randomize() -> Callable[[nn.Module], None]:
    """Give every parameter of a network such values that a wrong or missing one shows."""
    from backbone_peers import randomize

    return randomize
