"""Order of a benchmark: what a backbone and a data set share is encoded, then their cells."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from threading import Event

from cgeartheye.benchmark import worker
from cgeartheye.benchmark.cells import BenchmarkCell
from cgeartheye.benchmark.processes import Processes
from cgeartheye.utils.console import Bar, log_info, warn
from cgeartheye.utils.io import write_json

Pair = list[BenchmarkCell]
"""The cells of a backbone and a data set."""
Step = Callable[[], Sequence["Step"]]
"""Work that one process does; returns what may be done after it."""

_STARTS = 2  # of work whose process is killed


class Schedule:
    """Has cells run, as many at once as there are processes."""

    def __init__(self, processes: Processes, done: set[Path], progress: Bar):
        """Take what runs them.

        Args:
            processes: that do the work.
            done: folders of cells that are finished.
            progress: counts cells.
        """
        self._processes, self._done, self._progress = processes, done, progress
        self._stop = Event()

    def run(self, pairs: Sequence[Pair]) -> None:
        """Run the cells of pairs that are not finished; those of one pair before the next's."""
        waiting = iter([partial(self._encode, pair) for pair in pairs if self._left(pair)])
        ready: deque[Step] = deque()
        running: set[Future[Sequence[Step]]] = set()
        with ThreadPoolExecutor(self._processes.count) as pool:
            try:
                while True:
                    while len(running) < self._processes.count:
                        step = ready.popleft() if ready else next(waiting, None)
                        if step is None:
                            break
                        running.add(pool.submit(step))
                    if not running:
                        return
                    ended, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        ready.extend(future.result())
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                self._processes.stop()
                raise

    def _left(self, pair: Pair) -> Pair:
        return [cell for cell in pair if cell.folder not in self._done]

    def _encode(self, pair: Pair) -> Sequence[Step]:
        """Encode what a pair shares, if it is not there; return its cells."""
        folder = pair[0].folder.parent
        each = list({cell.protocol: cell for cell in reversed(pair)}.values())[::-1]
        stamps = {cell.protocol: cell.stamp for cell in each}
        features = worker.read_record(folder / worker.FEATURES) or {}
        if features.get("errors") or features.get("stamps") != stamps:
            (folder / worker.FEATURES).unlink(missing_ok=True)
            log_info(f"encoding {pair[0].dataset} by {pair[0].backbone}")
            code = self._started(worker.encode, (each, folder, features), folder, {})
            failed = dict.fromkeys(stamps, _ended(code, folder))
            features = worker.read_record(folder / worker.FEATURES) or {"errors": failed}
        errors = features["errors"]
        return [
            partial(self._run_cell, cell, errors.get(cell.protocol)) for cell in self._left(pair)
        ]

    def _run_cell(self, cell: BenchmarkCell, error: str | None) -> Sequence[Step]:
        """Run a cell, or note why it has no features."""
        path = cell.folder / worker.RECORD
        if error:
            write_json(path, {**cell.stamp, "error": error})
        else:
            code = self._started(worker.run_cell, (cell,), cell.folder, cell.stamp)
        if self._stop.is_set():
            return ()
        record = worker.read_record(path) or {}
        if "figures" not in record and "error" not in record:
            record = {**cell.stamp, "error": _ended(code, cell.folder)}
            write_json(path, record)
        self._progress.advance()
        if "error" in record:
            warn(f"{cell}: {record['error']}")
        else:
            figure = record["figures"][cell.figure]
            shown = "not defined" if figure is None else f"{figure:.2f} %"
            log_info(f"{cell}: {cell.figure} {shown}  {record['seconds']:.0f} s")
        return ()

    def _started(
        self,
        work: Callable[..., None],
        arguments: tuple[object, ...],
        folder: Path,
        stamp: dict[str, str],
    ) -> int:
        """Return the exit code of work, which is started again if its process was killed."""
        for _ in range(_STARTS):
            code = self._processes.run(work, arguments, folder, stamp)
            if code >= 0 or self._stop.is_set():
                break
        return code


def _ended(code: int, folder: Path) -> str:
    cause = f"signal {-code}, perhaps for lack of memory" if code < 0 else f"code {code}"
    return f"its process ended with {cause}: see {folder / worker.LOG}"
