"""The run directory: the config, the log, the checkpoints."""

import math
import platform
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

import torch
import yaml

import cgeartheye
from cgeartheye.config import Config, Pretraining, to_yaml
from cgeartheye.training import distributed
from cgeartheye.training.checkpoint import forget_after, latest
from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import json_text, lock, write_text
from cgeartheye.utils.state import json_object

Record = dict[str, Any]


class Run:
    """A run directory that this training writes to; all processes make one, the first writes.

    A context: no other training can open the directory until it ends. A user's mistake before the
    first record or checkpoint leaves nothing of it behind, so the name is free again.
    """

    def __init__(self, config: Config | Pretraining, resume: bool):
        """Make the directory, or find it again.

        Args:
            config: resolved; `work_dir` names the directory.
            resume: go on with what the directory holds.

        Raises:
            UserError: it cannot be written to, or holds a run that is not to be resumed.
        """
        assert config.work_dir is not None
        self.folder = config.work_dir
        self.checkpoints = self.folder / "checkpoints"
        self._metrics = self.folder / "metrics.jsonl"
        self._board: Any = None
        self._locked: IO[str] | None = None
        self._config: str | None = None  # that replaces the one that is there
        self._before = set(self.folder.iterdir()) if self.folder.is_dir() else set()
        failure = None
        if distributed.is_main():
            try:
                self._open(config, resume)
            except UserError as error:
                failure = error
                self.close()
        distributed.raise_from_rank0(failure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, exception: object, _: object) -> None:
        if isinstance(exception, UserError) and distributed.is_main() and not self._has_begun():
            self._remove_new()
        self.close()

    def _has_begun(self) -> bool:
        return self._metrics.exists() or latest(self.checkpoints) is not None

    def _remove_new(self) -> None:
        """Remove the files that this run has written, and the directory if nothing is left."""
        for path in set(self.folder.iterdir()) - self._before:
            if path.is_file():
                path.unlink()
        with suppress(OSError):  # others have files here
            self.folder.rmdir()

    def close(self) -> None:
        """Let others into the directory."""
        if self._locked:
            self._locked.close()

    def _open(self, config: Config | Pretraining, resume: bool) -> None:
        self._lock()
        if not resume and self._has_begun():
            raise UserError(
                f"{self.folder} already holds a run: add --resume to go on with it, "
                "or name another --work-dir"
            )
        path = self.folder / "config.yaml"
        text = to_yaml(config)
        if resume and path.exists():
            if _differ(path.read_text(encoding="utf-8"), text):
                warn(f"the config differs from the one that {self.folder} began with")
            self._config = text  # the checkpoint may refuse it
        else:
            write_text(path, text)
        if config.training.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UserError(
                    "training.tensorboard=true needs: pip install 'cgeartheye[tensorboard]'"
                ) from error
            self._board = SummaryWriter(str(self.folder / "tensorboard"))

    def _lock(self) -> None:
        """Keep other trainings out of the directory."""
        try:
            self._locked = lock(self.folder / ".lock")
        except BlockingIOError as error:
            raise UserError(
                f"another training is running in {self.folder}: name another --work-dir"
            ) from error

    def forget_after(self, step: int) -> None:
        """Drop checkpoints and the log's records after `step`: they are about to be made again.

        A config that differs from the one that the run began with replaces it.
        """
        if self._config is not None and distributed.is_main():
            write_text(self.folder / "config.yaml", self._config)
        forget_after(self.checkpoints, step)
        if distributed.is_main() and self._metrics.exists():
            kept = [r for r in read_history(self.folder) if r["step"] <= step]
            write_text(self._metrics, "".join(json_text(r) + "\n" for r in kept))

    def log(self, record: Record) -> None:
        """Append a record to `metrics.jsonl` (and TensorBoard).

        Raises:
            UserError: the file cannot be written.
        """
        if not distributed.is_main():
            return
        try:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(json_text(record) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self._metrics}: {error.strerror}") from error
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{record['kind']}/{name}", value, record["step"])


def _differ(old: str, new: str) -> bool:
    try:
        return bool(yaml.safe_load(old) != yaml.safe_load(new))
    except yaml.YAMLError:
        return True


def environment(device: torch.device) -> dict[str, str]:
    """Return the environment of a run, for its report."""
    return {
        "CGEarthEye": cgeartheye.__version__,
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": str(distributed.world_size()),
    }


def read_history(folder: Path) -> list[Record]:
    """Return the records of `metrics.jsonl`; a line cut off by a kill is left out.

    A figure that is not defined is NaN here and null in the file. Other damaged lines are left out
    too, with a note: nothing but curves needs them.
    """
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    records = [record for line in lines if (record := _parse(line))]
    cut_off = bool(lines) and _parse(lines[-1]) is None
    damaged = len(lines) - len(records) - cut_off
    if damaged:
        warn(
            f"{damaged} of the {len(lines)} lines of {path} are damaged and skipped: the report's "
            "curves have gaps, the model is unaffected"
        )
    return records


def _parse(line: bytes) -> Record | None:
    """Return a record whose values are numbers, but for its kind."""
    try:
        record = json_object(line)
    except ValueError:
        return None
    record = {name: math.nan if value is None else value for name, value in record.items()}
    numbers = [value for name, value in record.items() if name != "kind"]
    valid = (
        isinstance(record.get("kind"), str)
        and type(record.get("step")) is int
        and all(type(v) is float or (type(v) is int and abs(v) < 2**63) for v in numbers)
    )
    return record if valid else None
