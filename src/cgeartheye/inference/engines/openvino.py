"""OpenVINO on the CPU."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cgeartheye.utils.errors import UserError

# With this package OpenVINO and NNCF report each conversion to Google Analytics, and ask nobody.
# They do without where it cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402

__all__ = ["OpenVinoEngine", "openvino"]


class OpenVinoEngine:
    """A model of OpenVINO's, or an ONNX file, compiled for this CPU; see `Engine`."""

    device = torch.device("cpu")

    def __init__(self, path: Path, precision: str, threads: int):
        """Read and compile.

        Args:
            path: `model.xml`, beside its `model.bin`, or an ONNX file.
            precision: `bf16`, and `int8` beside its int8, compute in bfloat16 where the CPU has
                it; others in float32, as OpenVINO by itself would not.
            threads: that compute.

        Raises:
            UserError: the file is damaged.
        """
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision in ("bf16", "int8") else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self._model = openvino.Core().compile_model(path, "CPU", settings)
        except Exception as error:  # of the runtime's own kinds, which it does not document
            # Its passes for int8 differ by processor, and some fail on graphs of any batch.
            way = "export the run in fp32" if precision == "int8" else "export the run again"
            raise UserError(
                f"{path} cannot be opened by OpenVINO {openvino.__version__.split('-')[0]} "
                f"({' '.join(str(error).split())[:160]}): {way}"
            ) from error

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Engine`."""
        dates = np.split(images.numpy(), len(self._model.inputs), axis=1)
        found = self._model([np.ascontiguousarray(each) for each in dates])
        # Its buffers are used again by the next call.
        return tuple(torch.from_numpy(np.array(each)) for each in found.values())
