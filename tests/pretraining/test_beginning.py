import sys
from pathlib import Path

from cgeartheye.config import Backbone
from cgeartheye.models.backbone import SIZES, build
from cgeartheye.models.backbone.checkpoint_io import WeightsMetadata, save_tensors
from cgeartheye.pretraining.trainer import build_branch

sys.path.insert(0, str(Path(__file__).parent))
from toy_pretraining import SIZE, toy_config


def test_weights_that_ship_are_not_taken_unasked(tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", SIZE)
    config = toy_config(tmp_path)
    before = build_branch(config)[1].fingerprint
    facts = WeightsMetadata((1, 2, 3), (1, 2, 3), 0.6)
    state = build(Backbone(name="tiny", weights="random"), 28).module.state_dict()
    save_tensors(tmp_path / "tiny.safetensors", state, facts.to_metadata())
    monkeypatch.setattr("cgeartheye.weights.FOLDER", tmp_path)
    assert build(Backbone(name="tiny"), 28).gsd == 0.6
    _, built = build_branch(config)
    assert (built.fingerprint, built.gsd) == (before, 1.0)
