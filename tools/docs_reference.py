"""The pages docs/reference/{commands,config}.md: `python tools/docs_reference.py`."""

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command

from cgeartheye.cli.main import app
from cgeartheye.config import BenchmarkTable
from cgeartheye.config.base import Section
from cgeartheye.config.schema import KINDS

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_PLAIN = {
    Any: "anything",
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    Path: "path",
}


def commands() -> str:
    """Return the page of all commands."""
    lines = [
        "# Command line",
        "",
        "Made from the code; `cgeartheye COMMAND --help` prints the same. A mistake ends with one "
        "sentence and exit code 2; `--debug` before or behind any command shows the traceback.",
        "",
        *_command(get_command(app), "cgeartheye", None),
    ]
    return "\n".join(lines) + "\n"


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    """Yield the lines of a command, or of a group and all its commands."""
    context = command.make_context(name.split()[-1], [], parent, resilient_parsing=True)
    inner = getattr(command, "commands", {})
    if parent is not None:
        yield from (f"{'##' if inner or name.count(' ') == 1 else '###'} `{name}`", "")
        yield from (_text(command.help or ""), "")
    if not inner:
        records = [(param, param.get_help_record(context)) for param in command.params]
        shown = [(param, record) for param, record in records if record and not param.hidden]
        words = [
            _name(param) if param.param_type_name == "argument" else record[0]
            for param, record in shown
            if param.required or param.param_type_name == "argument"
        ]
        yield from ("```text", " ".join([name, *words, "[OPTIONS]"]), "```", "")
        rows = [
            (
                f"`{_name(param) if param.param_type_name == 'argument' else record[0]}`",
                _text(record[1].strip()),
            )
            for param, record in shown
        ]
        yield from _table(("argument or option", "meaning"), rows)
    for key, found in inner.items():
        yield from _command(found, f"{name} {key}", context)


def _name(argument: Any) -> str:
    """Return what the usage calls an argument, in brackets where it may be left out."""
    name: str = argument.metavar or argument.name.upper()
    name += "..." if argument.nargs == -1 and "..." not in name else ""
    return name if argument.required else f"[{name}]"


def config() -> str:
    """Return the page of all sections of a config and their fields."""
    lines = [
        "# Config fields",
        "",
        "Made from the code. A config is a YAML file with `task:` and the sections below, or "
        "Python that binds the name `config` to one of these classes of `cgeartheye.config`; "
        "`--set section.field=value` overrides any field, and `cgeartheye config show` prints "
        "all of them. A misspelt field is an error that names the nearest.",
        "",
    ]
    done: set[type[BaseModel]] = set()
    for task, kind in KINDS.items():
        lines += [f"## task: {task}", ""]
        lines += _section(kind, done, "")
    lines += ["## Tables of `cgeartheye benchmark`", ""]
    lines += _section(BenchmarkTable, done, "")
    return "\n".join(lines) + "\n"


def _section(kind: type[BaseModel], done: set[type[BaseModel]], prefix: str) -> Iterator[str]:
    """Yield a section, then those inside of it that are not on the page yet."""
    done.add(kind)
    if prefix:
        yield from (f"### {kind.__name__}", "")
    yield from (_text((kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")), "")
    rows = [
        (f"`{name}`", type_name(field), _default(field), _text(field.description or ""))
        for name, field in kind.model_fields.items()
    ]
    yield from _table(("field", "type", "default", "meaning"), rows)
    for name, field in kind.model_fields.items():
        for inner in sections_in(field.annotation):
            if inner not in done:
                yield from _section(inner, done, f"{prefix}{name}.")


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a field's type names."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [found for inner in typing.get_args(annotation) for found in sections_in(inner)]


def type_name(field: FieldInfo) -> str:
    """Return the type of a field in words, with its bounds."""
    bounds = [
        f"{sign} {getattr(item, name):g}"
        for item in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join([_words(field.annotation), *bounds])


def _words(annotation: Any) -> str:
    """Return a type in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if annotation is type(None):
        return "none"
    if origin is typing.Annotated:
        return _words(inner[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return f"list of {_words(inner[0])}"
    if origin is tuple:
        return f"{len(inner)} × {_words(inner[0])}"
    if origin is dict:
        return f"{_words(inner[0])}: {_words(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    raise TypeError(f"no words for {annotation}")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "**needed**"
    if isinstance(value, BaseModel):
        changed = ", ".join(
            f"{name}: {item}" for name, item in value.model_dump(exclude_unset=True).items()
        )
        return f"`{{{changed}}}`" if changed else "its defaults"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _table(head: tuple[str, ...], rows: list[Any]) -> Iterator[str]:
    if rows:
        yield "| " + " | ".join(head) + " |"
        yield "| " + " | ".join("---" for _ in head) + " |"
        yield from ("| " + " | ".join(row) + " |" for row in rows)
        yield ""


def _text(text: str) -> str:
    """Return text in which nothing is markup but code in backticks."""
    pieces = text.split("`")
    for number in range(0, len(pieces), 2):
        for sign in "*[]_":
            pieces[number] = pieces[number].replace(sign, "\\" + sign)
        pieces[number] = pieces[number].replace("<", "&lt;")
    return "`".join(pieces)


def pages() -> dict[Path, str]:
    """Return both pages as they should be."""
    return {REFERENCE / "commands.md": commands(), REFERENCE / "config.md": config()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
