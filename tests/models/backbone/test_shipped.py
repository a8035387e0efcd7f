from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cgeartheye.weights
from cgeartheye.config import Backbone, Network, Normalization
from cgeartheye.jlssd.curation.backbone import read_network
from cgeartheye.models.backbone import build, convert, inspect, weights_file
from cgeartheye.models.backbone.checkpoint_io import (
    WeightsMetadata,
    fingerprint,
    read_weights,
    save_tensors,
)
from cgeartheye.models.backbone.variants import SIZES
from cgeartheye.models.backbone.vit import VisionTransformer

FACTS = WeightsMetadata(mean=(10, 20, 30), std=(1, 2, 3), gsd=0.6, image_size=56)
CARD = {"teacher": "a teacher", "licence": "Apache-2.0"}


@pytest.fixture(autouse=True)
def ships(monkeypatch, tmp_path, randomize) -> Path:
    """A stand-in, in half precision."""
    monkeypatch.setitem(SIZES, "tiny", replace(SIZES["tiny"], depth=2))
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(cgeartheye.weights, "FOLDER", folder)
    vit = VisionTransformer(SIZES["tiny"], grid=4)
    randomize(vit)
    state = {name: tensor.half() for name, tensor in vit.state_dict().items()}
    save_tensors(folder / "tiny.safetensors", state, CARD | FACTS.to_metadata())
    return folder / "tiny.safetensors"


@pytest.mark.parametrize("tuning", ["frozen", "lora", "full"])
def test_a_size_takes_the_weights_that_ship_for_it(ships, tuning):
    built = build(Backbone(name="tiny", tuning=tuning), 56)
    assert built.notes == (
        "weights of tiny that ship with cgeartheye (distilled from a teacher)",
        "normalization from the weights file",
        "gsd from the weights file",
    )
    assert (built.gsd, built.normalization.mean) == (0.6, (10, 20, 30))
    state = read_weights(ships).state
    assert built.fingerprint == fingerprint(state)
    assert built.module.cls_token.dtype == torch.float32
    assert torch.equal(built.module.cls_token, state["cls_token"].float())


def test_random_asks_for_none():
    built = build(Backbone(name="tiny", weights="random"), 56)
    assert (built.gsd, built.normalization) == (None, Normalization())
    assert built.notes == (
        "backbone.weights is random and tuning is frozen: the backbone is random and stays so",
    )


def test_others_are_random(monkeypatch):
    monkeypatch.setitem(SIZES, "small", SIZES["tiny"])
    (note,) = build(Backbone(name="small"), 56).notes
    assert note.startswith("backbone.weights is not set and tuning is frozen")
    assert weights_file(Network(name="timm/resnet18")) is None


def test_a_name_stands_for_them(ships, tmp_path, monkeypatch):
    (ships.parent / "MODEL_CARD.md").write_text("# tiny")
    found = inspect(Path("tiny"))
    assert (found["precision"], found["gsd"]) == ("float16", "0.6")
    assert found.items() >= CARD.items()
    assert found["model card"] == str(ships.parent / "MODEL_CARD.md")
    assert read_network(Path("tiny")) == Network(name="tiny")
    # A file of that name comes first.
    monkeypatch.chdir(tmp_path)
    save_tensors(Path("tiny"), read_weights(ships).state, replace(FACTS, gsd=9).to_metadata())
    assert inspect(Path("tiny"))["gsd"] == "9"
    assert read_network(Path("tiny")).weights == Path("tiny")


def test_converting_keeps_the_card(ships, tmp_path):
    converted = convert(ships, tmp_path / "mine.safetensors", WeightsMetadata(gsd=1))
    assert (converted.card, converted.facts) == (CARD, replace(FACTS, gsd=1))


def test_what_is_in_the_package_fits():
    """Of those that really ship, if there are any here."""
    for path in Path(cgeartheye.weights.__file__).parent.glob("*.safetensors"):
        weights = read_weights(path)
        assert weights.facts.mean
        assert weights.facts.gsd
        assert weights.card["teacher"]
        assert path.stat().st_size < 12e6
        assert (path.parent / "MODEL_CARD.md").is_file()
