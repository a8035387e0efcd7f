"""Progress on the terminal: a bar where there is one, a line now and then where there is not."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

console = Console(highlight=False)

SECONDS_BETWEEN_LINES = 15.0


class Bar:
    """Counts work that is done; made by `bar`."""

    def __init__(self, title: str, total: int, done: int, unit: str, display: Progress | None):
        self._title, self._total, self._done, self._unit = title, total, done, unit
        self._first = done
        self._start = self._last_line = time.monotonic()
        self._display = display
        self._row = (
            display.add_task(title, total=total, completed=done, more="") if display else TaskID(0)
        )

    def reach(self, done: int, total: int) -> None:
        """Note that `done` of `total` are done."""
        self._total = total
        self.advance(done - self._done)

    def advance(self, count: int = 1, more: str = "") -> None:
        """Note that `count` more are done; `more` is shown behind the rate."""
        self._done += count
        now = time.monotonic()
        rate = (self._done - self._first) / max(now - self._start, 1e-9)
        more = f"{rate:,.1f} {self._unit}/s  {more}".rstrip()
        if self._display:
            self._display.update(self._row, completed=self._done, total=self._total, more=more)
        elif _is_main() and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = timedelta(seconds=round((self._total - self._done) / max(rate, 1e-9)))
            log_info(f"{self._title}: {self._done}/{self._total}  {more}  {left} left")


@contextmanager
def bar(title: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show rate and time left while the block runs, in the first process only."""
    if not (_is_main() and console.is_terminal):
        yield Bar(title, total, done, unit, None)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[more]}"),
        console=console,
    ) as display:
        yield Bar(title, total, done, unit, display)


def log_info(text: str) -> None:
    """Print a line, in the first process only."""
    if _is_main():
        console.print(text, markup=False, soft_wrap=True)


def _is_main() -> bool:
    # Processes that only read have no use for PyTorch, which takes 1.5 s and 0.6 GB: without it
    # there is no group of processes either.
    group = sys.modules.get("torch.distributed")
    return group is None or not group.is_initialized() or group.get_rank() == 0
