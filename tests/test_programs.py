"""Programs beside the package call what there is: they are run by hand, and rarely."""

import ast
import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(
    path for folder in ("benchmarks", "tools") for path in (ROOT / folder).glob("*.py")
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_names_that_a_program_imports_exist(program: Path) -> None:
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cgeartheye"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                known = hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}")
                assert known, f"{program.name}: {node.module} has no {alias.name}"
