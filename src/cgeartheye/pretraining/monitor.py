"""Signs of health: kNN on a labelled set, and of a teacher that collapses."""

import math

import numpy as np
import torch

from cgeartheye.config import Normalization, SceneData
from cgeartheye.data import SceneChips, load_parts
from cgeartheye.data.transforms.image import Normalize
from cgeartheye.metrics.probes import knn_predict
from cgeartheye.pretraining.model import SSLNetwork, evaluating
from cgeartheye.training import distributed
from cgeartheye.training.loaders import FileSource
from cgeartheye.training.samplers import test_order
from cgeartheye.training.trainer import autocast

NEIGHBORS = 20

# An entropy this near to its ends, as a share of ln K, or so few dimensions, again and again.
MARGIN = 0.002
LOWEST_RANK = 1.5
PATIENCE = 20
FEW_SAMPLES = 4  # of a step fill so few dimensions anyway


def collapse(
    rank: float, entropy: float | None = None, mean_entropy: float | None = None
) -> str | None:
    """Describe how a teacher collapses, in a few words; empty if it does not.

    Args:
        rank: effective rank of the class tokens.
        entropy: mean entropy of DINO's targets, as a share of ln K, where there are any.
        mean_entropy: entropy of the mean target, as a share of ln K.
    """
    if math.isnan(rank):
        return "the teacher's features are not finite"
    if mean_entropy is not None and mean_entropy < MARGIN:
        return "the teacher gives every image the same prototype"
    if entropy is not None and entropy > 1 - MARGIN:
        return "the teacher gives every image all prototypes alike"
    if rank < LOWEST_RANK:
        return f"the teacher's features fill {rank:.1f} dimensions"
    return None


class KnnMonitor:
    """Measures a teacher by the nearest neighbours of labelled images."""

    def __init__(
        self, data: SceneData, normalization: Normalization, precision: str, device: torch.device
    ):
        """Find the images.

        Raises:
            UserError: see `load_parts`.
        """
        self._data, self._precision = data, precision
        self._normalize = Normalize(normalization.mean, normalization.std).to(device)
        self._parts = load_parts(data)
        self._device = device

    def measure(self, teacher: SSLNetwork) -> float:
        """Return the top-1 accuracy in percent of kNN from the training to the test part."""
        train, test = (self._features(teacher, p) for p in (self._parts.train, self._parts.test))
        labels, truth = (np.array(p.labels) for p in (self._parts.train, self._parts.test))
        predicted = knn_predict(train, labels, test, NEIGHBORS, len(self._parts.classes))
        return 100 * float((predicted == truth).mean())

    def _features(self, teacher: SSLNetwork, chips: SceneChips) -> np.ndarray:
        """Return class tokens `[chips, C]`, in every process."""
        rank, processes = distributed.rank(), distributed.world_size()
        orders = [
            test_order(len(chips), self._data.batch_size, r, processes) for r in range(processes)
        ]
        # Sharded processes compute together: one that has no batch left repeats a sample.
        repeats = max(map(len, orders)) - len(orders[rank])
        source = FileSource(chips, self._data.workers, self._device)
        pieces = []
        with evaluating(teacher):
            for batch in source.load(orders[rank] + [[0]] * repeats):
                with autocast(self._device, self._precision):
                    tokens = teacher.features(self._normalize(batch["image"]))
                pieces.append((batch["index"].cpu().numpy(), tokens.float().cpu().numpy()))
        everything = [piece for share in distributed.gather(pieces) for piece in share]
        features = np.empty((len(chips), everything[0][1].shape[1]), np.float32)
        for index, tokens in everything:
            features[index] = tokens
        return features
