"""Trained models as one graph, for ONNX Runtime and OpenVINO, and in fewer bits."""

from cgeartheye.export.calibration import record_windows
from cgeartheye.export.write import PRECISIONS, export_model, refuse_precision

__all__ = ["PRECISIONS", "export_model", "record_windows", "refuse_precision"]
