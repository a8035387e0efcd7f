"""Config files: Python that binds `config`, or YAML; both may be overridden field by field."""

import re
import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cgeartheye.config.base import Section
from cgeartheye.config.jlssd import Jlssd
from cgeartheye.config.pretraining import Pretraining
from cgeartheye.config.renamed import modernize
from cgeartheye.config.schema import KINDS, Config
from cgeartheye.utils.errors import UserError, nearest

Part = TypeVar("Part", bound=Section)

Overrides = Sequence[str] | Mapping[str, Any]
"""Texts `field.subfield=value` with the value in YAML; or values by `field.subfield`, where a
mapping changes the fields that it names."""

# What PyYAML raises, of impossible dates, numbers of 5,000 digits or endless nesting besides.
_NO_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError)


def load(path: Path, overrides: Overrides = ()) -> Config | Pretraining | Jlssd:
    """Read a config file and apply overrides.

    A file that names no `task` is one of scene classification.

    Args:
        path: a `.py` file that binds the name `config` (it is run), or `.yaml` / `.yml` (no code
            is run).
        overrides: texts `field.subfield=value`, the value in YAML (`true`, `1e-4`, `[1, 2]`,
            `null`), or values by `field.subfield`.

    Returns:
        The config; its `work_dir` is always set, to `runs/<file stem>` where the file does not.

    Raises:
        UserError: no such file, an unknown field (with the nearest name), or a value that does
            not fit.
    """
    if not path.is_file():
        raise UserError(f"no config file {path}")
    values = _read_python(path) if path.suffix == ".py" else _read_yaml(path)
    values = _overridden(values, overrides, KINDS.get(_task_of(values)), str(path))
    values["work_dir"] = values.get("work_dir") or Path("runs") / path.stem
    return _validated(values, str(path))


def make(
    fields: Section | Mapping[str, Any], overrides: Overrides = ()
) -> Config | Pretraining | Jlssd:
    """Make a config from one, or from its fields, and apply overrides.

    Args:
        fields: a config, or its fields as a file has them; the keys may be `field.subfield`.
        overrides: see `load`.

    Returns:
        The config; its `work_dir` is `runs/<task>` where nothing sets it.

    Raises:
        UserError: an unknown field (with the nearest name), or a value that does not fit.
    """
    given = _set_fields(fields) if isinstance(fields, BaseModel) else dict(fields)
    task = _task_of(given)
    values = _overridden({}, given, KINDS.get(task), "the config")
    values = _overridden(values, overrides, KINDS.get(task), "the config")
    values["work_dir"] = values.get("work_dir") or Path("runs") / task
    return _validated(values, "the config")


def refuse_other_kinds(config: Config | Pretraining | Jlssd, source: str) -> Config:
    """Return a config of a task as it is.

    Args:
        config: of any kind.
        source: where it comes from, for the message.

    Raises:
        UserError: it is of no task.
    """
    if config.task == "pretraining":
        raise UserError(f"{source} is the config of a pre-training: cgeartheye pretrain {source}")
    if config.task == "jlssd":
        raise UserError(f"{source} is the config of a data set: cgeartheye jlssd build {source}")
    return config


def override(config: Config, overrides: Overrides) -> Config:
    """Return a config with some fields changed; see `load`."""
    values = _overridden(config.model_dump(exclude_unset=True), overrides, type(config), "--set")
    changed = _validated(values | {"task": config.task}, "--set")
    assert isinstance(changed, Config)
    return changed


def read_section(path: Path, kind: type[Part], overrides: Overrides = ()) -> Part:
    """Read a YAML file that holds a section rather than a run, and apply overrides.

    Args:
        path: of the file.
        kind: class of the section.
        overrides: see `load`.

    Raises:
        UserError: no such file, an unknown field, or a value that does not fit.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    values = _overridden(_read_yaml(path), overrides, kind, str(path))
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(_sentence(str(path), error)) from error


def section(kind: type[Part], values: dict[str, Any], overrides: list[str] | None = None) -> Part:
    """Make a part of a config from values and overrides, for a command that takes no config file.

    Args:
        kind: class of the section.
        values: of its fields.
        overrides: `field=value` each, which win over the values.

    Raises:
        UserError: an unknown field, or a value that does not fit.
    """
    values = _overridden(values, overrides, kind, "--set")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(_sentence("--set", error)) from error


def to_yaml(config: Config | Pretraining | Jlssd) -> str:
    """Return the resolved config as YAML that `load` reads back to an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_python(path: Path) -> dict[str, Any]:
    try:
        config = runpy.run_path(str(path)).get("config")
    except ValidationError as error:
        raise UserError(_sentence(str(path), error)) from error
    except Exception as error:
        raise UserError(f"{path} does not run: {type(error).__name__}: {error}") from error
    if not isinstance(config, BaseModel):
        raise UserError(
            f"{path} must bind the name 'config' to a config object, "
            "for example config = SceneClassification(...)"
        )
    return _set_fields(config)


def _set_fields(config: BaseModel) -> dict[str, Any]:
    """Return the fields that were set; defaults are filled in after the overrides."""
    return config.model_dump(exclude_unset=True) | {"task": getattr(config, "task", None)}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise UserError(_yaml_sentence(path, error)) from error
    except _NO_YAML as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold fields such as 'backbone:' and 'data:'")
    return values


