"""A trained model over a scene of any size: `map_scene` reads, predicts, blends and writes."""

from cgeartheye.mapping.options import Options
from cgeartheye.mapping.rows import Detector, Predictor
from cgeartheye.mapping.run import map_scene

__all__ = ["Detector", "Options", "Predictor", "map_scene"]
