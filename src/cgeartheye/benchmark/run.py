"""A table is run cell by cell; the files on the disk record which are done."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import torch
import yaml

from cgeartheye.benchmark import worker
from cgeartheye.benchmark.cells import BenchmarkCell, Plan, plan
from cgeartheye.benchmark.outputs import write_outputs
from cgeartheye.benchmark.summary import Summary, summarize
from cgeartheye.config import BenchmarkTable, read_section
from cgeartheye.config.loader import Overrides
from cgeartheye.utils.console import Bar, bar, log_info, warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import lock, write_json, write_text

Pair = list[BenchmarkCell]

START = "forkserver"
"""How processes begin: one that computes, or has threads, is not forked, and a new interpreter
takes seconds."""


def benchmark(
    path: Path,
    overrides: Overrides = (),
    out: Path | None = None,
    resume: bool = False,
    workers: int = 1,
) -> Summary:
    """Run the cells of a table and write what comes of them.

    Each cell is a run as `train` or `probe` makes it, in a process of its own. The features of a
    backbone and a data set are encoded once, before their cells. A cell that fails is noted.

    Args:
        path: of the table's file; see `BenchmarkTable`.
        overrides: of its fields.
        out: folder of the benchmark; none: `runs/<file stem>`.
        resume: go on with what the folder holds; cells that failed are tried again.
        workers: processes at once, each with a GPU of its own where there are several.

    Raises:
        UserError: a table that does not validate, a folder that another benchmark uses or that
            holds cells of other settings.
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
        _run(planned, done, max(1, workers))
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
    """Return the folders of the cells that are finished."""
    if not resume and (out / "cells").exists():
        raise UserError(
            f"{out} already holds a benchmark: add --resume to go on with it, or name another --out"
        )
    done = set()
    for cell in planned.cells:
        record = worker.read_record(cell.folder / worker.RECORD)
        if record is None:
            continue
        if record.get("key") != cell.key:
            raise UserError(
                f"{cell.folder} was begun with other settings or weights than {cell} has now: "
                "delete it, or name another --out"
            )
        if "figures" in record:
            done.add(cell.folder)
    return done


def _run(planned: Plan, done: set[Path], workers: int) -> None:
    pairs: dict[tuple[str, str], Pair] = {}
    for cell in planned.cells:
        pairs.setdefault((cell.dataset, cell.backbone), []).append(cell)
    gpus = torch.cuda.device_count()
    stop, slots = Event(), SimpleQueue[int]()
    for slot in range(workers):
        slots.put(slot)
    with bar("benchmark", len(planned.cells), "cells", done=len(done)) as progress:

        def run_pair(pair: Pair) -> None:
            slot = slots.get()
            gpu = slot % gpus if workers > 1 and gpus else None
            threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None
            _run_pair(pair, done, progress, gpu, threads, stop)
            slots.put(slot)

        with ThreadPoolExecutor(workers) as pool:
            try:
                for _ in pool.map(run_pair, pairs.values()):
                    pass
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise


def _run_pair(
    pair: Pair,
    done: set[Path],
    progress: Bar,
    gpu: int | None,
    threads: int | None,
    stop: Event,
) -> None:
    """Encode for a backbone and a data set, then run their cells."""
    left = [cell for cell in pair if cell.folder not in done]
    if not left:
        return
    folder = pair[0].folder.parent
    each = list({cell.protocol: cell for cell in reversed(pair)}.values())[::-1]
    features = worker.read_record(folder / worker.FEATURES)
    if not features or features["errors"] or len(features["learned"]) < len(each):
        (folder / worker.FEATURES).unlink(missing_ok=True)
        log_info(f"encoding {pair[0].dataset} by {pair[0].backbone}")
        code = _process(worker.encode, (each, folder), folder, gpu, threads)
        failed = dict.fromkeys((cell.protocol for cell in each), _ended(code, folder))
        features = worker.read_record(folder / worker.FEATURES) or {"errors": failed}
    for cell in left:
        if stop.is_set():
            return
        path = cell.folder / worker.RECORD
        error = features["errors"].get(cell.protocol)
        if error:
            write_json(path, {"key": cell.key, "error": error})
        else:
            code = _process(worker.run_cell, (cell,), cell.folder, gpu, threads, cell.key)
        if stop.is_set():
            return
        record = worker.read_record(path) or {}
        if "figures" not in record and "error" not in record:
            record = {"key": cell.key, "error": _ended(code, cell.folder)}
            write_json(path, record)
        progress.advance()
        if "error" in record:
            warn(f"{cell}: {record['error']}")
        else:
            figure = record["figures"][cell.figure]
            shown = "not defined" if figure is None else f"{figure:.2f} %"
            log_info(f"{cell}: {cell.figure} {shown}  {record['seconds']:.0f} s")


def _process(
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    folder: Path,
    gpu: int | None,
    threads: int | None,
    key: str = "",
) -> int:
    """Run `worker.process` and return its exit code."""
    multiprocessing.set_forkserver_preload(["cgeartheye.benchmark.worker"])
    process: Any = multiprocessing.get_context(START).Process(  # type: ignore[attr-defined]
        target=worker.process, args=(work, arguments, folder, gpu, threads, key)
    )
    process.start()
    process.join()
    code: int = process.exitcode
    return code


def _ended(code: int, folder: Path) -> str:
    cause = f"signal {-code}, perhaps for lack of memory" if code < 0 else f"code {code}"
    return f"its process ended with {cause}: see {folder / worker.LOG}"
