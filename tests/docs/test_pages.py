"""Checks of what every page claims: its links, its commands, its configs."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

sys.path.append(str(Path(__file__).parent))

from blocks import DOCS, ROOT, Block, blocks_of, commands_of

from cgeartheye.cli.main import app
from cgeartheye.config import BenchmarkTable
from cgeartheye.config.schema import KINDS

PAGES = sorted(DOCS.rglob("*.md"))
ALL = [ROOT / "README.md", ROOT / "README.zh.md", ROOT / "CONTRIBUTING.md", *PAGES]
LINK = re.compile(r"(?<!`)\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
ids = {"ids": lambda path: str(path.relative_to(ROOT))}


@pytest.mark.parametrize("page", ALL, **ids)
def test_links_lead_somewhere(page: Path) -> None:
    """In a plain checkout, as GitHub shows it; mkdocs --strict checks those of the site."""
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in _anchors(place), f"{page.name}: {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """Return the addresses within a page: its headings as GitHub writes them, and ids in HTML."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    plain = [re.sub(r"\]\([^)]*\)|[^\w\- ]", "", heading).strip() for heading in headings]
    return {one.lower().replace(" ", "-") for one in plain} | set(re.findall(r'id="([^"]+)"', text))


def test_the_menu_names_every_page() -> None:
    text = re.sub(r"!!python/\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = set(re.findall(r"[\w/-]+\.(?:md|ipynb)", str(yaml.safe_load(text)["nav"])))
    there = {str(page.relative_to(DOCS)) for page in PAGES}
    assert there <= named
    assert len(named) == len(set(named))


def test_the_install_page_has_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = (DOCS / "how-to" / "install.md").read_text(encoding="utf-8").split("\n| ")[2:]
    named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row.partition(" | ")[0])}
    assert named == set(extras["optional-dependencies"])


@pytest.mark.parametrize("page", ALL, **ids)
def test_commands_are_those_of_the_command_line(page: Path) -> None:
    """Their names, options and numbers of arguments; nothing runs."""
    for block in blocks_of(page):
        if block.language == "bash":
            for command in commands_of(block.text):
                _parse(command)


def _parse(command: str) -> None:
    words = shlex.split(command, comments=True)
    if "cgeartheye" in words:  # also behind torchrun -m, or a loop's do
        words = words[words.index("cgeartheye") + 1 :]
        for stop in ("|", "||", "&&", ";", "done"):
            words = words[: words.index(stop)] if stop in words else words
        command_or_group = get_command(app)
        while hasattr(command_or_group, "commands"):
            if words[0].startswith("-"):
                return
            known = command_or_group.commands
            words, name = (words[1:], words[0]) if words[0] in known else (words, "run")
            command_or_group = known[name]
        command_or_group.make_context("cgeartheye", words)


@pytest.mark.parametrize("page", ALL, **ids)
def test_configs_are_valid(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "yaml":
            _validate(block, page)


def _validate(block: Block, page: Path) -> None:
    values = yaml.safe_load(block.text)
    task = values.get("task", "scene_classification")
    if {"backbone", "data"} <= set(values) or task in {"jlssd", "pretraining"}:
        KINDS[task].model_validate(values)
        return
    if "backbones" in values:
        BenchmarkTable.model_validate(values)
        return
    # A part of a config: its sections are those of one kind of run at least.
    fitting = [kind for kind in KINDS.values() if set(values) <= set(kind.model_fields)]
    assert fitting, f"{page.name}, line {block.line}"
