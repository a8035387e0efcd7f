import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from safetensors.torch import load_file
from tests import processes
from tests.quicker import shallow_backbone

from cgeartheye.commands import tasks
from cgeartheye.commands.check import check
from cgeartheye.commands.probe import probe
from cgeartheye.config import Backbone, Normalization, SceneData, load
from cgeartheye.data import SceneParts, load_parts
from cgeartheye.data.image_io import SUFFIXES
from cgeartheye.models.backbone import build
from cgeartheye.models.backbone.checkpoint_io import WeightsMetadata, save_tensors
from cgeartheye.tasks import model_io, sources
from cgeartheye.tasks.pipeline import TaskPipeline
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.training.checkpoint import read_part
from cgeartheye.training.run_dir import read_history
from cgeartheye.utils.errors import UserError

TOOLS = Path(__file__).parents[2] / "tools"
COMMAND = ["-m", "cgeartheye"]
FACTS = WeightsMetadata(Normalization().mean, Normalization().std, gsd=0.75, image_size=28)
pytestmark = pytest.mark.usefixtures("shallow")


def train(config_file: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    """Train; return the run directory and the figures of its test."""
    config = load(config_file, list(overrides))
    tasks.train(config)
    assert config.work_dir is not None
    return config.work_dir, json.loads((config.work_dir / "test.json").read_text())


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_history(folder) if record["kind"] == "train"]


def figures(folder: Path) -> list[dict[str, Any]]:
    return [record for record in read_history(folder) if record["kind"] == "val"]


