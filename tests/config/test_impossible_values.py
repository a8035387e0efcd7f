"""Values that PyYAML or Python cannot hold are one sentence."""

import pytest

from cgeartheye.config.loader import load
from cgeartheye.utils.errors import UserError

GOOD = "data: {root: x, image_size: 224}\nbackbone: {name: tiny}\n"


@pytest.mark.parametrize(
    "text",
    [
        "a: 2020-99-99",
        "[" * 20_000,
        f"a: {'9' * 5000}",
        "a: !!int ''",
        "a: !!bool x",
        "a: !!timestamp x",
        "? [a]\n: b",
        f"task: [a]\n{GOOD}",
        f"task: {{a: 1}}\n{GOOD}",
        f"1: 2\n{GOOD}",
        f"{GOOD}work_dir: [1]",
    ],
)
def test_in_a_file(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs=2020-99-99",
        f"training.epochs={'9' * 5000}",
        "data.classes=[]",
        "data.classes=[a, ' ']",
        'data.classes=["\\ud800"]',
        "data.root=[1]",
        "data.root=\ud800",
    ],
)
@pytest.mark.parametrize("task", ["scene_classification", "object_detection"])
def test_as_an_override(tmp_path, override, task):
    path = tmp_path / "c.yaml"
    path.write_text(f"task: {task}\n{GOOD}")
    with pytest.raises(UserError) as caught:
        load(path, [override])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
