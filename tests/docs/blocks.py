"""The fenced blocks of a page, and how they are run as a reader would.

A block is what its language is: `yaml title="mine.yaml"` is a file that the page asks for, `python`
runs in one interpreter for the whole page, `bash` line by line. `<!-- slow -->` in the line before
a block leaves it to the tests that are marked so.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cgeartheye import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(
    r"(?P<slow><!-- slow -->\n)?^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n"
    r"(?P<text>.*?)^```$",
    re.M | re.S,
)
_SHELL = set("|&;<>$*(){}!`")  # what only a shell understands


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page where the text begins."""

    language: str
    text: str
    line: int
    title: str | None
    slow: bool


def blocks_of(path: Path) -> list[Block]:
    page = path.read_text(encoding="utf-8")
    return [
        Block(
            found["language"],
            found["text"],
            page[: found.start("text")].count("\n") + 1,
            found["title"],
            found["slow"] is not None,
        )
        for found in _BLOCK.finditer(page)
    ]


def commands_of(text: str) -> Iterator[str]:
    """Yield the commands of a shell block, whose long lines end in a backslash."""
    for line in text.replace("\\\n", " ").splitlines():
        if shlex.split(line, comments=True):
            yield line


def run_page(path: Path, slow: bool) -> None:
    """Run the blocks of a page in the current folder; without `slow`, those not marked so."""
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks_of(path):
        if slow or not block.slow:
            run_block(block, path, names)


def run_block(block: Block, path: Path, names: dict[str, object]) -> None:
    """Run a block of a page, Python with `names`; write one that has a title."""
    if block.title:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        # A traceback then names the page and its line.
        text = "\n" * (block.line - 1) + block.text
        exec(compile(text, str(path), "exec"), names)
    elif block.language == "bash":
        for command in commands_of(block.text):
            _run(command)


def _run(command: str) -> None:
    """Run a command: ours in this process, which spares its start."""
    words = shlex.split(command, comments=True)
    ours = words[0] == "cgeartheye" or (words[0] == "python" and words[1].startswith("tools/"))
    if not ours or _SHELL & set(command.partition(" #")[0]):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src")])}
        environment["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ["PATH"]]
        )
        subprocess.run(["bash", "-euc", command], check=True, env=environment)
        return
    try:
        if words[0] == "cgeartheye":
            cli.main(words[1:])
        else:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", words[1:])
                patch.syspath_prepend(str(ROOT / "tools"))
                runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise AssertionError(f"exit code {ended.code}: {command}") from ended
