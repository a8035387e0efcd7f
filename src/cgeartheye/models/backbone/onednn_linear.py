"""Linear layers that are fast on every vendor's CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What torch.compile itself calls on CPUs; not in every build of PyTorch.
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
# On CPUs without AVX-512 it is no faster in inference, and slower in training.
_used = _ONEDNN and torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


def use_onednn(use: bool) -> None:
    """Choose the matrix multiplication of this process from now on, as measured.

    Args:
        use: oneDNN, if this build of PyTorch has it; else PyTorch's own choice.
    """
    global _used
    _used = use and _ONEDNN


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `x @ weight.T + bias`.

    On a CPU with AVX-512, in float32, it is oneDNN that multiplies: PyTorch would take MKL, whose
    AVX-512 kernels run on Intel's CPUs only, so that it is half as fast on others.

    Args:
        x: `[..., in]`.
        weight: `[out, in]`.
        bias: `[out]`, or none.
    """
    if (
        not _used
        or not x.is_cpu
        or not x.dtype == weight.dtype == torch.float32
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
    ):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        product: Tensor = _Linear.apply(x, weight, bias)
        return product
    return _multiply(x, weight, bias)


class Linear(nn.Linear):
    """A linear layer that multiplies by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., in]` to `[..., out]`."""
        return linear(x, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    """The product and its gradients, all three by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_x = _multiply(gradient, weight.T, None) if ctx.needs_input_grad[0] else None
        of_weight = _multiply(rows.T, x.flatten(0, -2).T, None) if ctx.needs_input_grad[1] else None
        of_bias = rows.sum(0) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product
