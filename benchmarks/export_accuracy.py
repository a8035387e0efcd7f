"""Accuracy lost and speed won by exported models, by task.

    python benchmarks/export_accuracy.py RUN [RUN ...] [--rounds 5] [--batch 4]

RUN is a run directory whose data are still there, such as those of the demo (demo/runs/*), one a
task. Each is exported in every way, int8 calibrated with its training images, and tested on the
test part of its config. Prints for each way the task's figure, how many points it lost against
torch in float32, and windows a second, all in turns, the median of the ratios to torch's. An int8
model that `cgeartheye export` refuses is measured all the same, and marked.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cgeartheye.commands import export as exporting
from cgeartheye.commands import tasks
from cgeartheye.commands.export import export
from cgeartheye.data.datasets.segmentation import MaskedChips
from cgeartheye.export import write as writing
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.console import bar, muted

WAYS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    table = Table("task", "engine", "precision", "figure", "value", "lost", "windows/s", "ratio")
    with bar("measuring", len(asked.runs) * len(WAYS), "exports") as progress:
        for run in asked.runs:
            for row in measure(run, asked.rounds, asked.batch, progress.advance):
                table.add_row(*row)
            table.add_section()
    Console(width=110).print(table)


def measure(run: Path, rounds: int, batch: int, report: Any) -> list[tuple[str, ...]]:
    """Return the rows of a run."""
    own = load(run)
    name, figure = own.config.task.replace("_", " "), own.task.monitor
    models, values, marks = [], [], []
    with tempfile.TemporaryDirectory() as scratch, one_graph():
        for engine, precision in WAYS:
            folder = Path(scratch) / f"{engine}-{precision}"
            with muted():
                marks.append(write(run, engine, precision, folder, calibration(own)))
                models.append(load(folder))
                config = models[-1].files.config
                values.append(tasks.test(config, folder)[figure])
            report()
        rates = speeds(models, rounds, batch)
    rows = []
    for (engine, precision), value, mark, rate in zip(WAYS, values, marks, rates, strict=True):
        ratios = [mine / first for mine, first in zip(rate, rates[0], strict=True)]
        figures = f"{value:.2f}", f"{values[0] - value:+.2f}{mark}"
        speed = f"{statistics.median(rate):.1f}", f"{statistics.median(ratios):.2f}"
        rows.append((name, engine, precision, figure, *figures, *speed))
    return rows


def load(folder: Path) -> tasks.LoadedModel:
    """Load a model on the CPU."""
    return tasks.load_model(folder, [], torch.device("cpu"))


def calibration(model: tasks.LoadedModel) -> list[Path]:
    """Return the training images, of two dates the folder of each."""
    chips = model.pipeline.parts.train
    if not isinstance(chips, MaskedChips):
        return list(chips.paths)
    if model.config.task == "change_detection":
        return [path.parent for path in chips.image_paths[0]]
    return [paths[0] for paths in chips.image_paths]


def write(run: Path, engine: str, precision: str, folder: Path, images: list[Path]) -> str:
    """Export a run, whatever it loses; return a mark where that is refused otherwise."""
    limits = exporting.LEAST_AGREEMENT, exporting.LARGEST_LOSS
    calibrate = images if precision == "int8" else None
    try:
        export(run, engine, precision, calibrate, folder)
        return ""
    except exporting.UserError:
        exporting.LEAST_AGREEMENT, exporting.LARGEST_LOSS = -1.0, 1000.0
        export(run, engine, precision, calibrate, folder)
        return " (refused)"
    finally:
        exporting.LEAST_AGREEMENT, exporting.LARGEST_LOSS = limits


@contextmanager
def one_graph() -> Iterator[None]:
    """Write the ONNX graph of a run once, for all that is made of it: it takes the longest."""
    plain, made = writing.write_onnx, dict[str, bytes]()

    def write(task: Any, task_name: str, side: int, path: Path) -> list[Path]:
        if task_name not in made:
            (written,) = plain(task, task_name, side, path)
            made[task_name] = written.read_bytes()
        path.write_bytes(made[task_name])
        return [path]

    writing.write_onnx = write
    try:
        yield
    finally:
        writing.write_onnx = plain


@torch.inference_mode()
def speeds(models: list[tasks.LoadedModel], rounds: int, batch: int) -> list[list[float]]:
    """Return windows a second of each model, in turns."""
    found: list[list[float]] = [[] for _ in models]
    side = models[0].config.data.image_size
    channels = 6 if models[0].config.task == "change_detection" else 3
    windows = torch.randint(0, 256, (batch, channels, side, side), dtype=torch.uint8)
    for turn in range(rounds + 1):
        for model, rates in zip(models, found, strict=True):
            kind = model.config.training.precision
            with autocast(torch.device("cpu"), kind):
                started = time.perf_counter()
                model.task.outputs(windows)
            if turn:  # the first warms up
                rates.append(batch / (time.perf_counter() - started))
    return found


if __name__ == "__main__":
    main()
