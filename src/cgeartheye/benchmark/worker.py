"""Processes of a benchmark: one encodes for a backbone and a data set, others run a cell each."""

import json
import multiprocessing
import os
import resource
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from cgeartheye.benchmark.cells import BenchmarkCell
from cgeartheye.commands import tasks
from cgeartheye.commands.probe import encode_parts, probe
from cgeartheye.config import Config, to_yaml
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.tasks import model_io
from cgeartheye.tasks.outcomes import write_outcomes
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.training import distributed
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_json, write_text

RECORD = "cell.json"
FEATURES = "features.json"
LOG = "log.txt"

Record = dict[str, Any]


def read_record(path: Path) -> Record | None:
    """Return a record of the ledger; none where there is none.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return None
    try:
        found: Record = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged: delete it, then go on with --resume") from error
    return found


def run_cell(cell: BenchmarkCell) -> None:
    """Train and test, or probe, and write the cell's record.

    Raises:
        UserError: whatever the run raises, or a figure that its task does not have.
    """
    path = cell.folder / RECORD
    resumed = path.exists()
    write_json(path, cell.stamp)
    begin = time.monotonic()
    if cell.probe:
        assert cell.config.task == "scene_classification"
        write_text(cell.folder / "config.yaml", to_yaml(cell.config))
        probed = probe(cell.config, [cell.probe])
        figures = {"top1": probed.figures[cell.probe.name]}
        write_outcomes(cell.folder, probed.outcomes[cell.probe.name])
    else:
        figures = tasks.train(cell.config, resume=True)
    if cell.figure not in figures:
        raise UserError(no_figure(cell, figures))
    record = {
        **cell.stamp,
        "figures": figures,
        "seconds": time.monotonic() - begin,
        "memory_bytes": _peak_memory(),
        "resumed": resumed,
    }
    write_json(path, record)


def no_figure(cell: BenchmarkCell, figures: Iterable[str]) -> str:
    """Return a sentence on a figure that a cell does not have."""
    return f"{cell.dataset}: figure={cell.figure} is none of {', '.join(figures)}"


def encode(cells: Sequence[BenchmarkCell], folder: Path, before: Record) -> None:
    """Encode what cells of one backbone and data set share, and measure the backbone.

    Writes `features.json`: milliseconds an image, seconds and what is learned by protocol, and a
    sentence for each protocol that cannot have its features.

    Args:
        cells: one of each protocol.
        folder: of the record.
        before: the record of an earlier encoding, or an empty one. Protocols whose features it
            has keep their figures: encoded again they would be read from the cache.
    """
    record: Record = {"encode_seconds": {}, "learned": {}, "errors": {}}
    record["stamps"] = {cell.protocol: cell.stamp for cell in cells}
    kept = {
        name
        for name, stamp in record["stamps"].items()
        if before.get("stamps", {}).get(name) == stamp and name not in before["errors"]
    }
    for part in ("encode_seconds", "learned"):
        record[part] = {name: before[part][name] for name in kept}
    if kept:
        record |= {part: before[part] for part in ("encode_ms", "parameters")}
    # Probes first: of their features in float32 those of decoders follow.
    for cell in sorted(cells, key=lambda cell: cell.probe is None):
        if cell.protocol in kept:
            continue
        config = cell.config
        try:
            with distributed.process_group(config.training.device) as device:
                pipeline = pipeline_for(config)
                task, built = tasks.build(config, pipeline.classes, device)
                tuned = sum(p.numel() for p in task.parameters() if p.requires_grad)
                record["learned"][cell.protocol] = 0 if cell.settings.kind == "knn" else tuned
                record["parameters"] = sum(p.numel() for p in built.module.parameters())
                if "encode_ms" not in record:
                    record["encode_ms"] = _encode_ms(config, built, device)
                begin = time.monotonic()
                if cell.probe:
                    assert config.task == "scene_classification"
                    encode_parts(config, pipeline.parts, built, device)
                elif config.backbone.tuning == "frozen":
                    pipeline.data(task, built)
                record["encode_seconds"][cell.protocol] = time.monotonic() - begin
        except UserError as error:
            record["errors"][cell.protocol] = str(error)
    write_json(folder / FEATURES, record)


def _encode_ms(config: Config, built: BackboneBundle, device: torch.device) -> float:
    """Return milliseconds an image takes through the backbone, of a batch of 8."""
    side = model_io.input_side(config)
    images = torch.zeros(8, 3, side, side, device=device)
    network, times = built.module.to(device).eval(), []
    for _ in range(4):
        begin = time.perf_counter()
        with torch.no_grad(), autocast(device, config.training.precision):
            network(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times[1:]) / len(images)


def process(
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    folder: Path,
    gpu: int | None,
    threads: int | None,
    stamp: dict[str, str],
) -> None:
    """Do work in a process of its own, whose output goes to `log.txt`.

    Args:
        work: `run_cell` or `encode`.
        arguments: of the work.
        folder: of the log and, if the work fails, of the cell's record.
        gpu: that it sees alone; none: all.
        threads: that it computes with; none: as many as there are cores.
        stamp: of the cell; empty for an encoding.
    """
    _end_with_parent()
    # The way in which this process began is that of its own, too: each loader of images would start
    # one more interpreter. They are forked, as those of a run alone.
    multiprocessing.set_start_method(None, force=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    if threads:
        torch.set_num_threads(threads)
    try:
        work(*arguments)
    except Exception as error:
        traceback.print_exc()
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if stamp:
            write_json(folder / RECORD, {**stamp, "error": " ".join(reason.split())})
        sys.exit(1)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _peak_memory() -> int:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