def _yaml_sentence(path: Path, error: yaml.MarkedYAMLError) -> str:
    """Return where a YAML file is wrong, with the line."""
    mark, problem = error.problem_mark or error.context_mark, error.problem or error.context
    if mark is None:
        return f"{path} is not YAML: {problem}"
    lines = path.read_text(encoding="utf-8").splitlines()
    line = lines[mark.line].strip()[:100] if mark.line < len(lines) else "the end of the file"
    return f"{path}:{mark.line + 1}:{mark.column + 1} is not YAML: {problem}: {line}"


def _validated(values: dict[str, Any], source: str) -> Config | Pretraining | Jlssd:
    task = _task_of(values)
    if task not in KINDS:
        raise UserError(
            f"{source}: task: '{task}' is none of {', '.join(KINDS)}"
            f"{nearest(str(task), list(KINDS))}"
        )
    try:
        return KINDS[task].model_validate(values | {"task": task})
    except ValidationError as error:
        raise UserError(_sentence(source, error)) from error


def _task_of(values: dict[str, Any]) -> str:
    return str(values.get("task") or "scene_classification")


def _overridden(
    values: dict[str, Any],
    overrides: Overrides | None,
    kind: type[BaseModel] | None,
    source: str,
) -> dict[str, Any]:
    """Apply overrides to values; old names of fields are replaced in both before they meet."""
    values = _modernized(kind, values, source)
    for text, value in _parsed(overrides or ()):
        for part in reversed(text.partition("=")[0].split(".")):
            value = {part: value}
        values = _merged(values, _modernized(kind, value, "--set"), text)
    return values


def _parsed(overrides: Overrides) -> Iterator[tuple[str, Any]]:
    """Yield texts that begin with the dotted name of a field, and the field's value."""
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            if isinstance(value, Mapping):
                yield from _parsed({f"{key}.{name}": inner for name, inner in value.items()})
            elif isinstance(value, Section):
                yield key, value.model_dump(exclude_unset=True)
            else:
                yield key, value
        return
    for text in overrides:
        key, separator, yaml_value = text.partition("=")
        if not separator or not key:
            raise UserError(f"an override is written field.subfield=value, not '{text}'")
        try:
            yield text, yaml.load(yaml_value, Loader=_Loader)
        except _NO_YAML as error:
            raise UserError(f"the value of '{text:.200}' is not YAML") from error


def _merged(
    values: dict[str, Any], override: dict[str, Any], text: str, level: int = 0
) -> dict[str, Any]:
    """Follow the single path of an override, of which `text` is the source, and set its value."""
    ((name, value),) = override.items()
    if level < text.partition("=")[0].count("."):
        inner = values.get(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"'{text}': {name} is a single value, it has no fields")
        value = _merged(inner, value, text, level + 1)
    return values | {name: value}


def _modernized(
    kind: type[BaseModel] | None, values: dict[str, Any], source: str
) -> dict[str, Any]:
    """Replace old names of fields in all sections."""
    if kind is None:
        return dict(values)
    try:
        values = modernize(kind, values)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error
    return {
        name: _modernized(_section_of(kind, name), value, source)
        if isinstance(value, dict)
        else value
        for name, value in values.items()
    }


def _sentence(source: str, error: ValidationError) -> str:
    """Return the first error of a validation as one sentence."""
    # A misspelt field is often also reported as a missing one: report the misspelling.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    place = [str(part) for part in first["loc"]]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        kind = _section_named(error.title)
        elsewhere = [path for path in _paths_to(place[-1], kind) if path != ".".join(place)]
        hint = nearest(place[-1], fields_beside(kind, place[:-1]))
        if elsewhere:
            hint = f" (did you mean {' or '.join(elsewhere[:3])}?)"
        message = f"no such field{hint}"
    where = ".".join(place) or error.title
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{source}: {where}: {message[:1].lower()}{message[1:]}{more}"


def _section_named(name: str) -> type[Section]:
    kinds = [Section]
    for kind in kinds:  # grows while it is read
        kinds += kind.__subclasses__()
    return next(kind for kind in kinds if kind.__name__ == name)


def _paths_to(name: str, kind: type[BaseModel], above: str = "") -> Iterator[str]:
    """Yield where in a section and those in it a field has a name."""
    for own, field in kind.model_fields.items():
        if own == name:
            yield f"{above}{own}"
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _paths_to(name, inner, f"{above}{own}.")


def fields_beside(model: type[BaseModel], place: list[str]) -> list[str]:
    """Return the names of the fields of the model that `place` leads to.

    Args:
        model: where the place begins.
        place: names of fields, each of the model before; none: those of `model`.

    Returns:
        The names; none where the place leads to no model.
    """
    for part in place:
        inner = _section_of(model, part)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _section_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the section that a field holds, if it holds one."""
    field = model.model_fields.get(name)
    annotation = field.annotation if field else None
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers: `1e-4` is a number, not text as in YAML 1.1."""


_Loader.yaml_implicit_resolvers = {
    key: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:float"]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|^[-+]?\.inf$|^\.nan$"
    ),
    list("-+0123456789."),
)
