"""Change detection from pairs to a tested model, on pairs whose change is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score, precision_score, recall_score
from tests import processes

from cgeartheye.commands import tasks
from cgeartheye.commands.check import check
from cgeartheye.config import ChangeDetection, load
from cgeartheye.data import load_change_parts
from cgeartheye.inference.sliding_window import slide
from cgeartheye.models.backbone import build
from cgeartheye.models.change.mit import MIT_B2
from cgeartheye.tasks import model_io, registry
from cgeartheye.tasks.change.module import ChangeTask
from cgeartheye.tasks.change.pipeline import ChangePipeline
from cgeartheye.tasks.dense.cached_windows import WindowSource
from cgeartheye.training.loaders import FeatureSource, FileSource
from cgeartheye.training.run_dir import read_history
from cgeartheye.training.samplers import derive_seed
from cgeartheye.utils.errors import UserError

TOOLS = Path(__file__).parents[2] / "tools"
pytestmark = pytest.mark.usefixtures("shallow")
BAN = "decoder={kind: ban, backbone_size: 28, channels: 16}"


def read(config_file: Path, *overrides: str) -> ChangeDetection:
    config = load(config_file, list(overrides))
    assert isinstance(config, ChangeDetection)
    return config


def train(config_file: Path, *overrides: str) -> tuple[Path, dict[str, float]]:
    config = read(config_file, *overrides)
    tasks.train(config)
    assert config.work_dir is not None
    return config.work_dir, json.loads((config.work_dir / "test.json").read_text())


def build_task(config: ChangeDetection) -> tuple[ChangePipeline, ChangeTask, WindowSource | None]:
    torch.manual_seed(0)
    built = build(config.backbone, model_io.input_side(config))
    pipeline = ChangePipeline(config)
    task = registry.build_task(config, built, pipeline.classes, tta=False).eval()
    return pipeline, task, built


@pytest.mark.parametrize("tuning", ["frozen", "lora"])
def test_learns(change_config: Path, tmp_path: Path, tuning: str) -> None:
    rate, epochs = {"frozen": (1e-2, 30), "lora": (3e-3, 15)}[tuning]
    options = f"training.epochs={epochs}", f"training.lr={rate}", f"backbone.tuning={tuning}"
    run, figures = train(change_config, *options, "training.evaluate_every=5")
    assert figures["f1"] > 80
    best = max(r["f1"] for r in read_history(run) if r["kind"] == "val")
    assert figures["f1"] == pytest.approx(best, abs=0.5 if tuning == "frozen" else 0)
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "false alarm" in report
    assert "F1 of changed" in report

    # The figures are those of the masks that a test writes, and `predict` writes the same.
    config = read(run / "config.yaml")
    tasks.test(config, out=tmp_path / "tested", show_dir=tmp_path / "shown")
    chips = load_change_parts(config.data).test
    truth, predicted = [], []
    for index, name in enumerate(chips.names):
        truth.append(chips.load_mask(index).numpy().ravel())
        mask = np.array(Image.open((tmp_path / "tested" / name).with_suffix(".png")))
        predicted.append(mask.ravel())
        assert (tmp_path / "shown" / name).with_suffix(".jpg").exists()
    both = np.concatenate(truth), np.concatenate(predicted)
    for name, measure in (
        ("f1", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ):
        assert figures[name] == pytest.approx(100 * measure(*both)), name
    part = config.data.root / "val"
    tasks.predict(run, [part / "Image1", part / "Image2"], tmp_path / "predicted", [])
    for name in chips.names:
        one = (tmp_path / "tested" / name).with_suffix(".png").read_bytes()
        assert (tmp_path / "predicted" / Path(name).name).with_suffix(".png").read_bytes() == one
    dates = part / "Image1" / "0.png", part / "Image2" / "0.png"
    tasks.predict(run, list(dates), tmp_path / "one", [])
    assert (tmp_path / "one" / "0.png").exists()


def test_a_convolutional_backbone(change_config: Path) -> None:
    given = "backbone={name: timm/resnet10t, gsd: 1}", "data.image_size=64"
    epochs = "training.epochs=30", "training.evaluate_every=10"
    assert train(change_config, *given, *epochs)[1]["f1"] > 60


def test_ban_learns(change_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = tuple(stage._replace(channels=stage.channels // 4, depth=1) for stage in MIT_B2)
    monkeypatch.setattr("cgeartheye.models.change.ban.MIT_B2", narrow)
    steps = "training.steps=12", "training.evaluate_every=6", "training.clip_norm=1.0"
    run, _ = train(change_config, BAN, "data.image_size=64", "training.lr=2e-3", *steps)
    losses = [record["loss"] for record in read_history(run) if record["kind"] == "train"]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


@pytest.mark.parametrize("decoder", ["decoder={kind: light, channels: 32}", BAN])
def test_symmetry_is_exact(change_config: Path, decoder: str) -> None:
    config = read(change_config, decoder, "decoder.symmetric=true", "data.image_size=56")
    _, task, _ = build_task(config)
    torch.manual_seed(1)
    for parameter in task.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pairs = torch.randint(0, 256, (3, 6, 56, 56), dtype=torch.uint8)
    swapped = torch.cat([pairs[:, 3:], pairs[:, :3]], dim=1)
    with torch.no_grad():
        one, other = task.probabilities(pairs), task.probabilities(swapped)
    assert torch.equal(one, other)
    assert one.std() > 0
    lopsided = read(change_config, decoder, "data.image_size=56")
    if lopsided.decoder.kind == "light":
        _, task, _ = build_task(lopsided)
        with torch.no_grad():
            assert not torch.allclose(task.probabilities(pairs), task.probabilities(swapped))


def test_the_caches_hold_what_encoding_gives(change_config: Path) -> None:
    config = read(change_config, "window.overlap=0.5")
    pipeline, task, built = build_task(config)
    data = pipeline.data(task, built)
    assert isinstance(data.train, FeatureSource)
    (batch,) = data.train.load([[(3, 4), (5, 1)]])
    keys = [
        (index, derive_seed(config.training.seed, "view", seed % 4, index))
        for index, seed in ((3, 4), (5, 1))
    ]
    (fresh,) = FileSource(pipeline.parts.train, 0, torch.device("cpu")).load([keys])
    assert torch.equal(batch["mask"], fresh["mask"])
    losses = task.training_loss(batch), task.training_loss(fresh)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-2, atol=1e-2)

    assert isinstance(data.val, WindowSource)
    files = FileSource(pipeline.parts.val, 0, torch.device("cpu"), ("image1", "image2", "mask"))
    for kept, expected in zip(data.val.load([[4, 1]]), files.load([[4, 1]]), strict=True):
        pairs = task.image_stacks(expected)
        one = slide(pairs, task.logits, 56, 0.5, 5)
        other = slide(kept["encoded"], task.decode, 56, 0.5, 5)
        for maps in zip(one, other, strict=True):
            torch.testing.assert_close(*maps, atol=2e-3, rtol=0)
    _, ban, built = build_task(read(change_config, BAN, "data.image_size=64"))
    assert isinstance(ChangePipeline(read(change_config, BAN)).data(ban, built).train, FileSource)


@pytest.mark.distributed
def test_two_processes(change_config: Path, tmp_path: Path) -> None:
    """They train, and test to the figures of one."""
    options = ["--cfg-options", "data.batch_size=2", "training.epochs=1"]
    processes.run_ranks([TOOLS / "train_cd.py", change_config, *options])
    config = read(tmp_path / "run" / "config.yaml")
    two = json.loads((tmp_path / "run" / "test.json").read_text())
    assert tasks.test(config) == two
    run = tmp_path / "run"
    processes.run_ranks([TOOLS / "test_cd.py", run / "config.yaml", run, "--tta"])
    two = json.loads((tmp_path / "run" / "test.json").read_text())
    assert tasks.test(config, tta=True) == two


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["decoder.kind=ban", "decoder.layers=[1, 2, 3]"], "4 layers, not 3"),
        (["decoder.channels=30"], "multiple of 4: 30"),
        (["decoder.backbone_size=100"], "multiple of 14, not 100"),
        (["data.image_size=50"], "multiple of the backbone's patch size"),
        (["data.after='{part}/Image1'"], "name the same images"),
        (["data.after='{part}/Image3'"], "no folder"),
        (["data.values=[0, 7]"], "the value 255"),
    ],
    ids=lambda x: x[-1] if isinstance(x, list) else "",
)
def test_mistakes_are_one_sentence(
    change_config: Path, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        train(change_config, *overrides)
    assert "\n" not in str(caught.value)


def test_dates_without_a_partner(change_config: Path, pairs: Path, tmp_path: Path) -> None:
    run, _ = train(change_config, "training.epochs=1")
    before, after = pairs / "val" / "Image1", pairs / "train" / "Image2"
    for inputs, sentence in (
        ([before], "two inputs"),
        ([before, after], "has no image of its name in"),
        ([after, before], "has no image of its name in"),
        ([before / "0.png", after / "none.png"], "no image or folder"),
        ([before / "0.png", after / "9.png"], "pixels"),
    ):
        with pytest.raises(UserError, match=sentence) as caught:
            tasks.predict(run, inputs, tmp_path / "masks", [])
        assert "\n" not in str(caught.value)
    published = tmp_path / "head.pth"
    torch.save({"head.fc.bias": torch.zeros(3)}, published)
    with pytest.raises(UserError, match="holds no BAN"):
        tasks.test(read(change_config), published)
    assert check(read(change_config))
