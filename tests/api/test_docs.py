"""The examples of the docs run as they are written, and the notebook from top to bottom."""

import re
from pathlib import Path

import nbformat
import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def test_the_page_on_the_api_runs(fresh_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fresh_workspace)
    page = (DOCS / "api.md").read_text()
    blocks = BLOCK.findall(page)
    assert len(blocks) > 12
    names: dict[str, object] = {"__name__": "page"}
    with torch.random.fork_rng():  # a loop of one's own draws random numbers
        for block in blocks:
            line = page[: page.index(block)].count("\n")
            # A traceback then names the page and its line.
            exec(compile("\n" * line + block, str(DOCS / "api.md"), "exec"), names)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run in this process, which spares the start of a kernel."""
    notebook = nbformat.read(DOCS / "notebooks" / "quickstart.ipynb", nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "notebook"}
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells):
        exec(compile(cell.source, f"cell {number}", "exec"), names)
    assert (tmp_path / "map" / "map.tif").is_file()
    # What readers see was made by running it, from top to bottom.
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
