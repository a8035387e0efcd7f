"""Detection from images to a tested model, on bars of known colours at any angle."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from safetensors.torch import load_file
from tests import processes
from toy_things import CLASSES, draw_things

from cgeartheye.boxes import Detections, from_horizontal, oriented_of, overlap
from cgeartheye.commands import tasks
from cgeartheye.commands.check import check
from cgeartheye.config import ObjectDetection, load
from cgeartheye.data import load_detection_parts
from cgeartheye.metrics.detection.resampling import BoxOutcomes
from cgeartheye.models.backbone import build
from cgeartheye.tasks import model_io
from cgeartheye.tasks.detection.module import DetectionTask, pack, unpack
from cgeartheye.tasks.detection.pipeline import DetectionPipeline
from cgeartheye.tasks.outcomes import read_outcomes
from cgeartheye.tasks.registry import build_task, pipeline_for
from cgeartheye.training.loaders import FeatureSource, FileSource
from cgeartheye.training.run_dir import read_history
from cgeartheye.training.samplers import derive_seed
from cgeartheye.training.trainer import Trainer
from cgeartheye.utils.errors import UserError

TOOLS = Path(__file__).parents[2] / "tools"
pytestmark = pytest.mark.usefixtures("shallow")


def read(config_file: Path, *overrides: str) -> ObjectDetection:
    config = load(config_file, list(overrides))
    assert isinstance(config, ObjectDetection)
    return config


def train(config_file: Path, *overrides: str) -> tuple[Path, dict[str, float]]:
    config = read(config_file, *overrides)
    tasks.train(config)
    assert config.work_dir is not None
    return config.work_dir, json.loads((config.work_dir / "test.json").read_text())


@pytest.mark.parametrize(
    ("boxes", "kind"),
    [
        ("horizontal", "light"),
        pytest.param("horizontal", "dino", marks=pytest.mark.slow),  # as the oriented one
        ("oriented", "light"),
        ("oriented", "dino"),
    ],
)
def test_overfits_two_images(
    things_config: Path, few_things: Path, tmp_path: Path, boxes: str, kind: str
) -> None:
    epochs, lr = {"light": (100, 1e-3), "dino": (50, 4e-3)}[kind]
    run, figures = train(
        things_config,
        *(f"decoder.kind={kind}", f"data.boxes={boxes}", "data.val=train", "data.flips=none"),
        *(f"training.epochs={epochs}", f"training.evaluate_every={epochs}", f"training.lr={lr}"),
        f"data.root={few_things}",
    )
    assert figures["ap50"] > 95
    assert figures["ap75"] > 60
    facts = json.loads((run / "model.json").read_text())
    assert 10 < facts["largest"] < 60
    assert 0 < facts["score"] < 1
    # Intervals and comparisons stand on what the test found in each image.
    outcomes = read_outcomes(run)
    assert isinstance(outcomes, BoxOutcomes)
    for name in outcomes.figures:
        assert outcomes.score(name, np.ones((1, 2))) == pytest.approx(figures[name], abs=1e-6)

    # The boxes in a table are where the objects are.
    tasks.predict(run, [few_things / "images" / "train"], tmp_path / "found.csv", [])
    with (tmp_path / "found.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if float(row["score"]) > 0.3]
    for number in range(2):
        _, corners, labels = draw_things(number, 112, 112)
        mine = [row for row in rows if Path(row["path"]).name == f"t{number}.png"]
        for box, label in zip(corners, labels, strict=True):
            middle = box.mean(0)
            places = [
                np.mean([(float(row[f"x{n}"]), float(row[f"y{n}"])) for n in range(4)], axis=0)
                for row in mine
                if row["class"] == CLASSES[label]
            ]
            assert min(np.hypot(*(place - middle)) for place in places) < 4


@pytest.mark.slow
def test_a_convolutional_backbone(things_config: Path, few_things: Path) -> None:
    _, figures = train(
        things_config,
        *("backbone={name: timm/resnet10t, gsd: 1}", "data.image_size=128", "data.val=train"),
        *("training.epochs=60", "training.evaluate_every=60", "data.flips=none"),
        f"data.root={few_things}",
    )
    assert figures["ap50"] > 50


def test_every_form_of_output(things_config: Path, tmp_path: Path) -> None:
    run, figures = train(things_config, "data.boxes=oriented")
    config = read(run / "config.yaml")
    for name in ("config.yaml", "model.safetensors", "model.json", "report.html"):
        assert (run / name).stat().st_size > 100, name
    assert tasks.test(config, out=tmp_path / "all.json", show_dir=tmp_path / "shown") == figures
    with pytest.raises(UserError, match="finds oriented boxes, the config has horizontal ones"):
        tasks.test(read(things_config, "data.boxes=horizontal"), run)
    boxes = json.loads((tmp_path / "all.json").read_text())
    assert all(box.keys() >= {"image_id", "category_id", "bbox", "score"} for box in boxes)
    assert {path.stem for path in (tmp_path / "shown").rglob("*.jpg")} == {
        f"v{n}" for n in range(5)
    }
    tasks.test(config, out=tmp_path / "dota")
    lines = [line for path in (tmp_path / "dota").iterdir() for line in path.open()]
    assert len(lines) == len(boxes)
    assert all(len(line.split()) == 10 for line in lines)
    assert {path.name for path in (tmp_path / "dota").iterdir()} == {
        f"Task1_{name}.txt" for name in CLASSES
    }
    assert tasks.test(config, tta=True).keys() == figures.keys()


def test_results_carry_the_ids_of_their_coco_file(
    things_config: Path, things: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "things"
    shutil.copytree(things, folder)
    coco = f"data.root={folder}", "data.annotations=Annotations/{part}.json"
    run, _ = train(things_config, *coco)
    config = read(run / "config.yaml")
    found_with_ids(config, 7, 40)
    found_with_ids(config, "image-", "kind-")


def found_with_ids(config: ObjectDetection, *keys: Any) -> None:
    """Number the images and the classes of the file anew, and test."""
    path = config.data.root / "Annotations" / "val.json"
    content = json.loads(path.read_text())
    image, category = (
        {one["id"]: key + type(key)(n) for n, one in enumerate(content[kind])}
        for kind, key in zip(("images", "categories"), keys, strict=True)
    )
    for one in content["images"]:
        one["id"] = image[one["id"]]
    for one in content["categories"]:
        one["id"] = category[one["id"]]
    content["categories"].reverse()
    for one in content["annotations"]:
        one["image_id"], one["category_id"] = image[one["image_id"]], category[one["category_id"]]
    path.write_text(json.dumps(content))
    out = config.data.root / "found.json"
    tasks.test(config, out=out)
    found = json.loads(out.read_text())
    names = {one["id"]: one["file_name"] for one in content["images"]}
    classes = {one["id"]: one["name"] for one in content["categories"]}
    assert {one["image_id"] for one in found} == set(names)
    assert all(names[one["image_id"]] == Path(one["file_name"]).name for one in found)
    assert all(classes[one["category_id"]] == one["category"] for one in found)


def test_boxes_of_georeferenced_images(things_config: Path, things: Path, tmp_path: Path) -> None:
    run, _ = train(things_config, "data.boxes=oriented")
    image, _, _ = draw_things(1, 112, 112)
    transform = rasterio.transform.from_origin(500_000, 4_000_000, 0.75, 0.75)
    profile = {"driver": "GTiff", "count": 3, "height": 112, "width": 112, "dtype": "uint8"}
    scene = tmp_path / "scene.tif"
    with rasterio.open(scene, "w", crs="EPSG:32650", transform=transform, **profile) as target:
        target.write(image.transpose(2, 0, 1))
    low = ["max_detections=5", "data.batch_size=1"]
    tasks.predict(run, [scene, things / "images" / "val" / "v0.png"], tmp_path / "b.geojson", low)
    features = json.loads((tmp_path / "b.geojson").read_text())["features"]
    for feature in features:
        if Path(feature["properties"]["path"]).name == "v0.png":
            assert feature["geometry"] is None
            continue
        ring = np.array(feature["geometry"]["coordinates"][0])
        assert abs(ring[:, 0] - 117).max() < 0.1
        assert abs(ring[:, 1] - 36.14).max() < 0.1
        x, y = ring[:-1].T
        assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0, "counter-clockwise"
    with pytest.raises(UserError, match="have no CRS"):
        tasks.predict(run, [things / "images" / "val"], tmp_path / "c.geojson", [])


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("kind", "tuning"),
    [
        ("dino", "frozen"),
        pytest.param("dino", "lora", marks=pytest.mark.slow),
        ("light", "frozen"),
    ],
)
def test_resume_is_bit_identical(
    things_config: Path, tmp_path: Path, kind: str, tuning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise of the queries is drawn anew from the step's number."""
    settings = [f"backbone.tuning={tuning}", "training.steps=4", f"decoder.kind={kind}"]
    whole, _ = train(things_config, *settings, f"work_dir={tmp_path / 'whole'}")
    often = "training.checkpoint_minutes=0"
    cut = read(things_config, *settings, often, f"work_dir={tmp_path / 'cut'}")
    original = Trainer._step

    def dying(self: Trainer, *arguments: Any) -> float:
        if self.position.step == 3:
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", dying)
    with pytest.raises(Killed):
        tasks.train(cut)
    monkeypatch.setattr(Trainer, "_step", original)
    tasks.train(cut, resume=True)
    a, b = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "cut"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    losses = [
        [record["loss"] for record in read_history(folder) if record["kind"] == "train"]
        for folder in (whole, tmp_path / "cut")
    ]
    assert losses[0] == losses[1]


