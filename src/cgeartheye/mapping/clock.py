"""Seconds that the threads of a map spend on each stage."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("reading", "resampling", "inference", "blending", "writing")


class Clock:
    """Adds up the time of stages; that of a stage within another counts for the inner one alone."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()
        self._thread = threading.local()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time of this block, less what blocks within it measure.

        Args:
            stage: of `STAGES`.
        """
        outer = getattr(self._thread, "inner", None)
        started, self._thread.inner = time.perf_counter(), 0.0
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            with self._lock:
                self._seconds[stage] += spent - self._thread.inner
            self._thread.inner = None if outer is None else outer + spent

    def describe(self) -> dict[str, object]:
        """Return the seconds since the start, and the share of each stage in the threads' work."""
        return {
            "seconds": round(time.monotonic() - self._start, 3),
            "shares": {stage: round(share, 4) for stage, share in self.shares().items()},
        }

    def shares(self) -> dict[str, float]:
        """Return the share of each stage in the threads' work, 0..1."""
        total = sum(self._seconds.values())
        return {stage: spent / total if total else 0.0 for stage, spent in self._seconds.items()}

    def __str__(self) -> str:
        return ", ".join(f"{stage} {share:.0%}" for stage, share in self.shares().items())
