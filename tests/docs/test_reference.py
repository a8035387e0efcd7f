"""The generated reference names every command, option and field."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from tools import docs_data_sets, docs_reference
from typer.main import get_command

from cgeartheye.cli.main import app
from cgeartheye.config.schema import KINDS


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    for key, found in inner.items():
        yield from _commands(found, f"{name} {key}")
    if not inner:
        yield name, command


def test_every_option_of_every_command() -> None:
    page = docs_reference.commands()
    found = dict(_commands(get_command(app), "cgeartheye"))
    assert {"cgeartheye train", "cgeartheye pretrain pack", "cgeartheye jlssd cut"} <= set(found)
    for name, command in found.items():
        part = page.partition(f"`{name}`\n")[2].partition("\n#")[0]
        for param in command.params:
            if param.param_type_name == "option" and not param.hidden:
                assert param.opts[0] in part, f"{name} {param.opts[0]}"
                assert param.help.split(".")[0].split("[")[0].split("<")[0].split("_")[0] in part


def _sections(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield kind
    for field in kind.model_fields.values():
        for inner in docs_reference.sections_in(field.annotation):
            yield from _sections(inner)


def test_every_field_of_every_section() -> None:
    page = docs_reference.config()
    for task, kind in KINDS.items():
        assert f"## task: {task}\n" in page
        for section in set(_sections(kind)) - {kind}:
            heading = f"### {section.__name__}\n"
            assert page.count(heading) == 1
            part = page.partition(heading)[2].partition("\n#")[0]
            for name in section.model_fields:
                assert f"| `{name}` |" in part, f"{section.__name__}.{name}"


def test_the_pages_are_in_step() -> None:
    """Else: python tools/docs_reference.py."""
    for path, text in docs_reference.pages().items():
        assert path.read_text(encoding="utf-8") == text, path.name


def test_types_are_words() -> None:
    page = docs_reference.config()
    assert "| `tuning` | `frozen`, `lora`, `full` | `frozen` |" in page
    assert "| `lr` | number, > 0 | `0.0001` |" in page
    assert "typing." not in page


def test_the_table_of_data_sets_is_in_step() -> None:
    """Else: python tools/docs_data_sets.py."""
    assert docs_data_sets.PAGE.read_text(encoding="utf-8") == docs_data_sets.made()