@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["dino", "light"])
def test_two_processes(things_config: Path, tmp_path: Path, kind: str) -> None:
    """They train, and test to the figures and boxes of one, though 5 images are 2 batches."""
    run = tmp_path / "run"
    options = ["--cfg-options", "data.batch_size=2", "data.boxes=oriented"]
    options.append(f"decoder.kind={kind}")
    processes.run_ranks([TOOLS / "train_obb.py", things_config, *options])
    two = json.loads((run / "test.json").read_text())
    assert tasks.test(read(run / "config.yaml"), out=tmp_path / "one.json") == two
    two_json = tmp_path / "two.json"
    processes.run_ranks([TOOLS / "test_obb.py", run / "config.yaml", "--out", two_json])
    assert json.loads((run / "test.json").read_text()) == two
    assert (tmp_path / "one.json").read_bytes() == two_json.read_bytes()


@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
def test_the_cache_holds_what_encoding_gives(things_config: Path, boxes: str) -> None:
    config = read(things_config, f"data.boxes={boxes}", "data.scale=[0.7, 1.3]", "cache.views=2")
    torch.manual_seed(0)
    built = build(config.backbone, 112)
    pipeline = DetectionPipeline(config)
    task = build_task(pipeline.config, built, pipeline.classes, tta=False)
    data = pipeline.data(task, built)
    assert isinstance(data.train, FeatureSource)
    (batch,) = data.train.load([[(3, 4), (5, 1)]])
    keys = [
        (index, derive_seed(config.training.seed, "view", seed % 2, index))
        for index, seed in ((3, 4), (5, 1))
    ]
    cpu, objects = torch.device("cpu"), ("boxes", "labels", "ignored")
    (fresh,) = FileSource(pipeline.parts.train, 0, cpu, objects).load([keys])
    kept, labels = unpack(batch["objects"])
    for n in range(2):
        torch.testing.assert_close(kept[n], fresh["boxes"][n])
        assert torch.equal(labels[n], fresh["labels"][n])
    with torch.no_grad():
        expected = task.encode(fresh["image"])
    torch.testing.assert_close(batch["features"], expected, rtol=1e-3, atol=1e-3)

    task.eval()
    files = FileSource(pipeline.parts.val, 0, cpu, objects)
    order = [[0, 1, 2], [4]]
    with torch.no_grad():
        for one, other in zip(data.val.load(order), files.load(order), strict=True):
            assert torch.equal(one["index"], other["index"])
            assert torch.equal(one["size"], other["size"])
            for name in objects:
                for a, b in zip(one[name], other[name], strict=True):
                    assert torch.equal(a, b)
            for a, b in zip(task.predict(one), task.predict(other), strict=True):
                torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=2e-3)


