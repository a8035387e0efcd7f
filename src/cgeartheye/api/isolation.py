"""State that a call leaves as it was: that of the generators of random numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_random_state() -> Iterator[None]:
    """Save the states of torch's generators before a block and restore them after it."""
    begun = torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if begun else ()):
        yield
    if not begun and torch.cuda.is_initialized():
        # Nothing has been drawn from them before, so the seed that the CPU began with is theirs.
        torch.cuda.manual_seed_all(torch.initial_seed())
