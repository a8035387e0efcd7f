"""`import cgeartheye` costs nothing and shows every name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cgeartheye as cge

HEAVY = {"torch", "torchvision", "numpy", "rasterio", "pandas", "geopandas", "PIL", "matplotlib"}
HEAVY |= {"pydantic", "yaml", "rich", "scipy", "sklearn", "shapely", "pyproj", "typer"}


def modules_after(*statements: str) -> set[str]:
    """Names of all modules that a new interpreter has after some statements."""
    script = "; ".join([*statements, "import sys; print(*sys.modules)"])
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_else() -> None:
    added = modules_after("import cgeartheye") - modules_after("import importlib, typing")
    assert added <= {"cgeartheye"}


@pytest.mark.parametrize("statement", ["from cgeartheye import UserError", "dir(cgeartheye)"])
def test_light_names_import_no_library(statement: str) -> None:
    found = {name.partition(".")[0] for name in modules_after("import cgeartheye", statement)}
    assert not found & HEAVY


def test_every_name_is_found_and_nothing_else() -> None:
    for name in cge.__all__:
        assert getattr(cge, name) is getattr(cge, name)
    assert set(dir(cge)) == set(cge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'create_model'"):
        cge.create_model  # noqa: B018
    assert issubclass(cge.UserError, ValueError)


def test_a_type_checker_sees_the_names() -> None:
    """The imports for type checkers alone are those that `__getattr__` gives."""
    source = ast.parse(Path(cge.__file__).read_text())
    (block,) = (
        node
        for node in source.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    places = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(places) == set(cge.__all__) - {"__version__"}
    homes = {name: f"cgeartheye.{module}" for name, module in cge._HOME.items()}
    assert places == homes | {"config": "cgeartheye"}
    assert (Path(cge.__file__).parent / "py.typed").exists()
