"""The command line, for what the API must agree with."""

import pytest
import torch

from cgeartheye.cli import main


def command(*arguments: object) -> None:
    """Run a command that must end well; it may draw random numbers, which the API may not."""
    with torch.random.fork_rng(), pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert not caught.value.code
