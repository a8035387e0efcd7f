"""Application models: published, listed, moved, refused; a map by name."""

import json
import os
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pystac
import pystac.validation
import pytest
import rasterio
import torch
from PIL import Image
from pystac.extensions.mlm import MLMExtension
from safetensors import safe_open
from stac_model.schema import MLModelProperties

import cgeartheye as cge
import toy_runs
from cgeartheye.apps import examples
from cgeartheye.apps.card import CARD, Card, id_of, read_card
from cgeartheye.apps.fit import examine
from cgeartheye.apps.publish import publish
from cgeartheye.apps.registry import FACTS, WEIGHTS, Registry, find_run
from cgeartheye.cli.main import main
from cgeartheye.config import make
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import json_text


@pytest.fixture(scope="module")
def registry(land_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    publish(land_run, "Land, 0.75 m", "Three kinds of land.", "CC-BY-4.0", registry=folder)
    return Registry(folder)


def test_what_is_published_is_whole(registry: Registry, land_run: Path) -> None:
    card = registry.card("land-0-75-m")
    test = json.loads((land_run / "test.json").read_text())
    assert card.figures == test
    assert card.measured_on == (
        f"validation part of {land_run.parent.name}, on which nothing was chosen: "
        "the last epoch was tested"
    )
    assert (card.classes, card.gsd, card.window, card.dates) == (toy_runs.LAND, 0.75, 56, 1)
    with safe_open(registry.path(card.id) / WEIGHTS, "pt") as file:
        count = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    task = cge.load_model(land_run).loaded.task
    assert count == sum(t.numel() for t in task.state_dict().values())
    assert card.parameters == sum(p.numel() for p in task.parameters())
    thumbnail = Image.open(registry.path(card.id) / "thumbnail.jpg")
    assert thumbnail.size == (70, 56)


def test_the_list_names_the_part_that_the_figures_are_of(
    registry: Registry, land_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["apps", "list", "--registry", str(registry.folder)])
    assert not done.value.code
    listed = " ".join(re.findall(r"[\w.,-]+", capsys.readouterr().out))
    assert "its test" not in listed
    assert "validati" in listed  # folded to the width


def test_no_path_of_this_machine_is_published(registry: Registry, land_run: Path) -> None:
    for name in (CARD, FACTS):
        text = (registry.path("land-0-75-m") / name).read_text()
        assert str(land_run.parent.parent) not in text
        assert str(Path.home()) not in text


def test_the_card_is_an_item_of_stac_and_its_model_extension(registry: Registry) -> None:
    item = json.loads((registry.path("land-0-75-m") / CARD).read_text())
    # The schema of the Item itself is in pystac; that of the extension is not, but its authors
    # have a validating model of it.
    core = pystac.Item.from_dict(item)
    pystac.validation.JsonSchemaSTACValidator()._validate_from_uri(
        {**item, "stac_extensions": []}, pystac.STACObjectType.ITEM, _core_schema()
    )
    fields = {k: v for k, v in item["properties"].items() if k.startswith("mlm:")}
    read = MLModelProperties.model_validate(fields)
    assert read.total_parameters == registry.card("land-0-75-m").parameters
    assert [one.description for one in read.output[0].classes] == list(toy_runs.LAND)
    assert MLMExtension.has_extension(core)
    assert core.assets["weights"].roles == ["mlm:model", "mlm:weights", "data"]


def _core_schema() -> str:
    return "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"


def test_a_map_by_the_name_is_that_of_the_run(
    registry: Registry, land_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CGEARTHEYE_APPS", str(registry.folder))
    monkeypatch.chdir(tmp_path)
    scene = toy_runs.land_scene(tmp_path / "scene.tif")
    for run, out in (("land-0-75-m", "by-name"), (str(land_run), "by-run")):
        with pytest.raises(SystemExit, match="0"):
            main(["map", run, str(scene), "--out", out])
    maps = []
    for folder in ("by-name", "by-run"):
        with rasterio.open(Path(folder) / "map.tif") as file:
            maps.append(file.read())
    np.testing.assert_array_equal(*maps)
    assert cge.load_model("land-0-75-m").classes == toy_runs.LAND


def test_a_zip_makes_the_same_application_elsewhere(registry: Registry, tmp_path: Path) -> None:
    registry.export("land-0-75-m", tmp_path / "land.zip")
    other = Registry(tmp_path / "other")
    assert other.take(tmp_path / "land.zip") == registry.card("land-0-75-m")
    assert other.take(registry.path("land-0-75-m"), replace=True).id == "land-0-75-m"
    for part in (WEIGHTS, FACTS, CARD, "thumbnail.jpg"):
        first, second = (r.path("land-0-75-m") / part for r in (registry, other))
        assert first.read_bytes() == second.read_bytes()
    images = np.random.default_rng(0).integers(0, 255, (2, 56, 56, 3), np.uint8)
    here, there = (cge.load_model(r.path("land-0-75-m")).predict(images) for r in (registry, other))
    for one, another in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.mask, another.mask)
    other.remove("land-0-75-m")
    assert other.ids() == []
    assert [path.name for path in other.folder.iterdir()] == []


def test_what_is_no_application_is_refused(registry: Registry, tmp_path: Path) -> None:
    whole = tmp_path / "whole.zip"
    registry.export("land-0-75-m", whole)
    other = Registry(tmp_path / "other")

    def changed(name: str, change: object) -> Path:
        made = tmp_path / f"{len(list(tmp_path.iterdir()))}.zip"
        with zipfile.ZipFile(whole) as old, zipfile.ZipFile(made, "w") as new:
            for member in old.namelist():
                text = change(old.read(member)) if member == name else old.read(member)  # type: ignore[operator]
                if text is not None:
                    new.writestr(member, text)
        return made

    def first_byte_changed(text: bytes) -> bytes:
        return text[:-1] + bytes([text[-1] ^ 1])

    (tmp_path / "text.zip").write_text("nothing")
    for source, words in (
        (tmp_path / "gone.zip", "No such file"),
        (tmp_path / "text.zip", "not a zip file"),
        (changed(WEIGHTS, first_byte_changed), "not the one of its card"),
        (changed(FACTS, lambda _: None), "model.json is missing"),
        (changed(CARD, lambda _: None), "No such file"),
        (changed(CARD, lambda text: text.replace(b'"cgeartheye:window": 56', b'"a": 1')), "window"),
        (changed(CARD, lambda text: text.replace(b'"land-0-75-m"', b'"../x"')), "id"),
    ):
        with pytest.raises(UserError, match=words):
            other.take(source)
        assert other.ids() == []
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("../beside.txt", "x")
    with pytest.raises(UserError, match=r"holds '\.\./beside.txt'"):
        other.take(tmp_path / "more.zip")
    assert not (tmp_path / "beside.txt").exists()


def test_publishing_fails_whole(
    land_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(land_run, "Land", registry=tmp_path)
    before = (tmp_path / "land" / CARD).read_bytes()
    with pytest.raises(UserError, match="already: replace it with --replace"):
        publish(land_run, "Land", registry=tmp_path)
    monkeypatch.setattr("cgeartheye.apps.publish.write_card", _full)
    with pytest.raises(UserError, match="disk is full"):
        publish(land_run, "Land", registry=tmp_path, replace=True)
    assert (tmp_path / "land" / CARD).read_bytes() == before
    assert os.listdir(tmp_path) == ["land"]


def _full(*_: object) -> None:
    raise UserError("the disk is full")


def test_mistakes_are_one_sentence(land_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no id can be made of the name '耕地'"):
        publish(land_run, "耕地", registry=tmp_path)
    publish(land_run, "耕地", name="cropland", registry=tmp_path)
    assert read_card(tmp_path / "cropland").title == "耕地"
    with pytest.raises(UserError, match="'Not so' is no id"):
        publish(land_run, "x", name="Not so", registry=tmp_path)
    with pytest.raises(UserError, match="did you mean 'cropland'"):
        find_run(Path("croplant"), tmp_path)
    with pytest.raises(UserError, match=r"no application 'x' in .*: it has cropland"):
        Registry(tmp_path).path("x")
    assert find_run(Path("a/b"), tmp_path) == Path("a/b")


def test_a_model_that_was_not_tested_has_no_figures(
    land_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(land_run, tmp_path / "run"))
    (run / "test.json").unlink()
    card = publish(run, "Land", registry=tmp_path / "apps")
    assert (card.figures, card.measured_on) == ({}, None)
    assert "was not tested" in capsys.readouterr().out


def test_backbone_weights_in_a_file_go_along(tmp_path: Path) -> None:
    torch.manual_seed(3)
    backbone = cge.create_backbone("tiny", pretrained=False)
    torch.save(backbone.state_dict(), tmp_path / "own.pth")
    (tmp_path / "land").mkdir()
    run = toy_runs.train_land(tmp_path / "land")
    # The same run on weights of a file of the user's: moved away, the application works on.
    config = (run / "config.yaml").read_text()
    assert "weights: random" in config
    own = tmp_path / "own.yaml"
    own.write_text(
        config.replace("weights: random", f"weights: {tmp_path / 'own.pth'}")
        .replace("normalization: null", "normalization: {mean: [100, 101, 102], std: [50, 51, 52]}")
        .replace("gsd: null", "gsd: 0.5", 1)
        .replace(str(run), str(tmp_path / "other"))
    )
    trained = cge.train(own, progress=False)
    publish(trained.path, "Land", registry=tmp_path / "apps")
    image = np.random.default_rng(0).integers(0, 255, (56, 56, 3), np.uint8)
    before = cge.load_model(trained.path).predict(image)[0].mask
    (tmp_path / "own.pth").unlink()
    with pytest.raises(UserError):
        cge.load_model(trained.path)
    after = cge.load_model(tmp_path / "apps" / "land").predict(image)[0].mask
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("gsd", "words"), [(1.5, "too small here"), (0.05, "far finer")])
def test_a_scene_that_does_not_fit(
    registry: Registry, tmp_path: Path, gsd: float, words: str
) -> None:
    card = registry.card("land-0-75-m")
    scene = toy_runs.land_scene(tmp_path / "scene.tif", gsd=gsd)
    (problem,) = examine(card, [scene]).problems
    assert words in problem


def test_a_scene_that_fits(registry: Registry, tmp_path: Path) -> None:
    card: Card = registry.card("land-0-75-m")
    scene = toy_runs.land_scene(tmp_path / "scene.tif")
    fit = examine(card, [scene])
    assert fit.ok
    assert fit.square_km == pytest.approx(112 * 168 * 0.75**2 / 1e6, rel=2e-3)  # UTM's scale
    assert fit.pixels == pytest.approx(112 * 168, rel=2e-3)
    (problem,) = examine(card, [scene], [scene]).problems
    assert "sees one date" in problem
    Image.new("RGB", (40, 40)).save(tmp_path / "plain.png")
    (problem,) = examine(card, [tmp_path / "plain.png"]).problems
    assert "no CRS" in problem


def test_change_and_objects_are_published_too(
    change_run: Path, things_run: Path, tmp_path: Path
) -> None:
    change = publish(change_run, "Change", "What changed.", registry=tmp_path)
    things = publish(things_run, "Things", "Bars.", registry=tmp_path)
    assert (change.dates, things.dates) == (2, 1)
    for card in (change, things):
        assert (tmp_path / card.id / "thumbnail.jpg").exists()
        item = card.to_stac()
        fields = {k: v for k, v in item["properties"].items() if k.startswith("mlm:")}
        MLModelProperties.model_validate(fields)
        read = Card.from_stac(json.loads(json_text(item)), tmp_path)
        assert read.model_dump_json() == card.model_dump_json()  # NaN is null in both


def test_ids() -> None:
    assert id_of("Roads, 0.2 m") == "roads-0-2-m"
    assert id_of("--A  b_") == "a-b"
    assert len(id_of("x" * 200)) == 63


def test_the_models_of_the_demo_are_examples(land_run: Path, tmp_path: Path) -> None:
    from cgeartheye.demo import run as world

    demo = tmp_path / "demo"
    demo.mkdir()
    (demo / "report.html").write_text("done before")
    for name in (world.CLASSIFIER, world.SEGMENTER, world.DETECTOR, world.FINDER):
        shutil.copytree(land_run, demo / name)
    registry = tmp_path / "apps"
    with pytest.raises(SystemExit, match="0"):
        main(["apps", "examples", "--demo", str(demo), "--registry", str(registry)])
    cards = Registry(registry).cards()
    assert [card.id for card in cards] == [
        "drawn-change",
        "drawn-land-cover",
        "drawn-objects",
        "drawn-scenes",
    ]
    assert all("of no use on real images" in card.description for card in cards)


def test_examples_of_real_data_are_learned_where_the_data_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for n in range(2):
            mask = np.zeros((64, 64), np.uint8)
            mask[:, 20 + 6 * n : 40] = 1
            pixels = np.where(mask[..., None], 200, 60) + random.integers(0, 30, (64, 64, 3))
            for kind, array in (("Img", pixels.astype(np.uint8)), ("Label", mask)):
                path = tmp_path / "data" / "EPFL-roads" / part / kind / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    (tmp_path / "data" / "UCMerced").mkdir()  # without images
    small = [
        replace(
            one,
            fields={
                **one.fields,
                "data": {**one.fields["data"], "image_size": 56},
                "training": {"steps": 8, "lr": 1e-2, "evaluate_every": 4, "device": "cpu"},
            },
        )
        for one in examples.EXAMPLES
    ]
    monkeypatch.setattr(examples, "EXAMPLES", small)
    place = tmp_path / "data", tmp_path / "runs", tmp_path / "apps"
    cards = examples.publish_examples(*place)
    assert [card.id for card in cards] == ["roads"]
    assert cards[0].figures == json.loads(
        (tmp_path / "runs" / "EPFL-roads" / "test.json").read_text()
    )
    assert cards[0].measured_on.startswith("test part (test)")
    assert "its test found" in cards[0].description
    # A second call publishes what was learned, without learning it again.
    weights = tmp_path / "runs" / "EPFL-roads" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    examples.publish_examples(*place, replace=True)
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="is no folder"):
        examples.publish_examples(tmp_path / "absent", *place[1:])


def test_the_configs_of_the_examples_are_valid(tmp_path: Path) -> None:
    for one in examples.EXAMPLES:
        config = make(one.fields, {"data.root": tmp_path, "work_dir": tmp_path / "run"})
        assert config.backbone.tuning == "frozen"
        assert config.backbone.name == "tiny"
