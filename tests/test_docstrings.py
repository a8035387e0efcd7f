"""Docstrings of public functions: arguments, errors, and how they begin."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "cgeartheye"
FILES = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


def public_functions(node: ast.AST) -> Iterator[tuple[Function, bool]]:
    """Functions and methods that others may call, and whether they are methods."""
    for child in getattr(node, "body", []):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from ((function, True) for function, _ in public_functions(child))
        elif isinstance(child, Function) and not child.name.startswith("_"):
            yield child, False


def parameters(function: Function, is_method: bool) -> list[str]:
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    static = any(
        isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list
    )
    return names[1:] if is_method and not static else names


def is_command(function: Function) -> bool:
    """Return whether typer makes help of the parameters, each of which has its own."""
    return "typer." in ast.unparse(function.args) or any(
        "command(" in ast.unparse(decorator) for decorator in function.decorator_list
    )


def raises_user_error(function: Function) -> bool:
    raised = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise)]
    return any(isinstance(e, ast.Call) and ast.unparse(e.func) == "UserError" for e in raised)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_explain_their_arguments_and_errors(path: Path) -> None:
    missing = []
    for function, is_method in public_functions(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.get_docstring(function) or ""
        if is_command(function) or text.startswith("See `"):  # where the contract has them
            continue
        if len(parameters(function, is_method)) >= 3 and "Args:" not in text:
            missing.append(f"{function.name}: Args")
        if raises_user_error(function) and "Raises:" not in text:
            missing.append(f"{function.name}: Raises")
    assert not missing


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, Documented)]
    assert not [text for text in texts if re.match(r"(What|How|Where)\b", text)]
