"""Segmentation from chips to a tested model, on chips of known colours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import jaccard_score
from tests import processes
from toy_land import draw

from cgeartheye.commands import tasks
from cgeartheye.commands.check import check
from cgeartheye.config import Normalization, SemanticSegmentation, load
from cgeartheye.data import load_segmentation_parts
from cgeartheye.inference.sliding_window import slide
from cgeartheye.models.backbone import build
from cgeartheye.models.backbone.checkpoint_io import WeightsMetadata, save_tensors
from cgeartheye.tasks.dense.cached_windows import WindowSource
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.tasks.segmentation.module import SegmentationTask
from cgeartheye.tasks.segmentation.pipeline import SegmentationPipeline
from cgeartheye.training.loaders import FeatureSource, FileSource
from cgeartheye.training.run_dir import read_history
from cgeartheye.training.samplers import derive_seed
from cgeartheye.training.trainer import Trainer
from cgeartheye.utils.errors import UserError

TOOLS = Path(__file__).parents[2] / "tools"
pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def config_file(land_config: Path) -> Path:
    return land_config


def read(config_file: Path, *overrides: str) -> SemanticSegmentation:
    config = load(config_file, list(overrides))
    assert isinstance(config, SemanticSegmentation)
    return config


def train(config_file: Path, *overrides: str) -> tuple[Path, dict[str, float]]:
    config = read(config_file, *overrides)
    tasks.train(config)
    assert config.work_dir is not None
    return config.work_dir, json.loads((config.work_dir / "test.json").read_text())


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_history(folder) if record["kind"] == "train"]


@pytest.mark.parametrize(
    ("tuning", "decoder", "precision"),
    [
        ("frozen", "{kind: light, channels: 64}", "fp32"),
        ("frozen", "{kind: light, channels: 64}", "bf16"),
        ("lora", "{kind: light, channels: 64, dice: 1.0, layers: [1, -1]}", "fp32"),
        ("full", "{kind: upernet, channels: 16, class_weights: [1, 1.2, 1]}", "fp32"),
    ],
)
def test_learns(
    config_file: Path, tuning: str, decoder: str, precision: str, tmp_path: Path
) -> None:
    rate = "5e-4" if tuning == "full" else "1e-2"
    run, figures = train(
        config_file,
        *(f"backbone.tuning={tuning}", f"decoder={decoder}", f"training.lr={rate}"),
        *("training.epochs=15", "training.evaluate_every=5"),
        *("backbone.layer_scale=0.5", f"training.precision={precision}"),
    )
    assert figures["miou"] > 75
    best = max(r["miou"] for r in read_history(run) if r["kind"] == "val")
    # Those of the training come from features in half precision, where they were kept.
    assert figures["miou"] == pytest.approx(best, abs=0.2 if tuning == "frozen" else 0)
    for name in ("config.yaml", "model.safetensors", "model.json", "report.html"):
        assert (run / name).stat().st_size > 100, name

    # The figures are those of the masks that a test writes, and `predict` writes the same.
    config = read(run / "config.yaml")
    tasks.test(config, out=tmp_path / "tested", show_dir=tmp_path / "shown")
    chips = load_segmentation_parts(config.data).test
    truth, predicted = [], []
    for index, name in enumerate(chips.names):
        mask = chips.load_mask(index).numpy()
        classes = np.array(Image.open((tmp_path / "tested" / name).with_suffix(".png")))
        assert classes.shape == mask.shape
        truth.append(mask[mask != 255])
        predicted.append(classes[mask != 255])
        assert (tmp_path / "shown" / name).with_suffix(".jpg").exists()
    expected = jaccard_score(np.concatenate(truth), np.concatenate(predicted), average="macro")
    assert figures["miou"] == pytest.approx(100 * expected)
    tasks.predict(run, [config.data.root / "val" / "Img"], tmp_path / "predicted", [])
    for name in chips.names:
        one = (tmp_path / "tested" / name).with_suffix(".png").read_bytes()
        assert (tmp_path / "predicted" / Path(name).name).with_suffix(".png").read_bytes() == one


def test_what_the_model_file_holds(config_file: Path, tmp_path: Path) -> None:
    """All of a random backbone; of one with weights beneath the decoder alone."""
    run, _ = train(config_file, "training.epochs=1", f"work_dir={tmp_path / 'whole'}")
    tensors = load_file(run / "model.safetensors")
    state = {
        name.removeprefix("backbone."): tensor
        for name, tensor in tensors.items()
        if name.startswith("backbone.")
    }
    facts = WeightsMetadata(Normalization().mean, Normalization().std, gsd=0.75, image_size=56)
    weights = tmp_path / "backbone.safetensors"
    save_tensors(weights, state, facts.to_metadata())
    beneath = f"backbone.weights={weights}"
    run, figures = train(config_file, beneath, "training.epochs=2")
    kept = load_file(run / "model.safetensors")
    assert {name.split(".")[0] for name in kept} == {"decoder"}
    assert "decoder.norm.running_mean" in kept
    assert tasks.test(read(run / "config.yaml")) == figures


def test_a_model_from_before_the_pixels_is_read(config_file: Path, tmp_path: Path) -> None:
    config = read(config_file, "training.epochs=1", "decoder.kind=light", "decoder.pixels=false")
    tasks.train(config)
    run = config.work_dir
    assert run is not None
    images = [config.data.root / "val" / "Img"]
    tasks.predict(run, images, tmp_path / "now", [])
    facts = json.loads((run / "model.json").read_text())
    del facts["config"]["decoder"]["pixels"]
    (run / "model.json").write_text(json.dumps(facts))
    tasks.predict(run, images, tmp_path / "before", [])
    for mask in (tmp_path / "now").iterdir():
        assert (tmp_path / "before" / mask.name).read_bytes() == mask.read_bytes()


@pytest.mark.parametrize(
    ("decoder", "epochs", "least"),
    [
        ("light", 10, 60),
        pytest.param("upernet", 3, 35, marks=pytest.mark.slow),  # 40 million weights a step
    ],
)
def test_a_convolutional_backbone(
    config_file: Path, tmp_path: Path, decoder: str, epochs: int, least: float
) -> None:
    """Its stages differ in size, and the cache keeps what the decoder sees of them."""
    given = "backbone={name: timm/resnet10t, gsd: 1}", f"decoder={{kind: {decoder}, channels: 32}}"
    settings = *given, "data.image_size=64", "training.lr=1e-2", f"training.epochs={epochs}"
    run, figures = train(config_file, *settings)
    assert figures["miou"] > least  # one class for all would be 20 at most
    config = read(config_file, *settings)
    assert tasks.test(config)["miou"] == pytest.approx(figures["miou"], abs=0.5)
    outcome = tasks.load(pipeline_for(config), run, torch.device("cpu"))[0].eval()
    # Stages 1 to 4 of 64, 128, 256 and 512 channels at 1/4 to 1/32.
    assert (outcome.layers, outcome.channels, outcome.stride) == ([1, 2, 3, 4], 1024, 16)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        maps = outcome.encode(images)[0]
        stages = outcome.backbone(outcome.normalize(images), [1, 2, 3, 4])[1]
    assert maps.shape == outcome.encoded_shape
    assert torch.equal(F.pixel_shuffle(maps[0], 4), stages[0][0])
    assert torch.equal(F.pixel_shuffle(maps[1, :512], 2), stages[1][0])
    assert torch.equal(maps[2, :256], stages[2][0])
    assert not maps[2, 256:].any()


def test_a_convolutional_backbone_with_weights(config_file: Path, tmp_path: Path) -> None:
    """The statistics of its batch norms stay beneath, like its weights."""
    weights = tmp_path / "resnet.safetensors"
    state = timm.create_model("resnet10t", num_classes=0).state_dict()
    facts = WeightsMetadata(Normalization().mean, Normalization().std, gsd=0.75, image_size=64)
    save_tensors(weights, state, facts.to_metadata())
    given = f"backbone={{name: timm/resnet10t, weights: {weights}}}", "data.image_size=64"
    run, figures = train(config_file, *given, "training.epochs=1")
    assert {name.split(".")[0] for name in load_file(run / "model.safetensors")} == {"decoder"}
    assert tasks.test(read(run / "config.yaml")) == figures


def test_masks_of_georeferenced_images(config_file: Path, tmp_path: Path) -> None:
    run, _ = train(config_file, "training.epochs=1")
    image, _ = draw(1, 40, 50)
    transform = rasterio.transform.from_origin(500_000, 4_000_000, 0.75, 0.75)
    scene = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 40, "width": 50, "dtype": "uint8"}
    with rasterio.open(scene, "w", crs="EPSG:32650", transform=transform, **profile) as target:
        target.write(image.transpose(2, 0, 1))
    tasks.predict(run, [scene], tmp_path / "masks", [])
    with rasterio.open(tmp_path / "masks" / "scene.tif") as mask:
        assert (mask.crs, mask.transform) == (rasterio.CRS.from_epsg(32650), transform)
        assert set(np.unique(mask.read(1))) <= {0, 1, 2}
        assert mask.colormap(1)[0][:3] != mask.colormap(1)[1][:3]


class Killed(Exception):
    pass


@pytest.mark.parametrize("tuning", ["frozen", "full"])
def test_resume_is_bit_identical(
    config_file: Path, tmp_path: Path, tuning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norms' statistics are in the checkpoint too."""
    settings = [f"backbone.tuning={tuning}", "training.steps=5"]
    whole, _ = train(config_file, *settings, f"work_dir={tmp_path / 'whole'}")
    often = "training.checkpoint_minutes=0"
    cut = read(config_file, *settings, often, f"work_dir={tmp_path / 'cut'}")
    original = Trainer._step

    def dying(self: Trainer, *arguments: Any) -> float:
        if self.position.step == 4:
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", dying)
    with pytest.raises(Killed):
        tasks.train(cut)
    monkeypatch.setattr(Trainer, "_step", original)
    tasks.train(cut, resume=True)
    assert len(losses(whole)) == 5
    assert losses(tmp_path / "cut") == losses(whole)
    a, b = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "cut"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.distributed
