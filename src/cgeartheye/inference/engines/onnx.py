"""ONNX Runtime on the CPU."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from cgeartheye.utils.errors import UserError


class OnnxEngine:
    """An ONNX file, opened; see `Engine`."""

    device = torch.device("cpu")

    def __init__(self, path: Path, threads: int):
        """Open a file.

        Args:
            path: of the ONNX file.
            threads: that compute.

        Raises:
            UserError: the file is damaged.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # of errors alone
        # Its threads would wait for work at full speed, and the readers have none left.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of the runtime's own kinds, which it does not document
            raise UserError(
                f"{path} cannot be opened by ONNX Runtime {onnxruntime.__version__} "
                f"({' '.join(str(error).split())[:160]}): export the run again"
            ) from error
        self._inputs = [each.name for each in self._session.get_inputs()]

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Engine`."""
        dates = np.split(images.numpy(), len(self._inputs), axis=1)
        found = self._session.run(None, dict(zip(self._inputs, dates, strict=True)))
        return tuple(torch.from_numpy(each) for each in found)
