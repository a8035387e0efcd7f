"""The table of published data sets in docs/how-to/datasets.md: `python tools/docs_data_sets.py`."""

from pathlib import Path

from cgeartheye.data.published.registry import DATA_SETS

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "datasets.md"
_BEGIN, _END = "<!-- made by tools/docs_data_sets.py -->\n", "<!-- end -->\n"


def table() -> str:
    """Return a row for each data set, as Markdown."""
    rows = ["| name | task | classes | images | licence |", "| --- | --- | --- | --- | --- |"]
    for one in DATA_SETS.values():
        counts = ", ".join(
            f"{count:,}" if part == "all" else f"{count:,} {one.part_name(part).partition('_')[0]}"
            for part, count in one.images.items()
        )
        name = f"[{one.name}]({one.page})"
        rows.append(f"| {name} | {one.task} | {len(one.classes)} | {counts} | {one.license} |")
    return "\n".join(rows) + "\n"


def made() -> str:
    """Return the page with the table as it should be."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    return head + _BEGIN + table() + _END + rest.partition(_END)[2]


if __name__ == "__main__":
    PAGE.write_text(made(), encoding="utf-8")
