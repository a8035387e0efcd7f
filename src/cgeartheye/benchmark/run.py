"""A table is run cell by cell; the files on the disk record which are done."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from cgeartheye.benchmark import worker
from cgeartheye.benchmark.cells import Plan, plan
from cgeartheye.benchmark.outputs import write_outputs
from cgeartheye.benchmark.processes import processes
from cgeartheye.benchmark.schedule import Pair, Schedule
from cgeartheye.benchmark.summary import Summary, summarize
from cgeartheye.config import BenchmarkTable, read_section
from cgeartheye.config.loader import Overrides
from cgeartheye.utils.console import bar, warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import lock, write_text


def benchmark(
    path: Path,
    overrides: Overrides = (),
    out: Path | None = None,
    resume: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
) -> Summary:
    """Run the cells of a table and write what comes of them.

    Each cell is a run as `train` or `probe` makes it, in a process of its own. The features of a
    backbone and a data set are encoded once, before their cells. A cell that fails is noted; one
    whose process is killed is started once more.

    Args:
        path: of the table's file; see `BenchmarkTable`.
        overrides: of its fields.
        out: folder of the benchmark; none: `runs/<file stem>`.
        resume: go on with what the folder holds; cells that failed, or whose data have changed,
            are run again.
        workers: processes at once, each with a GPU of its own where there are several; none: 1, or
            as many as a cluster has GPUs, or pairs of cores.
        cluster: the address of a Ray cluster that runs the cells, or `local`; all its machines
            share the folders.

    Raises:
        UserError: a table that does not validate, a folder that another benchmark uses or that
            holds cells of other settings, or a cluster that does not answer.
    """
    table = read_section(path, BenchmarkTable, overrides)
    out = out or Path("runs") / path.stem
    with _locked(out):
        planned = plan(table, out)
        done = _done(planned, out, resume)
        write_text(
            out / "table.yaml", yaml.safe_dump(table.model_dump(mode="json"), sort_keys=False)
        )
        for sentence in planned.missing.values():
            warn(sentence)
        _run(planned, done, workers, cluster)
        summary = summarize(planned, out)
        write_outputs(summary, out)
    return summary


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    try:
        held = lock(out / ".lock")
    except BlockingIOError as error:
        raise UserError(
            f"another benchmark is running in {out}: wait for it, or name another --out"
        ) from error
    with held:
        yield


def _done(planned: Plan, out: Path, resume: bool) -> set[Path]:
    """Return the folders of the cells that are finished; clear those whose data have changed."""
    if not resume and (out / "cells").exists():
        raise UserError(
            f"{out} already holds a benchmark: add --resume to go on with it, or name another --out"
        )
    done, stale, unread = set(), [], []
    for cell in planned.cells:
        record = worker.read_record(cell.folder / worker.RECORD)
        if record is None:
            continue
        if record.get("key") != cell.key:
            raise UserError(
                f"{cell.folder} was begun with other settings or weights than {cell} has now: "
                "delete it, or name another --out"
            )
        if cell.data and record.get("data") != cell.data:
            stale.append(cell)
        elif "figures" in record:
            done.add(cell.folder)
            if record.get("data") != cell.data:
                unread.append(cell)
    for dataset, count in Counter(cell.dataset for cell in unread).items():
        warn(f"{dataset} cannot be read now: {count} finished cells are kept as they are")
    for dataset, count in Counter(cell.dataset for cell in stale).items():
        warn(f"{dataset} has changed since {count} of its cells were run: they are run again")
    for cell in stale:
        shutil.rmtree(cell.folder)
    return done


def _run(planned: Plan, done: set[Path], workers: int | None, cluster: str | None) -> None:
    if len(done) == len(planned.cells):
        return
    pairs: dict[tuple[str, str], Pair] = {}
    for cell in planned.cells:
        pairs.setdefault((cell.dataset, cell.backbone), []).append(cell)
    on_gpu = any(cell.config.training.device != "cpu" for cell in planned.cells)
    with (
        processes(cluster, workers, on_gpu) as found,
        bar("benchmark", len(planned.cells), "cells", done=len(done)) as progress,
    ):
        Schedule(found, done, progress).run(list(pairs.values()))
