from pathlib import Path

import pytest
import yaml

from cgeartheye.config import SceneClassification, load, to_yaml
from cgeartheye.utils.errors import UserError

CONFIGS = sorted((Path(__file__).parents[2] / "config").rglob("*.py"))
PYTHON = """
from cgeartheye.config import Backbone, SceneClassification, SceneData
config = SceneClassification(backbone=Backbone(name="tiny"), data=SceneData(root="chips"))
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PYTHON)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_published_configs_load_and_survive_yaml(path: Path, tmp_path: Path) -> None:
    config = load(path)
    assert config.work_dir == Path("runs") / path.stem
    again = tmp_path / "config.yaml"
    again.write_text(to_yaml(config))
    assert load(again) == config


def test_all_seven_published_scene_configs_are_there() -> None:
    names = {path.stem for path in CONFIGS if path.parent.name == "SceneClassification"}
    aid = {f"CGEarthEye-{s}-518-AID" for s in ("Small", "Base", "Large", "Huge", "Giant")}
    assert aid | {"CGEarthEye-Giant-224-AID", "CGEarthEye-Giant-518-RESISC45"} <= names


def test_overrides_reach_every_depth_and_keep_the_rest(config_file: Path) -> None:
    config = load(
        config_file,
        ["training.lr=1e-3", "data.classes=[a, b]", "backbone.weights=null", "work_dir=x/y"],
    )
    assert config.training.lr == 1e-3
    assert config.data.classes == ("a", "b")
    assert config.data.root == Path("chips")
    assert config.work_dir == Path("x/y")


@pytest.mark.parametrize(
    ("text", "value"),
    [("random", "random"), ("./random", Path.cwd() / "random"), ("x.pth", Path("x.pth"))],
)
def test_random_weights_and_a_file_of_that_name(
    config_file: Path, tmp_path: Path, text: str, value: object
) -> None:
    config = load(config_file, [f"backbone.weights={text}"])
    assert config.backbone.weights == value
    again = tmp_path / "config.yaml"
    again.write_text(to_yaml(config))
    assert load(again) == config


@pytest.mark.parametrize(("text", "number"), [("1e-4", 1e-4), ("2", 2.0), (".5", 0.5), ("1.", 1.0)])
def test_numbers_are_numbers(config_file: Path, text: str, number: float) -> None:
    assert load(config_file, [f"training.lr={text}"]).training.lr == number


def test_yaml_and_python_say_the_same(config_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    values = {
        "task": "scene_classification",
        "backbone": {"name": "tiny"},
        "data": {"root": "chips"},
    }
    path.write_text(yaml.safe_dump(values))
    assert load(path) == load(config_file)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainin.lr=1", "did you mean 'training'"),
        ("training.lrr=1", "did you mean 'lr'"),
        ("backbone.lora.rnk=2", "did you mean 'rank'"),
        ("training.lr=-1", "training.lr"),
        ("training.lr=quick", "training.lr"),
        ("data.train=only.txt", "train and val go together"),
        ("data.crop_area=[0.5, 0.2]", "two rising shares"),
        ("data.stretch=[9, 1]", "two rising values"),
        ("data.resize=100", "must not be smaller than image_size"),
        ("training.lr", "field.subfield=value"),
        ("training.lr.x=1", "no fields"),
        ("data.batch_size=0", "data.batch_size"),
    ],
)
def test_mistakes_are_one_sentence(config_file: Path, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load(config_file, ["training.lr=1.0", override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "backbone: [", "is not YAML"),
        ("a.yaml", "5", "must hold fields"),
        ("a.yaml", "!!python/object/apply:os.system ['false']", "is not YAML"),
        ("a.py", "x = 1", "must bind the name 'config'"),
        ("a.py", "1 / 0", "ZeroDivisionError"),
        ("a.py", PYTHON.replace("root", "rot"), "did you mean 'root'"),
    ],
)
def test_broken_files_are_one_sentence(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_cannot_be_changed(config_file: Path) -> None:
    config = load(config_file)
    assert isinstance(config, SceneClassification)
    with pytest.raises(ValueError, match="frozen"):
        config.label_smoothing = 0.0


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("epochs=2", "no such field (did you mean training.epochs?)"),
        ("image_size=98", "no such field (did you mean data.image_size?)"),
        ("backbone.rank=4", "no such field (did you mean backbone.lora.rank?)"),
        ("training.epoch=2", "no such field (did you mean 'epochs'?)"),
    ],
)
def test_a_field_in_the_wrong_place_is_led_to_its_own(
    config_file: Path, override: str, hint: str
) -> None:
    with pytest.raises(UserError) as caught:
        load(config_file, [override])
    assert str(caught.value).endswith(hint)


def test_an_error_in_yaml_has_its_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("backbone: {name: tiny}\ndata:\n  root: [chips\n  batch_size: 4\n")
    with pytest.raises(UserError) as caught:
        load(path)
    place, _, rest = str(caught.value).removeprefix(f"{path}:").partition(" is not YAML: ")
    assert place == "4:13"
    assert rest.endswith(": batch_size: 4")
