"""Who may import whom: the table of rooms."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "cgeartheye"

# A room may import itself, the package's version, and what stands beside it here. A name with a
# dot is one room of its own in a larger one.
ROOMS = {
    "utils": set(),
    "boxes": set(),
    "weights": set(),  # the files of weights that ship
    "config": {"utils"},
    "geo": {"utils"},
    "synthetic": {"utils"},
    "metrics": {"boxes", "utils"},
    "inference": {"geo", "boxes", "utils"},
    "models": {"boxes", "config", "weights", "utils"},
    "training": {"config", "utils"},
    "data": {"boxes", "config", "geo", "utils"},
    "reports": {"metrics", "boxes", "utils"},
    "embeddings": {"geo", "utils"},
    "mapping": {"embeddings", "geo", "inference", "boxes", "utils"},
}
ROOMS["pretraining"] = {"data", "models", "training", "metrics", "reports", "config", "utils"}
ROOMS["pretraining"] |= {"geo"}  # it packs georeferenced rasters
ROOMS["tasks"] = ROOMS["pretraining"] | {"inference", "boxes"}
ROOMS["jlssd"] = (ROOMS["pretraining"] | {"pretraining", "weights"}) - {"metrics"}
ROOMS["export"] = {"tasks", "models", "inference", "boxes", "config", "utils"}
ROOMS["commands"] = set(ROOMS) - {"weights", "synthetic"}
# Its cells are runs of the commands, by processes of a cluster where there is one.
ROOMS["benchmark"] = {"commands", "tasks", "data", "models", "training", "metrics", "reports"}
ROOMS["benchmark"] |= {"scale", "config", "utils"}
# A card describes a model, its weights and what a test found.
ROOMS["apps"] = {
    "commands",
    "tasks",
    "data",
    "models",
    "geo",
    "reports",
    "boxes",
    "config",
    "utils",
}
ROOMS["scale"] = {"commands", "mapping", "jlssd", "geo", "training", "config", "utils"}
ROOMS["jobs"] = {"apps", "scale", "commands", "training", "geo", "config", "utils"}
ROOMS["serve"] = {"jobs", "apps", "embeddings", "geo", "config", "utils"}
# The demo measures its maps of drawn scenes itself: metrics and boxes.
ROOMS["demo"] = {"commands", "geo", "mapping", "reports", "synthetic", "config", "utils"}
ROOMS["demo"] |= {"metrics", "boxes"}
ROOMS["api"] = set(ROOMS) - {"demo", "serve", "jobs", "scale", "benchmark"}
ROOMS["cli"] = set(ROOMS) - {"api"}
ROOMS["__main__"] = {"cli"}
ROOMS["__init__"] = {"api", "config", "utils"}  # the Python API, imported lazily

FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported_rooms(source: str) -> set[str]:
    """Return the rooms that a file imports anywhere, inside functions too."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or node.level):
            assert node.level == 0, f"relative import in line {node.lineno}"
            whole = node.module == "cgeartheye"
            modules = [f"{node.module}.{a.name}" for a in node.names] if whole else [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {m.split(".")[1] for m in modules if m.startswith("cgeartheye.")}
    return rooms - {"__version__"}


def forbidden(room: str, source: str) -> set[str]:
    return imported_rooms(source) - ROOMS[room] - {room}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_only_what_its_row_names(path: Path) -> None:
    assert not forbidden(room_of(path), path.read_text())


def test_every_room_has_a_row() -> None:
    assert {room_of(path) for path in FILES} <= set(ROOMS)


def test_no_two_rooms_import_each_other() -> None:
    for room in set(ROOMS) - {"__init__"}:
        assert not {other for other in ROOMS[room] if room in ROOMS[other]}


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("mapping", "from cgeartheye.tasks import registry"),
        ("mapping", "from cgeartheye.config import Config"),
        ("tasks", "def f():\n    from cgeartheye.mapping.run import map_scene"),
        ("jlssd", "import cgeartheye.mapping.pipeline as pipeline"),
        ("utils", "from cgeartheye import boxes"),
    ],
)
def test_the_rule_bites(room: str, source: str) -> None:
    assert forbidden(room, source)
