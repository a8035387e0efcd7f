"""Bring a download of a published data set into the layout that configs read.

Each file is written beside its place and renamed, and what is there is not made again, so that a
conversion goes on after any end. Nothing of the download is changed.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from cgeartheye.data.published.boxes import dior, dior_r, vhr10
from cgeartheye.data.published.data_set import PublishedDataSet
from cgeartheye.data.published.masks import isaid, loveda, potsdam, roads
from cgeartheye.data.published.pairs import cdd, levir_cd, sysu_cd
from cgeartheye.data.published.scenes import scenes
from cgeartheye.data.published.steps import Step
from cgeartheye.utils.console import bar
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import lock, write_json
from cgeartheye.utils.state import json_object

Conversion = Callable[[PublishedDataSet, Path], list[Step]]
"""Takes a data set and the folder of its download."""

_CONVERSIONS: Mapping[str, Conversion] = {
    "LoveDA": loveda,
    "iSAID": isaid,
    "Potsdam": potsdam,
    "EPFL-roads": roads,
    "LEVIR-CD": levir_cd,
    "SYSU-CD": sysu_cd,
    "CDD": cdd,
    "DIOR": dior,
    "DIOR-R": dior_r,
    "NWPU-VHR-10": vhr10,
}
"""Of all others: `scenes`."""

_RECORD = ".conversion.json"
_ARCHIVES = {".zip", ".rar", ".tar", ".gz", ".7z", ".001"}
_THREADS = min(4, os.cpu_count() or 1)  # a decoded image of iSAID takes up to 180 MB


def convert(known: PublishedDataSet, source: Path, out: Path) -> list[str]:
    """Make a data set of a download, or go on with it.

    Args:
        known: what is known of the data set.
        source: folder of the download, with its archives extracted.
        out: the new folder.

    Returns:
        What is worth a warning, in sentences.

    Raises:
        UserError: the download is not what was expected or cannot be read, `out` holds something
            else, or the disk is full.
    """
    if not source.is_dir():
        raise UserError(f"no folder {source}: correct the path to the download")
    if {source.resolve(), *source.resolve().parents} & {out.resolve()} or (
        source.resolve() in out.resolve().parents
    ):
        raise UserError(f"{out} and {source} are within each other: give the data set a new folder")
    try:
        held = lock(out / ".conversion.lock")
    except BlockingIOError as error:
        raise UserError(f"another process converts into {out}: wait for it") from error
    with held:
        return _convert(known, source, out)


def _convert(known: PublishedDataSet, source: Path, out: Path) -> list[str]:
    steps = _CONVERSIONS.get(known.name, scenes)(known, source)
    names = Counter(name for step in steps for name in step.outputs)
    if not names:
        raise UserError(_nothing(known, source))
    doubled = [name for name, count in names.items() if count > 1]
    if doubled:
        raise UserError(
            f"two files in {source} would become {doubled[0]}: take one of the copies out"
        )
    _claim(known, source, out, steps)
    left = [step for step in steps if not step.is_done(out)]
    todo, total = sum(len(step.outputs) for step in left), sum(names.values())
    warnings = []
    with (
        bar(f"converting {known.name}", total, "files", done=total - todo) as progress,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        running = {pool.submit(step.make, out): step for step in left}
        try:
            for future in as_completed(running):
                if warning := future.result():
                    warnings.append(warning)
                progress.advance(len(running[future].outputs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(warnings)


def _claim(known: PublishedDataSet, source: Path, out: Path, steps: Sequence[Step]) -> None:
    """Note whose folder it is; refuse another's, and remove summaries of other or older files."""
    outputs = sorted(name for step in steps for name in step.outputs)
    summed = sorted({path for step in steps if step.summary for path in step.sources})
    stamps = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in summed]
    files = "\n".join([*outputs, *stamps])
    facts = {
        "data_set": known.name,
        "source": str(source.resolve()),
        "files": hashlib.sha256(files.encode()).hexdigest(),
    }
    record = out / _RECORD
    before: Mapping[str, object] = {}
    if record.is_file():
        try:
            before = json_object(record.read_bytes())
        except ValueError as error:
            raise UserError(f"{record} is damaged: delete {out} and convert again") from error
        for key in ("data_set", "source"):
            if before.get(key) != facts[key]:
                raise UserError(
                    f"{out} is being made from {before.get('data_set')} in "
                    f"{before.get('source')}: give another folder, or delete it"
                )
    elif [path for path in out.iterdir() if path.name != ".conversion.lock"]:
        raise UserError(f"{out} is not empty, and nothing is overwritten: give a new folder")
    if before != facts:
        for name in (name for step in steps if step.summary for name in step.outputs):
            (out / name).unlink(missing_ok=True)
        write_json(record, facts)


def _nothing(known: PublishedDataSet, source: Path) -> str:
    """Return a sentence on what was looked for, and on archives to extract first."""
    archives = [path.name for path in sorted(source.rglob("*")) if path.suffix in _ARCHIVES]
    advice = f"extract {archives[0]} first" if archives else f"it is to be had from {known.page}"
    return f"{source} holds nothing of {known.name}, expected is a {known.download}; {advice}"
