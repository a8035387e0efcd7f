"""The interface of the engines, and which there are."""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from cgeartheye.utils.errors import UserError

ENGINES = ("torch", "onnx", "openvino")


class Engine(Protocol):
    """Computes an exported graph."""

    @property
    def device(self) -> torch.device:
        """Device of its inputs and outputs."""

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute.

        Args:
            images: uint8 `[B, 3, S, S]`; of two dates `[B, 6, S, S]`.

        Returns:
            The outputs of the graph, float32, in their order.
        """


def open_engine(kind: str, path: Path, precision: str, threads: int | None = None) -> Engine:
    """Open an exported graph.

    Args:
        kind: `onnx` or `openvino`; the latter opens ONNX files too.
        path: `model.onnx` or `model.xml`.
        precision: that it was exported with, see `OpenVinoEngine`.
        threads: that compute; none: as many as PyTorch has.

    Raises:
        UserError: the engine is not installed, or the file is damaged.
    """
    count = threads or torch.get_num_threads()
    try:
        if kind == "onnx":
            from cgeartheye.inference.engines.onnx import OnnxEngine

            return OnnxEngine(path, count)
        from cgeartheye.inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(path, precision, count)
    except ImportError as error:
        raise missing_extra(kind) from error


def missing_extra(kind: str) -> UserError:
    """Return the error of a kind of export whose libraries are not installed."""
    return UserError(
        f"{kind} needs libraries that are not installed: pip install 'cgeartheye[{kind}]'"
    )
