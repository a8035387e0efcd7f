"""Linear layers that are fast on every vendor's CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What torch.compile itself calls on CPUs; not in every build of PyTorch.
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `x @ weight.T + bias`.

    Without gradients, on a CPU, in float32 it is oneDNN that multiplies: PyTorch would take MKL,
    whose AVX-512 kernels run on Intel's CPUs only, so that it is half as fast on others.

    Args:
        x: `[..., in]`.
        weight: `[out, in]`.
        bias: `[out]`, or none.
    """
    if (
        _ONEDNN
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    ):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """A linear layer that multiplies by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., in]` to `[..., out]`."""
        return linear(x, self.weight, self.bias)
