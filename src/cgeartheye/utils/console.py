"""Progress: a bar in a terminal or a notebook, elsewhere a line now and then."""

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

console = Console(highlight=False)

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BEFORE_FRAMES = 0.5  # in a notebook, which keeps what it was sent
SECONDS_BETWEEN_FRAMES = 0.2

_muted: ContextVar[bool] = ContextVar("muted", default=False)
Observer = Callable[[str, int, int], None]
"""Takes title, done and total of a bar."""
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


class Row(Protocol):
    """Place where a bar is drawn."""

    def update(self, done: int, total: int, more: str, left: timedelta) -> None:
        """Draw the progress.

        Args:
            done: units that are done.
            total: units in all.
            more: text behind the rate.
            left: estimated time.
        """


class Bar:
    """Counts work that is done; made by `bar`."""

    def __init__(self, title: str, total: int, done: int, unit: str, row: Row | None):
        self._title, self._total, self._done, self._unit = title, total, done, unit
        self._first = done
        self._start = self._last_line = time.monotonic()
        self._row = row
        self._observer = _observer.get()  # now: other threads, which may advance it, have none

    def reach(self, done: int, total: int) -> None:
        """Note that `done` of `total` are done."""
        self._total = total
        self.advance(done - self._done)

    def advance(self, count: int = 1, more: str = "") -> None:
        """Note that `count` more are done; `more` is shown behind the rate."""
        self._done += count
        if self._observer:
            self._observer(self._title, self._done, self._total)
        now = time.monotonic()
        rate = (self._done - self._first) / max(now - self._start, 1e-9)
        more = f"{rate:,.1f} {self._unit}/s  {more}".rstrip()
        ahead = (self._total - self._done) / max(rate, 1e-9)
        left = timedelta(seconds=round(min(ahead, 1e9)))  # nothing may be done yet
        if self._row:
            self._row.update(self._done, self._total, more, left)
        elif _is_main() and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            log_info(f"{self._title}: {self._done}/{self._total}  {more}  {left} left")


@contextmanager
def bar(title: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show rate and time left while the block runs, in the first process only.

    Args:
        title: of the work.
        total: units of work.
        unit: plural, e.g. `images`.
        done: units that were done before.
    """
    if not _is_main() or _muted.get():
        yield Bar(title, total, done, unit, None)
    elif console.is_jupyter:
        yield Bar(title, total, done, unit, _NotebookRow(title))
    elif console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"),
            console=console,
            transient=True,  # a line reports what is done, where it matters
        ) as display:
            yield Bar(title, total, done, unit, _TerminalRow(display, title, total, done))
    else:
        yield Bar(title, total, done, unit, None)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Report the progress of all bars in this block.

    Args:
        observer: is called, from any thread, whenever more is done.
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


@contextmanager
def muted(mute: bool = True) -> Iterator[None]:
    """Leave out bars and lines in this block and what it calls.

    Args:
        mute: false changes nothing.
    """
    token = _muted.set(mute or _muted.get())
    try:
        yield
    finally:
        _muted.reset(token)


def log_info(text: str) -> None:
    """Print a line, in the first process only."""
    show(text, markup=False, soft_wrap=True)


def show(*objects: Any, **options: Any) -> None:
    """Print texts and tables as rich's `Console.print` does, in the first process only."""
    if _is_main() and not _muted.get():
        console.print(*objects, **options)


class _TerminalRow:
    def __init__(self, display: Progress, title: str, total: int, done: int):
        self._display = display
        self._task = display.add_task(title, total=total, completed=done, more="")

    def update(self, done: int, total: int, more: str, left: timedelta) -> None:
        self._display.update(self._task, completed=done, total=total, more=more)


class _NotebookRow:
    """A progress element of HTML, which needs no widgets and stays in a notebook that is saved."""

    def __init__(self, title: str):
        self._title = title
        self._next = time.monotonic() + SECONDS_BEFORE_FRAMES
        self._handle: Any = None

    def update(self, done: int, total: int, more: str, left: timedelta) -> None:
        from IPython.display import HTML, display

        now = time.monotonic()
        finished = done >= total and self._handle is not None
        if now < self._next and not finished:
            return
        self._next = now + SECONDS_BETWEEN_FRAMES
        ahead = f"  {left} left" if done < total else ""
        text = html.escape(f"{done:,}/{total:,}  {more}{ahead}")
        frame = HTML(
            f'{html.escape(self._title)} <progress value="{done}" max="{total}"></progress> '
            f"<code>{text}</code>"
        )
        if self._handle is None:
            self._handle = display(frame, display_id=True)
        else:
            self._handle.update(frame)


def warn(text: str) -> None:
    """Print a warning, in the first process only."""
    log_info(f"warning: {text}")


def _is_main() -> bool:
    # Processes that only read have no use for PyTorch, which takes 1.5 s and 0.6 GB: without it
    # there is no group of processes either.
    group = sys.modules.get("torch.distributed")
    return group is None or not group.is_initialized() or group.get_rank() == 0