def test_two_processes(config_file: Path, tmp_path: Path) -> None:
    """They train, and test to the figures and masks of one, though 7 images are 2 batches."""
    settings = "data.batch_size=2", "training.epochs=2", "training.sharding=fsdp"
    options = ["--cfg-options", *settings]
    run = tmp_path / "run"
    processes.run_ranks([TOOLS / "train_ss.py", config_file, *options])
    two = json.loads((run / "test.json").read_text())
    best = max(record["miou"] for record in read_history(run) if record["kind"] == "val")
    assert two["miou"] == pytest.approx(best, abs=0.2)  # the cache holds half precision
    assert tasks.test(read(run / "config.yaml"), out=tmp_path / "one") == two
    assert len(list((tmp_path / "one").rglob("*.png"))) == 7
    two_masks = tmp_path / "two"
    processes.run_ranks([TOOLS / "test_ss.py", run / "config.yaml", "--out", two_masks, "--tta"])
    assert tasks.test(read(run / "config.yaml"), out=tmp_path / "one", tta=True) == json.loads(
        (run / "test.json").read_text()
    )
    for path in (tmp_path / "one").rglob("*.png"):
        assert path.read_bytes() == (two_masks / path.relative_to(tmp_path / "one")).read_bytes()


def test_the_cache_holds_what_encoding_gives(config_file: Path, tmp_path: Path) -> None:
    config = read(config_file)
    torch.manual_seed(0)
    built = build(config.backbone, 56)
    pipeline = SegmentationPipeline(config)
    task = SegmentationTask(built.module, built.normalization, pipeline.classes, config)
    source = pipeline.data(task, built).train
    assert isinstance(source, FeatureSource)
    chips = pipeline.parts.train
    (batch,) = source.load([[(3, 4), (5, 1)]])
    keys = [
        (index, derive_seed(config.training.seed, "view", seed % 2, index))
        for index, seed in ((3, 4), (5, 1))
    ]
    (fresh,) = FileSource(chips, 0, torch.device("cpu")).load([keys])
    assert torch.equal(batch["mask"], fresh["mask"])
    with torch.no_grad():
        expected = task.encode(fresh["image"])
    torch.testing.assert_close(batch["features"], expected, rtol=1e-3, atol=1e-3)
    losses = task.training_loss(batch), task.training_loss(fresh)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-2, atol=1e-2)