@pytest.fixture
def trained(config_file: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of its own for each test, of one training."""
    kept = tmp_path_factory.getbasetemp() / "trained"
    if not kept.exists():
        fields = "backbone.tuning=full", "training.lr=1e-3", "training.epochs=10"
        train(config_file, *fields, f"work_dir={kept}")
    run = tmp_path / "run"
    shutil.copytree(kept, run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(kept), str(run)))
    return run


def test_full_tuning_learns_and_leaves_a_whole_run(trained: Path) -> None:
    assert json.loads((trained / "test.json").read_text())["top1"] > 60
    assert losses(trained)[-1] < losses(trained)[0]
    for name in ("config.yaml", "model.safetensors", "model.json", "report.html"):
        assert (trained / name).stat().st_size > 100, name
    assert not list(trained.rglob("*.partial*"))
    config = load(trained / "config.yaml")
    assert config.backbone.tuning == "full"


def test_a_tuned_backbone_carries_another_run(
    trained: Path, config_file: Path, tmp_path: Path
) -> None:
    weights = trained / "model.safetensors"
    overrides = [f"backbone.weights={weights}", "backbone.gsd=1", f"work_dir={tmp_path / 'next'}"]
    config = load(config_file, overrides)
    built = build(config.backbone, 28)
    assert built.normalization == Normalization()
    expected = load_file(weights)
    for name, tensor in built.module.state_dict().items():
        assert (tensor == expected[f"backbone.{name}"]).all()
    tasks.train(config)


def test_the_best_model_is_kept(trained: Path) -> None:
    tested = json.loads((trained / "test.json").read_text())
    best = max(figures(trained), key=lambda f: f["top1"])
    assert {name: best[name] for name in tested} == tested


@pytest.mark.parametrize("tuning", ["frozen", "lora"])
def test_adapting_a_backbone_leaves_it_as_it_was(
    config_file: Path, trained: Path, tmp_path: Path, tuning: str
) -> None:
    """On weights that were tuned before, so that a frozen backbone separates the classes."""
    weights = export_backbone(trained, tmp_path / "backbone.safetensors")
    before = weights.read_bytes()
    run, tested = train(
        config_file,
        f"backbone.weights={weights}",
        f"backbone.tuning={tuning}",
        "training.epochs=8",
        f"work_dir={tmp_path / tuning}",
    )
    assert tested["top1"] > 60
    assert weights.read_bytes() == before
    kept = load_file(run / "model.safetensors")
    if tuning == "frozen":
        assert set(kept) == {"decoder.weight", "decoder.bias"}
    else:
        assert set(kept) > {"decoder.weight"}
        assert all("lora" in name or name.startswith("decoder.") for name in kept)


def export_backbone(run: Path, path: Path) -> Path:
    """Write the backbone of a fully tuned run as a weights file."""
    tensors = load_file(run / "model.safetensors")
    state = {
        name.removeprefix("backbone."): tensor
        for name, tensor in tensors.items()
        if name.startswith("backbone.")
    }
    save_tensors(path, state, FACTS.to_metadata())
    return path


def test_the_cache_gives_what_encoding_gives(
    config_file: Path, trained: Path, tmp_path: Path
) -> None:
    weights = export_backbone(trained, tmp_path / "backbone.safetensors")
    common = [f"backbone.weights={weights}", "data.crop_area=[0.99, 1.0]"]
    cached, a = train(config_file, *common, f"work_dir={tmp_path / 'a'}")
    plain, b = train(config_file, *common, "cache.enabled=false", f"work_dir={tmp_path / 'b'}")
    assert len(list((tmp_path / "features").glob("*.npy"))) == 2
    assert a["top1"] == pytest.approx(b["top1"], abs=10)
    # Views differ, images and labels do not.
    assert losses(cached) == pytest.approx(losses(plain), rel=0.2)


def test_test_predicts_what_predict_predicts(trained: Path, chips: Path, tmp_path: Path) -> None:
    config = load(trained / "config.yaml")
    shown = tmp_path / "shown"
    tasks.test(config, None, out=tmp_path / "test.csv", show_dir=shown)
    with (tmp_path / "test.csv").open() as file:
        tested = {row["path"]: row for row in csv.DictReader(file)}
    assert len(list(shown.rglob("*.jpg"))) == len(tested)
    tasks.predict(trained, [chips], tmp_path / "all.csv", [])
    with (tmp_path / "all.csv").open() as file:
        predicted = {str(Path(row["path"]).relative_to(chips)): row for row in csv.DictReader(file)}
    assert len(predicted) == 46
    for name, row in tested.items():
        assert predicted[name]["class"] == row["class"]
        assert float(predicted[name]["score"]) == pytest.approx(float(row["score"]), abs=1e-4)
    hits = sum(row["class"] == row["truth"] for row in tested.values())
    assert json.loads((trained / "test.json").read_text())["top1"] == pytest.approx(
        100 * hits / len(tested)
    )


def test_predictions_as_json_and_geojson(trained: Path, tmp_path: Path) -> None:
    here, nowhere = tmp_path / "here.tif", tmp_path / "nowhere.png"
    random = np.random.default_rng(0).integers(0, 255, (3, 40, 40)).astype(np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": 40, "width": 40, "dtype": "uint8"}
    transform = rasterio.transform.from_origin(500_000, 4_000_000, 0.75, 0.75)
    with rasterio.open(here, "w", crs="EPSG:32650", transform=transform, **profile) as target:
        target.write(random)
    Image.fromarray(random.transpose(1, 2, 0)).save(nowhere)

    tasks.predict(trained, [here, nowhere], tmp_path / "out.geojson", [])
    placed, unplaced = json.loads((tmp_path / "out.geojson").read_text())["features"]
    ring = np.array(placed["geometry"]["coordinates"][0])
    assert unplaced["geometry"] is None
    assert abs(ring[:, 0] - 117).max() < 0.001  # the zone's central meridian
    assert placed["properties"]["class"] == unplaced["properties"]["class"]

    tasks.predict(trained, [here], tmp_path / "out.json", [])
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert row["probabilities"][row["class"]] == max(row["probabilities"].values()) == row["score"]

    with pytest.MonkeyPatch.context() as patch:  # refused before anything is predicted
        patch.setattr(TaskPipeline, "predictions", pytest.fail)
        with pytest.raises(UserError, match=r"no CRS.*\.csv or \.json"):
            tasks.predict(trained, [nowhere], tmp_path / "out2.geojson", [])
    assert not (tmp_path / "out2.geojson").exists()


def test_tta_averages_mirror_images(trained: Path, tmp_path: Path) -> None:
    config = load(trained / "config.yaml")
    tasks.test(config, None, out=tmp_path / "tta.json", tta=True)
    rows = json.loads((tmp_path / "tta.json").read_text())
    task, _ = tasks.load(pipeline_for(config), trained, torch.device("cpu"))
    task.eval()
    chips = load_parts(config.data).test
    image = chips[0]["image"][None]
    with torch.no_grad():
        views = [task.predict({"image": v}).probabilities[0] for v in (image, image.flip(-1))]
    mean = (views[0] + views[1]) / 2
    assert list(rows[0]["probabilities"].values()) == pytest.approx(mean.tolist(), abs=1e-5)


@pytest.mark.distributed
def test_two_processes_give_the_figures_of_one(
    trained: Path, config_file: Path, tmp_path: Path
) -> None:
    one = json.loads((trained / "test.json").read_text())
    images = len(load_rows(trained, tmp_path))
    assert images % 2 == 1  # or this shows nothing of padding
    options = ["--out", tmp_path / "two.csv", "--cfg-options", "data.batch_size=4"]
    processes.run_ranks([TOOLS / "test_sc.py", trained / "config.yaml", *options])
    assert json.loads((trained / "test.json").read_text()) == one
    assert (tmp_path / "two.csv").read_text() == (tmp_path / "one.csv").read_text()


def test_the_published_command_starts_ranks(config_file: Path, tmp_path: Path) -> None:
    """By torchrun, which other tests with ranks are without."""
    command = ["bash", TOOLS / "dist_train_sc.sh", config_file, "1"]
    subprocess.run(
        [*command, "--cfg-options", "training.epochs=1"],
        check=True,
        env=os.environ | {"PYTHON": sys.executable},
        timeout=300,
    )
    assert (tmp_path / "run" / "test.json").exists()


def load_rows(run: Path, folder: Path) -> list[dict[str, str]]:
    config = load(run / "config.yaml", ["data.batch_size=4"])
    tasks.test(config, None, out=folder / "one.csv")
    with (folder / "one.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.distributed
@pytest.mark.parametrize(("tuning", "decoder"), [("frozen", "light"), ("full", "linear")])
def test_two_processes_train_as_one(
    config_file: Path, tmp_path: Path, tuning: str, decoder: str
) -> None:
    common = [f"backbone.tuning={tuning}", f"decoder.kind={decoder}", "training.epochs=2"]
    one, _ = train(config_file, *common, "data.batch_size=8", f"work_dir={tmp_path / 'one'}")
    two = tmp_path / "two"
    options = ["--work-dir", two, "--cfg-options", *common, "data.batch_size=4"]
    processes.run_ranks([TOOLS / "train_sc.py", config_file, *options])
    assert losses(two) == pytest.approx(losses(one), rel=2e-3)
    assert len(losses(two)) == len(losses(one)) > 4


@pytest.mark.parametrize("tuning", ["frozen", "lora"])
def test_a_run_keeps_the_weights_that_shipped_when_it_began(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: str
) -> None:
    """A package that is upgraded, or gone to another place, changes no trained model."""
    monkeypatch.setattr("cgeartheye.weights.FOLDER", tmp_path)
    module = build(Backbone(name="tiny", weights="random", layer_scale=1.0), 28).module
    shipped = {name: tensor.half() for name, tensor in module.state_dict().items()}
    save_tensors(tmp_path / "tiny.safetensors", shipped, FACTS.to_metadata())
    overrides = ["backbone.weights=null", f"backbone.tuning={tuning}", "training.epochs=1"]
    folder, before = train(config_file, *overrides)
    kept = load_file(folder / "model.safetensors")["backbone.cls_token"]
    assert torch.equal(kept, shipped["cls_token"].float())
    newer = {name: tensor + 1 for name, tensor in shipped.items()}
    save_tensors(tmp_path / "tiny.safetensors", newer, replace(FACTS, gsd=9).to_metadata())
    config = load(config_file, overrides)
    assert tasks.test(config) == before
    with pytest.raises(UserError, match=r"began with other backbone weights .*tiny\.safetensors"):
        tasks.train(config, resume=True)
    (tmp_path / "tiny.safetensors").unlink()
    assert tasks.test(config) == before


def test_a_refused_resume_changes_nothing(config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tasks.train(load(config_file, [f"work_dir={run}"]))

    def content() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in run.iterdir() if p.is_file() and p.name != ".lock"}

    before = content()
    changed = [f"work_dir={run}", "training.lr=0.5", "data.batch_size=3"]
    with pytest.raises(UserError, match="keep the data, and"):
        tasks.train(load(config_file, changed), resume=True)
    assert content() == before


def test_kill_and_resume_is_bit_identical(config_file: Path, tmp_path: Path) -> None:
    """A real SIGKILL in an epoch, with augmentation, drop path and loader processes."""
    settings = ["backbone.tuning=full", "backbone.drop_path=0.2", "training.epochs=2"]
    settings += ["decoder.kind=light"]
    whole, _ = train(config_file, *settings, f"work_dir={tmp_path / 'whole'}")
    cut = tmp_path / "cut"
    arguments = ["train", str(config_file), "--work-dir", cut, "--resume"]
    for setting in (*settings, "training.checkpoint_minutes=0", "data.workers=1"):
        arguments += ["--set", setting]
    run = processes.start([*COMMAND, *arguments])
    deadline = time.monotonic() + 120
    while run.is_alive() and len(losses(cut)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert run.is_alive(), "it ended before it could be killed"
    assert run.pid is not None
    os.killpg(run.pid, signal.SIGKILL)
    run.join()
    processes.run([*COMMAND, *arguments])
    a, b = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    final_a, final_b = (
        read_part(next((run / "checkpoints").glob("step-*")), "model") for run in (whole, cut)
    )
    assert all(torch.equal(final_a[name], final_b[name]) for name in final_a)
    assert losses(cut) == losses(whole)
    assert figures(cut) == figures(whole)
    assert (cut / "test.json").read_text() == (whole / "test.json").read_text()


def test_a_published_classifier_is_tested_as_it_is(
    config_file: Path, trained: Path, tmp_path: Path
) -> None:
    """A checkpoint with mmpretrain's keys gives the figures of the model that it was made from."""
    ours = load_file(trained / "model.safetensors")
    state = {"head.fc.weight": ours["decoder.weight"], "head.fc.bias": ours["decoder.bias"]}
    renames = {
        "patch_embed.proj": "patch_embed.projection",
        "blocks.": "layers.",
        ".norm1.": ".ln1.",
        ".norm2.": ".ln2.",
        ".ls1.gamma": ".attn.gamma1.weight",
        ".ls2.gamma": ".ffn.gamma2.weight",
        ".mlp.fc1.": ".ffn.layers.0.0.",
        ".mlp.fc2.": ".ffn.layers.1.",
    }
    for name, tensor in ours.items():
        if name.startswith("backbone.") and "mask_token" not in name:
            for ours_name, theirs in renames.items():
                name = name.replace(ours_name, theirs)
            state[name.replace("backbone.norm.", "backbone.ln1.")] = tensor
    path = tmp_path / "published.pth"
    torch.save({"state_dict": state, "meta": {"epoch": 100}}, path)
    expected = json.loads((trained / "test.json").read_text())
    config = load(
        config_file,
        ["backbone.normalization={}", "backbone.gsd=0.75", f"work_dir={tmp_path / 'published'}"],
    )
    assert tasks.test(config, path)["top1"] == expected["top1"]


def test_the_light_decoder_learns_where_channels_differ(config_file: Path, tmp_path: Path) -> None:
    """Features of random weights are nearly the same for all images."""
    found = {}
    for kind in ("linear", "light"):
        run, figures = train(
            config_file,
            *(f"decoder.kind={kind}", f"work_dir={tmp_path / kind}"),
            *("training.lr=1e-3", "training.epochs=12", "training.evaluate_every=12"),
        )
        found[kind] = figures["top1"]
        assert tasks.test(load(run / "config.yaml")) == figures
    assert found["light"] > found["linear"] + 10


def test_a_published_classifier_needs_the_linear_decoder(
    config_file: Path, trained: Path, tmp_path: Path
) -> None:
    ours = load_file(trained / "model.safetensors")
    state = {"head.fc.weight": ours["decoder.weight"], "head.fc.bias": ours["decoder.bias"]}
    path = tmp_path / "published.pth"
    torch.save({"state_dict": state | {n: t for n, t in ours.items() if n[0] == "b"}}, path)
    config = load(config_file, ["decoder.kind=light", "backbone.normalization={}"])
    with pytest.raises(UserError, match=r"decoder\.kind=linear"):
        tasks.test(config, path)


def test_probe(config_file: Path, trained: Path, tmp_path: Path) -> None:
    weights = export_backbone(trained, tmp_path / "backbone.safetensors")
    report = (trained / "report.html").read_bytes()
    probe(load(config_file, [f"backbone.weights={weights}"]))
    result = json.loads((tmp_path / "run" / "probe.json").read_text())
    assert result["kNN, k = 5"] > 50
    assert result["linear"] > 60
    assert set(result) >= {f"linear, {n} a class" for n in (1, 5, 10)}
    assert (tmp_path / "run" / "probe.html").exists()
    assert (trained / "report.html").read_bytes() == report


def test_weights_that_changed_under_a_decoder(
    config_file: Path, trained: Path, tmp_path: Path
) -> None:
    weights = export_backbone(trained, tmp_path / "backbone.safetensors")
    run, _ = train(config_file, f"backbone.weights={weights}", f"work_dir={tmp_path / 'a'}")
    tensors = load_file(weights)
    model = model_io.read_model(run)
    assert model.backbone_fingerprint
    tensors["norm.bias"] += 1
    save_tensors(weights, tensors, FACTS.to_metadata())
    with pytest.raises(UserError, match="other backbone weights"):
        tasks.test(load(run / "config.yaml"), run)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_accumulation_and_tensorboard(config_file: Path, precision: str) -> None:
    run, tested = train(
        config_file,
        f"training.precision={precision}",
        "backbone.tuning=full",
        "backbone.checkpoint_activations=true",
        "training.lr=3e-3",
        "training.epochs=5",
        "training.evaluate_every=5",
        "training.grad_accum_steps=2",
        "training.clip_norm=1.0",
        "training.tensorboard=true",
    )
    assert tested["top1"] > 50
    assert list((run / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    ("name", "tuning", "decoder"),
    [
        ("vit_tiny_patch16_224", "frozen", "light"),
        ("vit_tiny_patch16_224", "lora", "linear"),
        ("vit_tiny_patch16_224", "full", "linear"),
        ("tf_efficientnet_lite0", "frozen", "light"),  # its maps have fewer channels than its end
    ],
)
def test_a_timm_backbone_stands_in(
    config_file: Path, tmp_path: Path, name: str, tuning: str, decoder: str
) -> None:
    run, _ = train(
        config_file,
        f"backbone.name=timm/{name}",
        "data.image_size=32",
        f"backbone.tuning={tuning}",
        f"decoder.kind={decoder}",
        "training.epochs=1",
    )
    before = json.loads((run / "test.json").read_text())
    assert tasks.test(load(run / "config.yaml"), run) == before


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.image_size=256", "multiple of the backbone's patch size 14"),
        ("backbone.name=tinny", "tinny"),
        ("training.device=cuda:99", "no device"),
    ],
)
def test_check_refuses_what_a_training_would(config_file: Path, override: str, words: str) -> None:
    config = load(config_file, [override])
    assert not check(config)
    assert config.work_dir is not None
    found = json.loads((config.work_dir / "check" / "check.json").read_text())["findings"]
    errors = [finding["sentence"] for finding in found if finding["severity"] == "error"]
    assert len(errors) == 1
    assert words in errors[0]


