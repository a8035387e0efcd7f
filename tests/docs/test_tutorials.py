"""Every shell and Python block of the tutorials runs as it is written.

The slow ones too: pytest -m slow tests/docs
"""

import sys
from functools import cache
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from blocks import DOCS, ROOT, blocks_of, run_page

from cgeartheye import synthetic

TUTORIALS = [*sorted((DOCS / "tutorials").glob("*.md")), DOCS / "how-to" / "few-clicks.md"]
make_world = cache(synthetic.make_world)  # one world is enough: it cannot be changed


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, beside what the repository brings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synthetic, "make_world", make_world)
    for name in ("config", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(page: Path, workspace: Path) -> None:
    run_page(page, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_with_its_slow_blocks(page: Path, workspace: Path) -> None:
    run_page(page, slow=True)


def test_blocks_name_their_language() -> None:
    known = {"bash", "python", "yaml", "text"}
    for page in TUTORIALS:
        assert {block.language for block in blocks_of(page)} <= known, page
