"""Facts of an exported model in `model.json`, and the engine that computes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgeartheye.inference.engines import Engine, open_engine
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest
from cgeartheye.utils.state import json_object

WEIGHTS, FACTS = "model.safetensors", "model.json"
LAYOUT = 1
"""Of inputs, outputs and `model.json`; one more with each change that older code cannot read."""


@dataclass(frozen=True)
class Export:
    """An exported model.

    Attributes:
        folder: that holds it.
        engine: `torch`, `onnx` or `openvino`.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        files: names of the graph's files, the one to open first.
        sha256: of these.
        source_sha256: of the `model.safetensors` that it was made of.
    """

    folder: Path
    engine: str
    precision: str
    files: tuple[str, ...]
    sha256: str
    source_sha256: str

    def open(self, threads: int | None = None) -> Engine:
        """Open the graph; see `open_engine`.

        Raises:
            UserError: a file is missing or damaged, or the engine is not installed.
        """
        paths = [self.folder / name for name in self.files]
        for path in paths:
            if not path.is_file():
                raise UserError(f"{path} is missing: export the run again")
        if digest(paths) != self.sha256:
            raise UserError(f"{paths[0]} is not what was exported: export the run again")
        return open_engine(self.engine, paths[0], self.precision, threads)

    def facts(self) -> dict[str, Any]:
        """Return its entry in `model.json`."""
        return {
            "layout": LAYOUT,
            "engine": self.engine,
            "precision": self.precision,
            "files": list(self.files),
            "sha256": self.sha256,
            "source_sha256": self.source_sha256,
        }


def read_export(facts: Mapping[str, Any], folder: Path) -> Export | None:
    """Return the export that a `model.json` describes; none: it is that of a run.

    Args:
        facts: what the file holds.
        folder: that contains it.

    Raises:
        UserError: it was made by another version of this package.
        KeyError, TypeError: it is damaged.
    """
    entry = facts.get("export")
    if entry is None:
        return None
    if entry["layout"] != LAYOUT:
        raise UserError(
            f"{folder} was exported by another version of cgeartheye (layout {entry['layout']}, "
            f"this one reads {LAYOUT}): export the run again"
        )
    names = (str(entry[each]) for each in ("engine", "precision"))
    engine, precision = names
    return Export(
        folder, engine, precision, tuple(entry["files"]), entry["sha256"], entry["source_sha256"]
    )


def find_export(run: Path, engine: str | None, precision: str | None) -> tuple[Path, str]:
    """Return the folder of the model that an engine is to compute.

    Args:
        run: a run directory, its weights, or an exported folder.
        engine: of `ENGINES`; none: that of an exported folder, else `torch`.
        precision: of the export; none: `fp32`, or whatever the folder has.

    Returns:
        The folder, or of torch the run itself; and the engine.

    Raises:
        UserError: there is no such export, or it is older than the run's model.
    """
    folder = run if run.is_dir() else run.parent
    own = _read(folder / FACTS)
    if own is not None:
        if engine not in (None, own.engine) or precision not in (None, own.precision):
            raise UserError(
                f"{folder} is exported for {own.engine} in {own.precision}: leave --engine and "
                "--precision out, or name its run and export that again"
            )
        return folder, own.engine
    if engine in (None, "torch"):
        return run, "torch"
    assert engine is not None
    found = folder / "export" / f"{engine}-{precision or 'fp32'}"
    export = _read(found / FACTS)
    command = f"cgeartheye export {folder} --format {engine} --precision {precision or 'fp32'}"
    if export is None:
        raise UserError(f"{folder} is not exported for {engine} ({found} is missing): {command}")
    if (folder / WEIGHTS).is_file() and digest([folder / WEIGHTS]) != export.source_sha256:
        raise UserError(f"{found} is of another model than {folder} holds now: {command}")
    return found, engine


def is_exported(folder: Path) -> bool:
    """Return whether a folder holds an exported model."""
    return folder.is_dir() and _read(folder / FACTS) is not None


def _read(path: Path) -> Export | None:
    if not path.is_file():
        return None
    try:
        return read_export(json_object(path.read_bytes()), path.parent)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not the description of a model: export it again") from error
