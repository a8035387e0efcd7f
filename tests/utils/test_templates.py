import sys
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from cgeartheye.utils.templates import render


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "some_pages/templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "page.html").write_text(
        "<b>{{ text }}</b>\n{% if facts %}\n{{ facts | tojson }}{% endif %}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_pages", raising=False)
    return "some_pages"


def test_values_are_escaped_and_json_cannot_leave_its_script(package: str) -> None:
    page = render(package, "page.html", text="<i>&", facts={"a": "</script>", "b": [1, 2]})
    assert page == '<b>&lt;i&gt;&amp;</b>\n{"a":"\\u003c/script\\u003e","b":[1,2]}'


def test_a_value_that_is_forgotten_is_an_error(package: str) -> None:
    with pytest.raises(UndefinedError, match="facts"):
        render(package, "page.html", text="x")
