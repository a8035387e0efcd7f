"""Pages that MkDocs makes while it builds the site: notebooks, pages of the root.

Nothing of this is written into the repository.
"""

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    pages = {
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "]("),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "]("),
    }
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text = Path(str(notebook.abs_src_path)).read_text()
        pages[notebook.src_uri.replace(".ipynb", ".md")] = _markdown(json.loads(text))
        files.remove(notebook)
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links to notebooks, and to pages of the root, to the pages that are made of them."""
    return markdown.replace(".ipynb)", ".md)").replace("../CONTRIBUTING.md", "contributing.md")


def _markdown(notebook: dict[str, Any]) -> str:
    """Return a notebook as a page, with the output it was saved with."""
    pieces = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            pieces.append(source)
            continue
        pieces.append(f"```python\n{source}\n```")
        pieces += [text for output in cell["outputs"] if (text := _output(output))]
    return "\n\n".join(pieces) + "\n"


def _output(output: dict[str, Any]) -> str:
    """Return what a cell left, in the richest form that it has."""
    data = output.get("data", {})
    if "image/png" in data:
        return (
            f'<img alt="output" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
        )
    if "text/html" in data:
        # A blank line would end the block of HTML.
        lines = "".join(data["text/html"]).splitlines()
        return "<div class='output'>" + "\n".join(line for line in lines if line.strip()) + "</div>"
    text = "".join(output.get("text") or data.get("text/plain") or "")
    return f"```text\n{text.rstrip()}\n```" if text and output.get("name") != "stderr" else ""