def test_a_cache_beyond_the_budget_is_computed(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config_file, "cache.budget_gb=0.0001", "training.epochs=1")
    output = " ".join(capsys.readouterr().out.split())
    assert "the features of 12 images with 2 views take" in output
    assert "more than cache.budget_gb=0.0001: they are computed anew" in output
    assert not list((tmp_path / "features").glob("*.npy"))


def test_validation_images_are_encoded_once(config_file: Path) -> None:
    config = read(config_file, "window.overlap=0.5")
    pipeline = SegmentationPipeline(config)
    built = build(config.backbone, config.data.image_size)
    task = SegmentationTask(built.module, built.normalization, pipeline.classes, config).eval()
    kept = pipeline.data(task, built).val
    assert isinstance(kept, WindowSource)
    files = FileSource(pipeline.parts.val, 0, torch.device("cpu"), ("image", "mask"))
    order = [[0, 1, 2], [6], [5, 3]]
    for batch, expected in zip(kept.load(order), files.load(order), strict=True):
        assert batch["index"].tolist() == expected["index"].tolist()
        for mask, other in zip(batch["mask"], expected["mask"], strict=True):
            assert (mask == other).all()
        maps = [
            torch.stack(list(slide(part, network, 56, 0.5, 5)))
            for image, encoded in zip(expected["image"], batch["encoded"], strict=True)
            for part, network in (([image], task.logits), ([encoded], task.decode))
        ]
        for one, other in zip(maps[::2], maps[1::2], strict=True):
            torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["decoder.kind=upernet", "decoder.layers=[1, 2, 3]"], "4 layers, not 3"),
        (["decoder.layers=[1, 2, 3, 40]"], "layer 40 does not exist"),
        (["decoder.channels=12"], "multiple of 8: 12"),
        (["decoder.class_weights=[1, 2]"], "2 entries for 3 classes"),
        (["backbone.name=timm/resnet18", "backbone.tuning=full", "data.image_size=64"], "no plain"),
        (["data.classes=[wood, field]"], "the value 2"),
        (["data.image_size=50"], "multiple of the backbone's patch size"),
    ],
    ids=lambda x: x[-1] if isinstance(x, list) else "",
)
def test_mistakes_are_one_sentence(config_file: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        train(config_file, *overrides)
    assert "\n" not in str(caught.value)


def test_other_mistakes(config_file: Path, land: Path, tmp_path: Path) -> None:
    config = read(config_file, "training.epochs=1", "backbone.tuning=full", "decoder.layers=[2]")
    with pytest.raises(UserError, match="must hold the last one, 3"):
        tasks.train(config)
    with pytest.raises(UserError, match="masks go into a folder"):
        tasks.test(read(config_file), out=tmp_path / "masks.csv")
    run, _ = train(config_file, "training.epochs=1", f"work_dir={tmp_path / 'one'}")
    both = [land / "train" / "Img", land / "val" / "Img"]
    with pytest.raises(UserError, match="would have the same name"):
        tasks.predict(run, both, tmp_path / "masks", [])
    assert not (tmp_path / "masks").exists()
    published = tmp_path / "head.pth"
    torch.save({"decode_head.conv_seg.bias": torch.zeros(3)}, published)
    with pytest.raises(UserError, match="holds no UPerNet"):
        tasks.test(read(config_file), published)
    assert check(read(config_file))
