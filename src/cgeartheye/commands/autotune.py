"""A short measurement of the fastest way to compute a model on this machine, kept for later."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgeartheye import __version__
from cgeartheye.commands import tasks
from cgeartheye.commands.engines import choose_engine
from cgeartheye.models.backbone.onednn_linear import use_onednn
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.console import bar, log_info
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest, write_json
from cgeartheye.utils.state import json_object

_BATCHES = (1, 4, 16)
_REPEATS = 3
_GAIN = 0.97  # of the time: what is not faster by 3 % is left as it is


@dataclass(frozen=True)
class Tuned:
    """A way to compute a model.

    Attributes:
        engine: of `ENGINES`.
        threads: that compute.
        batch_size: windows at a time.
        onednn: see `use_onednn`; of torch alone.
        channels_last: whether the decoder's maps use this memory format; torch only.
    """

    engine: str
    threads: int
    batch_size: int
    onednn: bool = True
    channels_last: bool = False

    def prepare(self) -> None:
        """Set what holds for the process, before a model is loaded."""
        torch.set_num_threads(self.threads)
        use_onednn(self.onednn)

    def arrange(self, task: Any) -> None:
        """Set what holds for a model, in place."""
        if task.engine is None:
            form = torch.channels_last if self.channels_last else torch.contiguous_format
            task.decoder.to(memory_format=form)


def tune(
    run: Path, engine: str | None, precision: str | None, overrides: Sequence[str]
) -> Tuned | None:
    """Return what computes a model fastest here, measured now or before.

    One thing is varied after the other: threads, engine, oneDNN's linear layers, the decoder's
    memory format, the batch. It takes some 30 forward passes.

    Args:
        run: a run directory or an exported folder.
        engine: the only one to measure; none: torch, and those that the run was exported for.
        precision: of the model.
        overrides: of its config.

    Returns:
        The way, or none on a GPU, where there is nothing to choose.

    Raises:
        UserError: see `load_model`.
    """
    models = _models(run, engine, precision, overrides)
    first = next(iter(models.values()))()
    if first.task.engine is None and torch.cuda.is_available():
        return None
    path, key = _cache(), _key(run, list(models), precision, first)
    known = _read(path)
    if key in known:
        return Tuned(**known[key])
    with bar("measuring", 1, "passes") as progress:
        found = _search(models, first, progress.advance)
    write_json(path, known | {key: asdict(found)})
    log_info(
        f"fastest here: {found.engine}, {found.threads} threads, {found.batch_size} windows at a "
        f"time ({path})"
    )
    return found


Load = Callable[[], tasks.LoadedModel]


def _models(
    run: Path, engine: str | None, precision: str | None, overrides: Sequence[str]
) -> dict[str, Load]:
    """Return what loads the model for each engine that is there."""

    def loader(name: str | None) -> Load:
        device = torch.device("cpu")
        return lambda: tasks.load_model(run, list(overrides), device, False, name, precision)

    if engine is not None:
        return {engine: loader(engine)}
    found: dict[str, Load] = {}
    for name in ("torch", "onnx", "openvino"):
        try:
            choose_engine(run, name, precision)
        except UserError:
            continue
        found[name] = loader(name)
    if not found:
        choose_engine(run, None, precision)  # raises with the reason
        raise AssertionError
    return found


def _search(
    models: dict[str, Load], first: tasks.LoadedModel, on_measured: Callable[[], None]
) -> Tuned:
    cores = os.cpu_count() or 1
    name = next(iter(models))
    best = Tuned(name, cores, 4)
    loaded = first

    def seconds(way: Tuned) -> float:
        nonlocal loaded
        way.prepare()
        if way.engine != "torch" or loaded.task.engine is not None:
            loaded = models[way.engine]()  # an engine has its threads from when it is opened
        way.arrange(loaded.task)
        taken = _seconds(loaded, way.batch_size)
        on_measured()
        return taken

    least = seconds(best)
    counts = {1, cores // 2, cores} - {0, best.threads}
    steps: list[list[Callable[[Tuned], Tuned]]] = [
        [lambda way, n=n: replace(way, threads=n) for n in counts],  # type: ignore[misc]
        [lambda way, e=e: replace(way, engine=e) for e in models if e != name],  # type: ignore[misc]
        [lambda way: replace(way, onednn=False)],
        [lambda way: replace(way, channels_last=True)],
        [lambda way, b=b: replace(way, batch_size=b) for b in _BATCHES],  # type: ignore[misc]
    ]
    for number, step in enumerate(steps):
        if number in (2, 3) and best.engine != "torch":
            continue
        for change in step:
            other = change(best)
            if other != best and (taken := seconds(other)) < _GAIN * least:
                best, least = other, taken
    return best


@torch.inference_mode()
def _seconds(model: tasks.LoadedModel, count: int) -> float:
    """Median seconds a window."""
    side, dates = model.config.data.image_size, 2 * (model.config.task == "change_detection") or 1
    images: Tensor = torch.randint(0, 256, (count, 3 * dates, side, side), dtype=torch.uint8)
    taken = []
    with autocast(torch.device("cpu"), model.config.training.precision):
        for _ in range(_REPEATS + 1):
            started = time.perf_counter()
            model.task.outputs(images)
            taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:]) / count


def _key(run: Path, names: list[str], precision: str | None, model: tasks.LoadedModel) -> str:
    """Return all that the answer depends on."""
    cpu = platform.processor() or platform.machine()
    parts = (
        digest([model.files.path])[:16],
        *names,
        precision or "",
        model.config.training.precision,
        str(model.config.data.image_size),
        cpu,
        torch.backends.cpu.get_cpu_capability(),
        str(os.cpu_count()),
        torch.__version__,
        __version__,
    )
    return " ".join(parts)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / (
        "cgeartheye/autotune.json"
    )


def _read(path: Path) -> dict[str, Any]:
    """Return what was measured before; a damaged file is as good as none."""
    try:
        return json_object(path.read_bytes())
    except (OSError, ValueError):
        return {}
