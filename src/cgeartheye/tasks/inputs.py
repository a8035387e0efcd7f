"""What a scene task reads: files, or features that are encoded once."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cgeartheye.backbone import Built
from cgeartheye.config import SceneClassification
from cgeartheye.data.scenes import SceneChips
from cgeartheye.tasks.scene import SceneTask
from cgeartheye.training import distributed
from cgeartheye.training.batches import derive_seed, test_order
from cgeartheye.training.features import cached
from cgeartheye.training.loop import autocast
from cgeartheye.training.progress import bar
from cgeartheye.training.sources import FeatureSource, FileSource, Source
