"""Old names of fields: every one of them still means what it meant."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

import cgeartheye.config as config_module
from cgeartheye.config import Config, PretrainingSchedule, Training, load, renamed, section, to_yaml
from cgeartheye.config.base import Section
from cgeartheye.training.optimizer import scheduled_lr
from cgeartheye.utils.errors import UserError

# What a section needs, and other values than the defaults where these would show nothing.
NEEDED: dict[str, dict[str, Any]] = {
    "MaskedData": {"root": "x"},
    "SegmentationData": {"root": "x", "classes": ["a", "b"]},
    "ChangeData": {"root": "x"},
    "DetectionData": {"root": "x"},
    "Network": {"name": "tiny"},
    "Backbone": {"name": "tiny"},
    "ObjectDetection": {"backbone": {"name": "tiny"}, "data": {"root": "x"}},
    "PretrainingData": {"store": "x"},
    "Pretraining": {"backbone": {"name": "tiny", "gsd": 1.0}, "data": {"store": "x"}},
    "PlaceDesign": {"regions": "x", "landcover": ["x"], "elevation": ["x"], "num_places": 5},
    "Curation": {"backbone": {"name": "tiny"}, "num_places": 5},
    "Jlssd": {
        "license": "MIT",
        "design": {"regions": "x", "landcover": ["x"], "elevation": ["x"], "num_places": 5},
        "cut": {"mosaics": {"spring": ["x"]}},
        "curation": {"backbone": {"name": "tiny"}, "num_places": 5},
    },
}
OTHERS: dict[str, Any] = {
    "colors": [[1, 2, 3], [4, 5, 6]],
    "unlabeled": [9],
    "mask_suffix": "_m",
    "normalization": {"mean": [1, 2, 3], "std": [4, 5, 6]},
    "base_batch_size": 48,
    "preload": "memory",
    "centering": "sinkhorn",
    "online_knn": {"data": {"root": "x"}},
    "license": "other",
}


def sections() -> dict[str, type[Section]]:
    found: list[type[Section]] = [Section]
    for kind in found:  # grows while it is read
        found += kind.__subclasses__()
    return {kind.__name__: kind for kind in found}


SECTIONS = sections()
RENAMES = [
    (kind, old, new)
    for kind in SECTIONS.values()
    for base in kind.__mro__
    for old, new in renamed.FIELDS.get(base.__name__, {}).items()
]


def another(kind: type[Section], field: str) -> Any:
    """A value of a field that is not its default."""
    default = kind.model_fields[field].get_default()
    if field in OTHERS:
        return OTHERS[field]
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return "_x"
    return default / 2 if isinstance(default, float) else 3


@pytest.fixture(autouse=True)
def nothing_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "_warned", set())


def test_the_tables_name_sections_and_their_fields() -> None:
    assert set(renamed.FIELDS) <= set(SECTIONS)
    for kind, old, new in RENAMES:
        assert new in kind.model_fields, (kind, new)
        assert old not in kind.model_fields, (kind, old)
    for name, fields in renamed.VALUES.items():
        assert set(fields) <= set(SECTIONS[name].model_fields)


@pytest.mark.parametrize(("kind", "old", "new"), RENAMES, ids=lambda x: getattr(x, "__name__", x))
def test_an_old_field_is_the_new_one(
    kind: type[Section], old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    needed, value = NEEDED.get(kind.__name__, {}), another(kind, new)
    rest = {name: given for name, given in needed.items() if name != new}
    expected = kind.model_validate(rest | {new: value})
    assert capsys.readouterr().out == ""
    assert kind.model_validate(rest | {old: value}) == expected
    assert expected.model_dump()[new] != kind.model_fields[new].get_default()
    output = capsys.readouterr().out
    assert output.count("warning") == 1
    assert old in output
    assert new in output
    kind.model_validate(rest | {old: value})
    assert capsys.readouterr().out == ""  # once is enough
    with pytest.raises(ValidationError, match=f"{new} is set twice, also as {old}"):
        kind.model_validate(rest | {old: value, new: value})


@pytest.mark.parametrize(
    ("kind", "field", "old", "new"),
    [
        (kind, field, old, new)
        for kind, fields in renamed.VALUES.items()
        for field, values in fields.items()
        for old, new in values.items()
    ],
)
def test_an_old_value_is_the_new_one(kind: str, field: str, old: str, new: str) -> None:
    assert getattr(SECTIONS[kind].model_validate({field: old}), field) == new


OLD = """
task: object_detection
backbone: {name: tiny, weights: random, normalisation: {mean: [1, 2, 3], std: [4, 5, 6]}}
data: {root: x, visible: 0.4, smallest: 3.0, distortion: true}
decoder: {points: 2, hidden: 64, denoising: 10, box_noise: 0.5}
detections: 40
training: {lr_batch: 64, decoder_lr: 2.0, schedule: poly, accumulate: 3}
"""


def test_an_old_run_loads_and_overrides_win_by_either_name(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(OLD)
    config = load(old)
    new.write_text(to_yaml(config))
    assert not {"visible", "detections", "points"} & set(new.read_text().replace(":", " ").split())
    assert load(new) == config
    assert config.task == "object_detection"
    assert (config.training.base_batch_size, config.training.schedule) == (64, "linear")
    assert (config.decoder.num_dn_queries, config.max_detections) == (10, 40)
    for overrides in (["training.lr_batch=32"], ["training.base_batch_size=32"]):
        changed = load(old, overrides)
        assert changed.task == "object_detection"
        assert changed.training.base_batch_size == 32
    # As `model.json` holds it.
    assert TypeAdapter(Config).validate_python(yaml.safe_load(OLD)).training == config.training


def test_both_names_in_a_file_are_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "both.yaml"
    path.write_text("data: {root: x}\ntraining: {lr_batch: 2, base_batch_size: 3}\n")
    with pytest.raises(UserError, match="base_batch_size is set twice, also as lr_batch"):
        load(path)


def test_sections_of_commands_take_old_names() -> None:
    values = {"backbone": {"name": "tiny"}, "keep": 7}
    curation = section(SECTIONS["Curation"], values, ["duplicates=0.5"]).model_dump()
    assert (curation["num_places"], curation["dedup_threshold"]) == (7, 0.5)


def test_old_classes_can_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from cgeartheye.config import *\n"
        "from cgeartheye.config import Normalisation\n"
        "means = Normalisation(mean=(1, 2, 3))\n"
        "config = SceneClassification(\n"
        "    backbone=Backbone(name='tiny', normalisation=means),\n"
        "    data=SceneData(root='x'), training=Training(lr_batch=128))\n"
    )
    config = load(path)
    assert config.task == "scene_classification"
    assert config.backbone.normalization is not None
    assert config.backbone.normalization.mean == (1, 2, 3)
    assert config.training.base_batch_size == 128
    for old, new in renamed.CLASSES.items():
        assert getattr(config_module, old) is getattr(config_module, new)
    with pytest.raises(AttributeError):
        _ = config_module.Unheard


@pytest.mark.parametrize(("batch", "linear", "root"), [(128, 1, 1), (512, 4, 2), (32, 0.25, 0.5)])
def test_the_rate_follows_the_batch_as_it_did(batch: int, linear: float, root: float) -> None:
    training = Training.model_validate({"lr": 1e-3, "lr_batch": 128})
    pretraining = PretrainingSchedule.model_validate({"lr": 1e-3, "lr_batch": 128})

    def peak(settings: Training | PretrainingSchedule) -> float:
        return scheduled_lr(0, 10, 0, batch, settings)

    assert peak(training) == pytest.approx(1e-3 * linear)
    assert peak(pretraining) == pytest.approx(1e-3 * root)
    assert peak(training.model_copy(update={"lr_scaling": "sqrt"})) == pytest.approx(1e-3 * root)
    assert peak(training.model_copy(update={"base_batch_size": None})) == pytest.approx(1e-3)
