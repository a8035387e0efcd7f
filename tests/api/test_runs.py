"""Trainings from a file, an object or a dict, with fields changed in every way."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_command import command

import cgeartheye as cge
from cgeartheye.config import make
from cgeartheye.utils.io import write_text


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(workspace)
    write_text(
        workspace / "pretraining.yaml",
        "task: pretraining\nbackbone: {name: tiny, gsd: 1.0}\ndata: {store: store}\n",
    )
    return workspace


def test_a_training_is_that_of_the_command(here: Path, tmp_path: Path) -> None:
    changed = ["--set", "training.epochs=1", "--set", "data.batch_size=4"]
    command("train", "mine.yaml", "--work-dir", tmp_path / "command", *changed)
    run = cge.train(
        "mine.yaml",
        work_dir=tmp_path / "own",
        progress=False,
        training={"epochs": 1},
        **{"data.batch_size": 4},
    )
    assert run.metrics == cge.Run(tmp_path / "command").metrics
    ours, theirs = (load_file(tmp_path / way / "model.safetensors") for way in ("own", "command"))
    assert all(torch.equal(ours[name], theirs.pop(name)) for name in ours)
    assert not theirs
    assert [record["kind"] for record in run.history][-1] == "val"
    assert run.report.is_file()
    assert run.config.training.epochs == 1
    assert run.config.training.lr == 1e-2  # what the dict does not name stays


def test_a_run_shows_itself(here: Path) -> None:
    run = cge.Run("runs/mine")
    shown = run._repr_html_()
    assert f"{run.metrics['top1']:.2f}" in shown
    assert 'href="runs/mine/report.html"' in shown
    assert repr(run).startswith("<Run runs/mine: ")
    axes = run.plot()
    assert len(axes.lines[0].get_xdata()) == 2  # a step an epoch
    assert cge.load_model(run).path == run.path / "model.safetensors"


def test_a_finished_run_is_not_overwritten_but_resumed(here: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"work_dir": tmp_path / "run", "progress": False}
    first = cge.train("mine.yaml", **options, **{"training.epochs": 1})
    again = r"already holds a run: add resume=True to go on with it, or name another work_dir=$"
    with pytest.raises(cge.UserError, match=again):
        cge.train("mine.yaml", **options)
    second = cge.train("mine.yaml", resume=True, **options)
    assert len(second.history) > len(cge.Run(first).history) / 2
    assert second.history[-1]["epoch"] == 2


def test_a_config_is_a_file_an_object_or_a_dict(here: Path) -> None:
    fields: dict[str, Any] = {
        "backbone": {"name": "tiny"},
        "data.root": "chips",
        "data": {"image_size": 28},
    }
    from_dict = make(fields, {"training": {"epochs": 3}})
    backbone = cge.config.Backbone(name="tiny")
    data = cge.config.SceneData(root=Path("chips"), image_size=28)
    written = cge.SceneClassification(backbone=backbone, data=data)
    from_object = make(written, {"training.epochs": 3})
    sections = make({"backbone": backbone, "data": data}, ["training.epochs=3"])
    write_text(here / "same.yaml", "backbone: {name: tiny}\ndata: {root: chips, image_size: 28}\n")
    from_file = cge.config.load(here / "same.yaml", {"training": {"epochs": 3}})
    assert from_dict == from_object == sections
    assert from_dict.work_dir == Path("runs/scene_classification")
    assert from_file == from_dict.model_copy(update={"work_dir": Path("runs/same")})
    assert written.training.epochs == 100  # an object is left as it is
    assert fields["data"] == {"image_size": 28}


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("none.yaml", {}, "no config file none.yaml"),
        ("mine.yaml", {"training.epoch": 5}, r"did you mean 'epochs'\?"),
        ("mine.yaml", {"training.epochs": "many"}, "training.epochs"),
        ({"backbone.name": "tiny"}, {}, "the config: data: field required"),
        ({"backbone": "tiny", "backbone.name": "tiny"}, {}, "backbone is a single value"),
        ("pretraining.yaml", {}, "is the config of a pre-training"),
    ],
)
def test_mistakes_are_one_sentence(
    here: Path, config: Any, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(cge.UserError, match=message):
        cge.train(config, **overrides)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(cge.UserError, match="no run directory"):
        cge.Run(tmp_path)
    write_text(tmp_path / "config.yaml", "")
    with pytest.raises(cge.UserError, match="was not tested"):
        _ = cge.Run(tmp_path).metrics
