"""A finished table for the terminal, in Markdown, CSV and LaTeX."""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from cgeartheye.benchmark.grid import LEGEND, GridCell, failures, provenance, rows
from cgeartheye.benchmark.page import write_page
from cgeartheye.benchmark.summary import Summary, published_figure
from cgeartheye.reports.sections import FIGURES
from cgeartheye.utils.console import log_info, show
from cgeartheye.utils.io import write_text

_COLUMNS = (
    *("protocol", "backbone", "dataset", "figure", "mean", "deviation", "seeds", "low", "high"),
    *("published", "seconds", "memory_bytes", "learned_parameters", "backbone_parameters"),
    *("encode_ms", "encode_seconds", "run", "error", "weights", "table"),
)


def write_outputs(summary: Summary, out: Path) -> None:
    """Write `table.md`, `table.csv`, `table.tex` and `report.html`, and show the table.

    Args:
        summary: of the cells.
        out: folder of the benchmark.
    """
    write_text(out / "table.md", as_markdown(summary))
    write_text(out / "table.csv", as_csv(summary))
    write_text(out / "table.tex", as_latex(summary))
    write_page(summary, out / "report.html")
    table = Table(*map(escape, _header(summary)), caption=LEGEND, caption_justify="left")
    for row in rows(summary):
        cells = [f"[bold]{escape(c.text)}[/]" if c.best else escape(c.text) for c in row.cells]
        table.add_row(escape(row.protocol), escape(row.backbone), *cells, row.rank)
    show(table)
    for name, sentence in failures(summary).items():
        log_info(f"{name}: {sentence}")
    for name, text in provenance(summary).items():
        log_info(f"{name}: {text[:16]}")
    log_info(f"report: {out / 'report.html'}, and table.md, table.csv, table.tex beside it")


def as_markdown(summary: Summary) -> str:
    """Return the table with links to the runs, its failures and hashes."""

    def shown(cell: GridCell) -> str:
        text = f"**{cell.full}**" if cell.best else cell.full
        link = cell.link(summary.out)
        return f"[{text}]({link.replace(' ', '%20')})" if link else text

    lines = [_pipes(_header(summary)), _pipes(["---"] * len(_header(summary)))]
    lines += [
        _pipes([row.protocol, row.backbone, *map(shown, row.cells), row.rank])
        for row in rows(summary)
    ]
    lines += ["", LEGEND, ""]
    lines += [f"- {name}: {sentence}" for name, sentence in failures(summary).items()]
    lines += [f"- {name}: `{text}`" for name, text in provenance(summary).items()]
    return "\n".join(lines) + "\n"


def as_csv(summary: Summary) -> str:
    """Return a line for each protocol, backbone and data set, with all that is known of it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for (protocol, backbone, dataset), entry in summary.entries.items():
        figures = [entry.mean, entry.deviation, len(entry.values), entry.low, entry.high]
        figures += [published_figure(summary.plan, dataset, "frozen"), entry.seconds]
        figures += [entry.memory, entry.learned, entry.parameters]
        figures += [entry.encode_ms, entry.encode_seconds]
        writer.writerow(
            [
                *(protocol, backbone, dataset, entry.figure),
                *("" if math.isnan(figure) else repr(figure) for figure in figures),
                entry.folder.relative_to(summary.out),
                next(iter(entry.errors), ""),
                *(summary.plan.weights[backbone], summary.plan.digest),
            ]
        )
    for dataset, sentence in summary.plan.missing.items():
        writer.writerow(["", "", dataset, *[""] * 14, sentence, "", summary.plan.digest])
    return stream.getvalue()


def as_latex(summary: Summary) -> str:
    """Return a `tabular` in the style of booktabs."""
    columns = "ll" + "r" * len(summary.datasets) + "r"
    lines = [
        *(f"% {name}: {text}" for name, text in provenance(summary).items()),
        f"% {LEGEND}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        _ampersands(map(_tex, _header(summary))),
    ]
    above = None
    for row in rows(summary):
        lines += ["\\midrule"] * (row.protocol != above)
        above = row.protocol
        cells = [f"\\textbf{{{_tex(c.full)}}}" if c.best else _tex(c.full) for c in row.cells]
        lines.append(_ampersands([_tex(row.protocol), _tex(row.backbone), *cells, row.rank]))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _header(summary: Summary) -> list[str]:
    figures = [(name, summary.figure(name)) for name in summary.datasets]
    names = [
        f"{name}, {FIGURES.get(figure, figure)}" if figure else name for name, figure in figures
    ]
    return ["protocol", "backbone", *names, "mean rank"]


def _pipes(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"


def _ampersands(texts: Iterable[str]) -> str:
    return f"{' & '.join(texts)} \\\\"


def _tex(text: str) -> str:
    text = re.sub(r"([&%$#_{}])", r"\\\1", text)
    return text.replace("±", "$\\pm$").replace("≈", "$\\approx$")
