"""Who may import whom: downwards only."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "cgeartheye"

# A room may import its own layer, those below, and what every room may: FLOOR.
LAYERS = [
    {"__main__"},
    {"cli", "cli_jlssd"},
    {"demo", "demo_files"},
    {"tasks", "pretraining", "jlssd", "mapping"},
    {"training", "evaluation"},
    {"decoders", "data"},
    {"backbone", "geometry", "config"},
    {"weights"},
]
FLOOR = {"errors", "files", "letters", "__init__"}
# Neighbours in a layer that must not know each other, and rooms below that one must not know.
STRANGERS = {
    "backbone": {"geometry"},
    "geometry": {"backbone", "config"},
    "config": {"backbone", "geometry"},
    "decoders": {"data"},
    "data": {"decoders"},
    "evaluation": {"training", "backbone", "decoders", "data"},
    "training": {"backbone", "decoders"},
}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = names if node.module == "cgeartheye" else [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {m.split(".")[1] for m in modules if m.startswith("cgeartheye.")}
    return rooms


def allowed(name: str) -> set[str]:
    level = next(i for i, layer in enumerate(LAYERS) if name in layer)
    below = set().union(*LAYERS[level:])
    return (below | FLOOR | {"__version__"}) - STRANGERS.get(name, set())


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_downwards(path: Path) -> None:
    name = room(path)
    permitted = FLOOR | {"__version__"} if name in FLOOR else allowed(name)
    assert imported_rooms(path) <= permitted


def test_every_room_has_a_layer() -> None:
    rooms = {room(path) for path in FILES}
    assert rooms <= FLOOR.union(*LAYERS)
    assert {"cli", "training", "backbone"} <= rooms


def test_the_rule_bites() -> None:
    assert "tasks" not in allowed("training")
    assert "data" not in allowed("backbone")
    assert not {"training", "backbone", "data"} & allowed("evaluation")
