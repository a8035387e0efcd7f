"""A table of backbones, data sets, protocols and seeds: `cgeartheye benchmark` against each cell
alone.

Ours is the whole table, as a user runs it. The peer runs each cell in a new interpreter with
nothing kept from the others: `train` with the cell's config, or one probe. One seed of each
backbone, data set and protocol is run alone and its time counts for all of its seeds; its figure
must be ours to the last digit. (The command `probe`, which makes eight probes of one encoding, is
between the two.)

python benchmarks/benchmark_table.py TABLE OUT [--set FIELD=VALUE] [--datasets NAME ...]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table

from cgeartheye.benchmark.cells import BenchmarkCell, Plan, plan
from cgeartheye.config import BenchmarkTable, read_section

ALONE = """
import json, sys
from pathlib import Path
from cgeartheye.config import load, make
from cgeartheye.commands import probe, tasks
config = make(load(Path(sys.argv[1])), {"work_dir": Path(sys.argv[2]), "cache.folder": None})
kind = json.loads(sys.argv[3])
if kind:
    (figure,) = probe.probe(config, [probe.Probe(**kind)]).figures.values()
    figures = {"top1": figure}
else:
    figures = tasks.train(config)
Path(sys.argv[2], "figures.json").write_text(json.dumps(figures))
"""


def run(arguments: list[str]) -> float:
    """Run a process of Python and return its seconds."""
    begin = time.perf_counter()
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(ended.stdout[-2000:] + ended.stderr[-2000:])
    return time.perf_counter() - begin


def alone(cell: BenchmarkCell, folder: Path) -> tuple[float, bool]:
    """Run a cell by itself; return its seconds, and whether its figures are those of the table."""
    kind = vars(cell.probe) if cell.probe else None
    config = str(cell.folder / "config.yaml")
    seconds = run(["-c", ALONE, config, str(folder), json.dumps(kind)])
    figures = json.loads((folder / "figures.json").read_text())
    ours = json.loads((cell.folder / "cell.json").read_text())["figures"]
    return seconds, all(figures[name] == value for name, value in ours.items() if value is not None)


def rows(planned: Plan) -> dict[str, list[BenchmarkCell]]:
    """Return the finished cells of each data set and protocol."""
    found: dict[str, list[BenchmarkCell]] = {}
    for cell in planned.cells:
        if "figures" in json.loads((cell.folder / "cell.json").read_text()):
            found.setdefault(f"{cell.dataset}, {cell.protocol}", []).append(cell)
    return found


def main() -> None:
    """Run the table, then cells alone, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--datasets", nargs="*", help="only these, by name")
    given = parser.parse_args()
    table = given.table
    if given.datasets:
        values = yaml.safe_load(table.read_text())
        values["datasets"] = {name: values["datasets"][name] for name in given.datasets}
        given.out.mkdir(parents=True, exist_ok=True)
        table = given.out / given.table.name
        table.write_text(yaml.safe_dump(values))
    place = given.out / "table"
    overrides = [argument for field in given.set for argument in ("--set", field)]
    command = ["-m", "cgeartheye", "benchmark", str(table), "--out", str(place), *overrides]
    ours = run(command)
    planned = plan(read_section(table, BenchmarkTable, given.set), place)
    shown = Table("cells", "number", "seconds alone, a cell", "all of them", "same figures")
    total = 0.0
    for name, cells in rows(planned).items():
        # The first seed of each backbone.
        first = list({cell.backbone: cell for cell in reversed(cells)}.values())
        timed = [
            alone(cell, given.out / "alone" / f"{name}-{n}" / "run") for n, cell in enumerate(first)
        ]
        mean = sum(seconds for seconds, _ in timed) / len(timed)
        total += mean * len(cells)
        same = all(equal for _, equal in timed)
        shown.add_row(
            name,
            str(len(cells)),
            f"{mean:.1f}",
            f"{mean * len(cells):.0f}",
            "yes" if same else "NO",
        )
        print(f"{name}: {mean:.1f} s a cell alone, same figures: {same}", flush=True)
    shown.add_row("", "", "each alone", f"{total:.0f}", "")
    shown.add_row("", "", "the table", f"{ours:.0f}", "")
    shown.add_row("", "", "ratio", f"{total / ours:.1f}", "")
    shown.caption = (
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    )
    Console().print(shown)


if __name__ == "__main__":
    main()
