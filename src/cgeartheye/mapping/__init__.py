"""A trained model over a scene of any size: `map_scene` reads, predicts, blends and writes."""

from cgeartheye.mapping.rows import Predictor
from cgeartheye.mapping.run import Options, map_scene

__all__ = ["Options", "Predictor", "map_scene"]
