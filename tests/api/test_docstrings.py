"""The examples in the docstrings of the API run as they are written."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import cgeartheye as cge

FUNCTIONS = (
    "create_backbone",
    "embed_raster",
    "extract_features",
    "load_model",
    "map_raster",
    "search",
    "train",
)
OTHERS = ("Model.predict", "Preprocessing")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples_of(name: str) -> list[doctest.DocTest]:
    found: object = cge
    for part in name.split("."):
        found = getattr(found, part)
    tests = doctest.DocTestFinder(recurse=False).find(found, name, globs={})
    return [test for test in tests if test.examples]


@pytest.mark.parametrize("name", FUNCTIONS + OTHERS)
def test_the_example_runs(
    name: str, fresh_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fresh_workspace)
    (example,) = examples_of(name)
    messages: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=messages.append)
    assert not result.failed, "".join(messages)


def test_every_public_function_has_an_example() -> None:
    public = {name for name in cge.__all__ if inspect.isfunction(getattr(cge, name))}
    assert public == set(FUNCTIONS)


def test_docstrings_have_no_example_beside_those_that_run() -> None:
    folder = Path(cge.__file__).parent / "api"
    for path in folder.glob("*.py"):
        module = importlib.import_module(f"cgeartheye.api.{path.stem}")
        for test in doctest.DocTestFinder().find(module, module.__name__):
            name = test.name.removeprefix(f"{module.__name__}.")
            assert not test.examples or name in FUNCTIONS + OTHERS, test.name
