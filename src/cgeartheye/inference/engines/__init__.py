"""Engines of exported graphs: ONNX Runtime or OpenVINO."""

from cgeartheye.inference.engines.base import ENGINES, Engine, open_engine

__all__ = ["ENGINES", "Engine", "open_engine"]
