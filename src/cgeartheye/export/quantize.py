"""int8 by post-training quantization.

OpenVINO's graph gets fixed ranges of activations, which NNCF measures with windows. ONNX Runtime
measures them anew for each batch (dynamic quantization): with fixed ranges it took no less time
than in float32, on an Intel Xeon with VNNI. So the windows only measure whether its results are
good enough.
"""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor


def quantize_openvino(model: Any, windows: Tensor) -> Any:
    """Return a model of OpenVINO's whose matrix products and convolutions are int8.

    Args:
        model: float32; its inputs are the dates of the windows.
        windows: uint8 `[N, C, S, S]`, to measure the ranges of activations with.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    count = len(model.inputs)
    samples = [tuple(date.numpy() for date in one[None].chunk(count, 1)) for one in windows]
    return nncf.quantize(
        model,
        nncf.Dataset(samples if count > 1 else [sample[0] for sample in samples]),
        subset_size=len(samples),
        model_type=nncf.ModelType.TRANSFORMER,  # attention's scores and norms stay as they are
    )


def quantize_onnx(source: Path, path: Path) -> None:
    """Write an ONNX file whose matrix products are int8.

    Args:
        source: float32.
        path: of the new file.
    """
    from onnxruntime.quantization import quantize_dynamic

    # With 8 bits of the weights, sums of products overflow on CPUs without VNNI.
    quantize_dynamic(source, path, per_channel=True, reduce_range=True)
