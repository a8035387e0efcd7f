"""The weights of tiny that ship with the package."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cgeartheye.config import Backbone
from cgeartheye.data import read_image
from cgeartheye.data.transforms.image import Normalize
from cgeartheye.metrics.probes import linear_probe
from cgeartheye.models.backbone import VisionTransformer, build
from cgeartheye.models.backbone.checkpoint_io import read_weights
from cgeartheye.models.backbone.conversion import inspect
from cgeartheye.weights import CARD, FOLDER, shipped

UCMERCED = Path(__file__).parents[4] / "shared" / "data" / "UCMerced"


def test_they_are_small_and_say_what_they_are() -> None:
    path = shipped("tiny")
    assert path is not None
    assert path.stat().st_size < 12e6
    weights = read_weights(path)
    assert {tensor.dtype for tensor in weights.state.values()} == {torch.float16}
    assert weights.facts.mean is not None
    assert weights.facts.gsd == 0.6
    assert {"teacher", "images", "recipe"} <= weights.card.keys()
    assert inspect(Path("tiny"))["model card"] == str(FOLDER / CARD)


def test_a_tiny_network_takes_them() -> None:
    built = build(Backbone(name="tiny"), 98)
    assert isinstance(built.module, VisionTransformer)
    assert "ship with cgeartheye" in built.notes[0]
    assert built.gsd == 0.6


@pytest.mark.skipif(not UCMERCED.is_dir(), reason=f"UC Merced is not at {UCMERCED}")
def test_unseen_classes_of_land_use_are_separated() -> None:
    built = build(Backbone(name="tiny"), 98)
    normalize = Normalize(built.normalization.mean, built.normalization.std)
    features, labels = [], []
    for label, folder in enumerate(sorted(UCMERCED.iterdir())):
        images = [read_image(path)[None] for path in sorted(folder.glob("*.jpg"))[::2]]
        squares = [F.interpolate(i, (98, 98), mode="bilinear", antialias=True) for i in images]
        with torch.no_grad():
            features.append(built.module(normalize(torch.cat(squares)))[0].numpy())
        labels += [label] * len(images)
    tokens, truth = np.concatenate(features), np.array(labels)
    tested = np.arange(len(truth)) % 5 == 0
    probe = linear_probe(tokens[~tested], truth[~tested])
    accuracy = (probe.predict(tokens[tested]) == truth[tested]).mean()
    assert accuracy > 0.65  # of 40 images a class; random weights reach 0.3
