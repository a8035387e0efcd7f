"""The README is short, its translation keeps step with it, and its start on own data works."""

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from blocks import DOCS, ROOT, blocks_of

PAGES = [ROOT / "README.md", ROOT / "README.zh.md"]


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) < 150


def _headings(path: Path) -> list[str]:
    """Return the level of each heading: their words differ."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"^(#+) ", text, re.M)


def _code(path: Path) -> list[tuple[str, list[str]]]:
    """Return language and lines of each block, without comments, which are translated."""
    return [
        (block.language, [re.sub(r"\s*#.*", "", line) for line in block.text.splitlines()])
        for block in blocks_of(path)
    ]


def _links(path: Path) -> set[str]:
    links = set(re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")))
    return links - {page.name for page in PAGES}


def _rows(path: Path) -> int:
    return len(re.findall(r"^\|", path.read_text(encoding="utf-8"), re.M))


@pytest.mark.parametrize("part", [_headings, _code, _links, _rows])
def test_the_translation_keeps_step(part) -> None:
    assert part(PAGES[0]) == part(PAGES[1])


def test_figures_of_the_weights_are_the_same_everywhere() -> None:
    """The box of both pages repeats figures of docs/benchmarks.md."""
    known = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    for page in PAGES:
        figures = re.findall(r"\d+\.\d %", page.read_text(encoding="utf-8"))
        assert len(figures) > 2
        assert [figure for figure in figures if figure not in known] == []


def test_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in (DOCS / "images").iterdir()) < 300_000