@pytest.mark.parametrize("override", ["data.root=nowhere", "data.image_size=30"])
def test_a_mistake_before_training_leaves_no_run(
    config_file: Path, tmp_path: Path, override: str
) -> None:
    config = load(config_file, [override, f"work_dir={tmp_path / 'runs' / 'wrong'}"])
    assert config.work_dir is not None
    with pytest.raises(UserError, match=r"nowhere|patch size"):
        tasks.train(config)
    assert not config.work_dir.exists()
    (config.work_dir / "check").mkdir(parents=True)  # of another command
    (config.work_dir / "notes.txt").touch()
    with pytest.raises(UserError, match=r"nowhere|patch size"):
        tasks.train(config)
    assert sorted(path.name for path in config.work_dir.iterdir()) == ["check", "notes.txt"]


def test_all_broken_images_are_named_before_any_is_encoded(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources.SourceFactory, "encode", None)  # would end in a TypeError
    root = tmp_path / "chips"
    shutil.copytree(load(config_file).data.root, root)
    images = sorted(path for path in root.rglob("*.*") if path.suffix in SUFFIXES)
    config = load(config_file, [f"data.root={root}", f"work_dir={tmp_path / 'run'}"])
    short, foreign, longer = images[0], images[-1], images[-2]
    short.write_bytes(short.read_bytes()[:-200])
    with pytest.raises(UserError, match=rf"^{short} is truncated or damaged: replace it"):
        tasks.train(config)
    foreign.write_text("no image")
    longer.write_bytes(longer.read_bytes() + bytes(9999))  # of a camera, which decoders ignore
    with pytest.raises(UserError, match=rf"^2 of \d+ image files .*: {short}, {foreign}$"):
        tasks.train(config)
    assert not (tmp_path / "run").exists()


