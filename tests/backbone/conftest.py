from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def randomise() -> Callable[[nn.Module], None]:
    """Give every parameter of a network such values that a wrong or missing one shows."""

    def randomise(module: nn.Module) -> None:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, p in module.named_parameters():
                if "token" in name or "pos" in name:
                    p.normal_(generator=generator)
                elif p.ndim > 1:
                    p.normal_(std=p[0].numel() ** -0.5, generator=generator)
                elif name.endswith("bias"):
                    p.normal_(std=0.3, generator=generator)
                else:
                    p.uniform_(0.5, 1.5, generator=generator)

    return randomise
