"""Old names of options: each is read as the new one, with a note, and stands in no help."""

from typing import Any

import pytest
import typer

from cgeartheye.cli.main import app
from cgeartheye.cli.renamed import OPTIONS

NEEDED = {
    "map": ["run", "scene.tif", "--out", "map"],
    "pretrain pack": ["images"],
    "jlssd design": ["--regions", "r", "--landcover", "l", "--elevation", "e"],
    "jlssd curate": ["chips.parquet", "--backbone", "tiny"],
}
VALUES = {
    "--vector-format": ["gpkg"],
    "--date-labels": ["a", "b"],
    "--coregister": [],
}
RENAMES = [(c, old, new) for c, table in OPTIONS.items() for old, new in table.items()]


def find(command: str) -> Any:
    found: Any = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]
    return found


@pytest.mark.parametrize(("command", "old", "new"), RENAMES)
def test_an_old_option_is_the_new_one(
    command: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, value = find(command), VALUES.get(new, ["70"])
    rest = list(NEEDED[command])
    if command == "jlssd design" and new != "--num-places":
        rest += ["--num-places", "9"]
    expected = found.make_context(command, [*rest, new, *value])
    assert capsys.readouterr().out == ""
    read = found.make_context(command, [*rest, old, *value])
    assert read.params == expected.params
    output = " ".join(capsys.readouterr().out.split())
    assert f"{old} is now called {new}" in output
    if len(value) == 1:
        joined = found.make_context(command, [*rest, f"{old}={value[0]}"])
        assert joined.params == expected.params
    names = {name for parameter in found.params for name in parameter.opts}
    assert new in names
    assert old not in names
    if command == "jlssd curate":  # its only option must be given
        return
    assert f"{old} " not in found.get_help(expected)