def test_packed_objects_come_back() -> None:
    boxes, labels = torch.rand(3, 8) * 100 - 20, torch.tensor([2, 0, 1])
    packed = torch.stack([pack(boxes, labels, 5), pack(boxes[:0], labels[:0], 5)])
    (first, second), (one, two) = unpack(packed)
    assert torch.equal(first, boxes)
    assert torch.equal(one, labels)
    assert second.shape == (0, 8)
    assert len(two) == 0


def test_the_mirror_image_shows_the_same_boxes(things_config: Path) -> None:
    """With `tta` what only the mirror image shows is put at its place in the image."""
    config = read(things_config, "data.boxes=oriented", "backbone.layer_scale=1e-5")
    pipeline = DetectionPipeline(config)
    built = build(config.backbone, 112)
    task = build_task(pipeline.config, built, pipeline.classes, tta=True).eval()
    image = pipeline.parts.val[0]["image"].as_subclass(torch.Tensor)[None]
    with torch.no_grad():
        (plain,), (turned,) = task.predict_windows(image), task.predict_windows(image.flip(-1))
    back = turned.boxes.clone()
    back[:, 0] = 112 - back[:, 0]
    order, other = plain.scores.argsort(stable=True), turned.scores.argsort(stable=True)
    assert len(plain) == len(turned)
    torch.testing.assert_close(plain.scores[order], turned.scores[other])
    torch.testing.assert_close(plain.boxes[order][:, :4], back[other][:, :4], rtol=1e-3, atol=1e-2)
    directions = [torch.cos(2 * angle) for angle in (plain.boxes[order, 4], back[other, 4])]
    torch.testing.assert_close(*directions, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("resize", [True, False])
def test_horizontal_boxes_end_where_the_image_does(things_config: Path, resize: bool) -> None:
    """Also where the network's input goes on, in black; the image has other pixels than it."""
    pipeline = DetectionPipeline(read(things_config, f"data.resize={resize}"))
    task = build_task(
        pipeline.config, build(pipeline.config.backbone, 112), pipeline.classes, tta=False
    ).eval()
    sides = (40, 60) if resize else (80, 100)
    image = torch.zeros(1, 3, *((112, 112) if resize else sides), dtype=torch.uint8)
    wide = Detections(torch.tensor([[-1.0, 2, 112, 112]]), torch.ones(1), torch.zeros(1).long())
    task.predict_windows = lambda images: [wide] * len(images)  # type: ignore[method-assign]
    (found,) = task.predict({"image": image, "size": torch.tensor([sides])})
    left, top, right, bottom = found.boxes[0].tolist()
    assert (left, right, bottom) == (0, sides[1], sides[0])
    assert top == pytest.approx(2 * 60 / 112 if resize else 2)


@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
def test_nothing_is_found_beyond_an_image(things_config: Path, boxes: str) -> None:
    """The network's input is square; what it sees in the black below a flat image is no object."""
    pipeline = DetectionPipeline(read(things_config, f"data.boxes={boxes}"))
    task = build_task(
        pipeline.config, build(pipeline.config.backbone, 112), pipeline.classes, tta=False
    ).eval()
    corners = torch.tensor([[30.0, 2, 50, 12], [30, 18, 50, 60]])  # the image ends at 20
    places = corners if boxes == "horizontal" else from_horizontal(corners)
    preds = Detections(places, torch.ones(2), torch.zeros(2).long())
    task.predict_windows = lambda images: [preds] * len(images)  # type: ignore[method-assign]
    image = torch.zeros(1, 3, 112, 112, dtype=torch.uint8)
    (found,) = task.predict({"image": image, "size": torch.tensor([(40, 224)])})
    torch.testing.assert_close(found.boxes[:, :2], places[:1, :2] * 2)


def test_large_images_are_seen_window_by_window(things_config: Path, things: Path) -> None:
    """As large as a window they give what they give resized; larger ones are covered."""
    settings = ["data.boxes=oriented", "cache.enabled=false"]
    run, _ = train(things_config, *settings)
    resized = tasks.test(read(run / "config.yaml"))
    config = read(run / "config.yaml", "data.resize=false")
    parts = load_detection_parts(config.data)
    assert parts.val[1]["image"].shape == (3, 112, 90)
    tasks.test(config)
    task, _ = tasks.load(pipeline_for(config), run, torch.device("cpu"))
    task.eval()
    image = torch.from_numpy(draw_things(7, 260, 200)[0]).permute(2, 0, 1)
    batch = {"image": [image], "size": torch.tensor([[260, 200]])}
    with torch.no_grad():
        (found,) = task.predict(batch)
    assert found.boxes[:, 1].max() > 150
    assert resized.keys() == {"ap", "ap50", "ap75", "ap_11", "ap50_11"}


def test_metrics_take_the_truth_as_it_is_annotated(things_config: Path) -> None:
    """A task that predicts the truth is perfect, whatever the images' sizes."""
    for boxes in ("horizontal", "oriented"):
        config = read(things_config, f"data.boxes={boxes}")
        pipeline = DetectionPipeline(config)
        built = build(config.backbone, 112)
        task = DetectionTask(built.module, built.normalization, pipeline.classes, config)
        source = FileSource(
            pipeline.parts.val, 0, torch.device("cpu"), ("boxes", "labels", "ignored")
        )
        metrics = task.metrics()
        for batch in source.load([[0, 1], [2, 3, 4]]):
            exact = [
                oriented_of(one.unflatten(-1, (4, 2))) if task.oriented else one
                for one in batch["boxes"]
            ]
            found = [
                detections(truth, labels)
                for truth, labels in zip(exact, batch["labels"], strict=True)
            ]
            task.measure(metrics, found, batch)
        assert metrics.compute()["ap50"] == pytest.approx(100)


def detections(boxes: torch.Tensor, labels: torch.Tensor) -> Detections:
    return Detections(boxes, torch.linspace(0.9, 0.5, len(labels)), labels)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["decoder.layers=[1, 2]"], "the query detector takes 3 layers, not 2"),
        (["decoder.layers=[1, 2, 40]"], "layer 40 does not exist"),
        (["decoder.heads=5"], "multiple of 4 and of heads"),
        (["decoder={kind: light, channels: 48}"], "light head must be a multiple of 32: 48"),
        (["decoder={kind: light, layers: []}"], "must name one at least"),
        (["decoder={kind: light, layers: [40]}"], "layer 40 does not exist"),
        (["data.image_size=100"], "multiple of the backbone's patch size 14"),
        (["data.image_size=14"], "greater than or equal to 28"),
        (["data.classes=[red, blue]"], "'white'"),
        (
            ["backbone.name=timm/resnet18", "backbone.tuning=full", "data.image_size=224"],
            "no plain",
        ),
        (["backbone.tuning=full", "decoder.layers=[0, 1, 2]"], "must hold the last one, 3"),
    ],
    ids=lambda x: x[-1] if isinstance(x, list) else "",
)
def test_mistakes_are_one_sentence(
    things_config: Path, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        train(things_config, *overrides)
    assert "\n" not in str(caught.value)


def test_more_objects_than_queries_are_reported_and_trained_on(
    things_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(things_config, "decoder.queries=2", "max_detections=1")
    output = " ".join("".join(capsys.readouterr()).split())
    assert "decoder.queries=2 is fewer than the objects of an image" in output
    assert "max_detections=1 keeps fewer boxes" in output


def test_the_light_head_finds_every_object_once(things_config: Path) -> None:
    """As many boxes as are asked for, and no two of a class on one another."""
    config = read(things_config, "decoder.kind=light", "data.boxes=oriented", "max_detections=50")
    pipeline = DetectionPipeline(config)
    torch.manual_seed(0)
    task = build_task(config, build(config.backbone, 112), pipeline.classes, tta=False).eval()
    image = pipeline.parts.val[0]["image"].as_subclass(torch.Tensor)[None]
    torch.nn.init.constant_(task.decoder.classify.bias, 0.0)  # type: ignore[union-attr, arg-type]
    with torch.no_grad():
        (found,) = task.predict_windows(image)
    assert 0 < len(found) <= 50
    assert (found.scores.diff() <= 0).all()
    for label in range(len(CLASSES)):
        boxes = found.boxes[found.labels == label]
        assert (overlap(boxes, boxes).triu(1) <= task.coder.nms_threshold).all()


def test_a_training_part_without_any_object(things_config: Path, things: Path) -> None:
    images = [{"id": n, "file_name": f"v{n}.png"} for n in range(5)]
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": [], "categories": categories}
    (things / "nothing.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="an object, so there is nothing to learn"):
        train(things_config, "data.annotations=nothing.json", "data.images=images/val")


def test_other_mistakes(things_config: Path, things: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ending must be one of"):
        tasks.test(read(things_config), out=tmp_path / "masks.txt")
    published = tmp_path / "head.pth"
    torch.save({"bbox_head.fc.bias": torch.zeros(3)}, published)
    with pytest.raises(UserError, match="holds no DINO"):
        tasks.test(read(things_config), published)
    assert check(read(things_config))
    assert Image.open(things / "images" / "val" / "v0.png").size == (112, 112)


def test_a_published_checkpoint_is_read(things_config: Path, tmp_path: Path) -> None:
    """A detector beside its backbone, under mmdetection's and mmpretrain's names."""
    run, _ = train(things_config, "backbone.tuning=full")
    model = model_io.read_model(run)
    tensors = {
        name.removeprefix("decoder.") if name.startswith("decoder.") else name: tensor
        for name, tensor in model.tensors.items()
    }
    published = tmp_path / "published.pth"
    torch.save({"state_dict": tensors}, published)
    tasks.test(read(run / "config.yaml"), out=tmp_path / "ours.json")
    config = read(
        things_config,
        *("backbone.gsd=0.75", "backbone.normalization={}", f"work_dir={tmp_path}/p"),
        "cache.enabled=false",  # it keeps features in half precision
    )
    tasks.test(config, published, out=tmp_path / "theirs.json")
    assert (tmp_path / "ours.json").stat().st_size > 100
    assert (tmp_path / "ours.json").read_bytes() == (tmp_path / "theirs.json").read_bytes()
    other = config.decoder.model_copy(update={"queries": 30})
    with pytest.raises(UserError, match=r"of another shape: query_embedding\.weight"):
        tasks.test(config.model_copy(update={"decoder": other}), published)