def test_check_ticks_no_step_that_was_not_tried(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    config = load(config_file, [f"data.root={tmp_path / 'flat'}"])
    assert not check(config)
    assert config.work_dir is not None
    assert [path.name for path in (config.work_dir / "check").iterdir()] == ["check.json"]
    found = json.loads((config.work_dir / "check" / "check.json").read_text())["findings"]
    assert found[-1]["severity"] == "skipped"
    assert "ok" not in {finding["severity"] for finding in found}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("backbone.gsd=0.6", "is assumed; set data.gsd; cells of a map will be 17 m"),
        ("backbone.gsd=null", "set data.gsd in m/px, or a map is made at the scene's own"),
        ("data.gsd=0.5", None),
    ],
)
def test_an_assumed_resolution_is_named(
    config_file: Path, override: str, words: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    size = "data.image_size=28"
    config = load(config_file, ["training.epochs=1", "backbone.weights=random", size, override])
    assert check(config)
    seen = " ".join(capsys.readouterr().out.split())
    tasks.train(config)
    trained = " ".join(capsys.readouterr().out.split())
    for output in (seen, trained):
        assert output.count("record no resolution") == (words is not None)
        assert words is None or words in output


def test_check_takes_a_step_and_leaves_no_run(config_file: Path) -> None:
    config = load(config_file)
    assert check(config)
    assert config.work_dir is not None
    assert [path.name for path in config.work_dir.iterdir()] == ["check"]
    found = json.loads((config.work_dir / "check" / "check.json").read_text())["findings"]
    assert "takes a step on 8 images" in found[-1]["sentence"]


def test_a_collapsed_model_is_reported(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate of next to nothing leaves the classifier as it was drawn."""
    folder, _ = train(config_file, "training.lr=1e-9", "training.epochs=1", "data.image_size=14")
    output = capsys.readouterr().out
    verdicts = [line for line in output.splitlines() if line.startswith("verdict: ")]
    assert verdicts
    assert "the tiny backbone is random and frozen" in verdicts[-1]
    assert "measured on the validation part, on which nothing was chosen" in output
    page = (folder / "report.html").read_text()
    assert all(verdict.removeprefix("verdict: ") in page for verdict in verdicts)


def test_a_training_indexes_the_data_once(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed = []

    def counted(data: SceneData) -> SceneParts:
        indexed.append(data)
        return load_parts(data)

    monkeypatch.setattr("cgeartheye.tasks.scene.pipeline.load_parts", counted)
    train(config_file)
    assert len(indexed) == 1


def test_a_config_where_a_run_is_needed(config_file: Path) -> None:
    with pytest.raises(UserError, match="is a config, not a trained model: name its run"):
        tasks.predict(config_file, [config_file.parent], config_file.parent / "out.csv", [])


def test_an_empty_class_folder_is_named(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "copied"
    shutil.copytree(load(config_file).data.root, root)
    (root / "snow").mkdir()
    train(config_file, f"data.root={root}", "training.epochs=1")
    assert f"{root / 'snow'} holds no image" in capsys.readouterr().out


def test_cached_features_are_those_of_the_weights_that_a_model_holds(
    config_file: Path, tmp_path: Path
) -> None:
    """A model with its backbone is built on random weights first, and others have cached those."""
    with shallow_backbone(12):
        random = "backbone={name: tiny, weights: random, seed: 0}", f"work_dir={tmp_path / 'one'}"
        train(config_file, *random)
        shipped = "backbone={name: tiny, seed: 0}", "training.epochs=20"
        _, shared = train(config_file, *shipped, f"work_dir={tmp_path / 'two'}")
        alone = f"work_dir={tmp_path / 'three'}", f"cache.folder={tmp_path / 'other'}"
        _, expected = train(config_file, *shipped, *alone)
    assert shared == expected


def test_features_of_a_tuned_backbone_are_not_those_of_its_beginning(
    config_file: Path, tmp_path: Path
) -> None:
    frozen = load(config_file, [f"work_dir={tmp_path / 'frozen'}"])
    tasks.train(frozen)
    tuned = "backbone.tuning=lora", "training.epochs=10", f"work_dir={tmp_path / 'lora'}"
    run, figures = train(config_file, *tuned)
    # Cached features have half precision.
    assert tasks.test(frozen, run) == pytest.approx(figures, abs=0.01)
