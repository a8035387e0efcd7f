"""Finished rows go to the disk in a thread of their own, and then into the ledger."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from cgeartheye.mapping.clock import Clock
from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.ledger import Ledger

_QUEUE = 4  # pieces that wait to be written
_SECONDS_BETWEEN_NOTES = 2.0  # each waits for the disk


class Writer:
    """Writes what it is handed, in order, while the next rows are predicted.

    What fails in the thread is raised where the next piece is handed over, or at the end; nothing
    is written or noted after it.
    """

    def __init__(
        self,
        planes: Sequence[RawRaster],
        ledger: Ledger,
        take_found: Callable[[], list[tuple[int, int, bytes]]],
        clock: Clock,
    ):
        """Begin.

        Args:
            planes: that are written, for what must be on the disk before it is noted.
            ledger: of finished rows of windows.
            take_found: hands over the objects found in the rows that are noted.
            clock: of the map.
        """
        self._clock = clock
        self._planes, self._ledger, self._take_found = planes, ledger, take_found
        self._waiting: deque[Future[None]] = deque()
        self._unnoted: list[tuple[int, int, int]] = []
        self._pixels, self._last_note = 0, time.monotonic()
        self._failed = False

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._hand_over(self._note)
                while self._waiting:
                    self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, write: Callable[..., int | None], *what: Any) -> None:
        """Have something written; `write` returns how many pixels of the map it is, or none.

        Raises:
            UserError: something that was handed over before could not be written.
        """
        self._hand_over(self._write, write, *what)

    def end_row(self, number: int, windows: int, on_written: Callable[[int, int], None]) -> None:
        """Record a row of windows as finished.

        Args:
            number: of the row of windows.
            windows: in the row.
            on_written: gets the number of windows, and of pixels mapped, once all is written.
        """
        self._hand_over(self._end_row, number, windows, on_written)

    def _hand_over(self, do: Callable[..., None], *what: Any) -> None:
        self._waiting.append(self._pool.submit(self._unless_failed, do, *what))
        while len(self._waiting) > _QUEUE:
            self._waiting.popleft().result()

    def _unless_failed(self, do: Callable[..., None], *what: Any) -> None:
        """Do it, but nothing after a failure: a row would be noted whose pixels are not there."""
        if self._failed:
            return
        try:
            with self._clock.measure("writing"):
                do(*what)
        except BaseException:
            self._failed = True
            raise

    def _write(self, write: Callable[..., int | None], *what: Any) -> None:
        self._pixels += write(*what) or 0

    def _end_row(self, number: int, windows: int, on_written: Callable[[int, int], None]) -> None:
        self._unnoted.append((number, windows, self._pixels))
        on_written(windows, self._pixels)
        self._pixels = 0
        if time.monotonic() - self._last_note > _SECONDS_BETWEEN_NOTES:
            self._note()

    def _note(self) -> None:
        """Wait for the disk, then note what is on it."""
        for plane in self._planes:
            plane.sync()
        self._ledger.note(self._unnoted, self._take_found())
        self._unnoted, self._last_note = [], time.monotonic()
