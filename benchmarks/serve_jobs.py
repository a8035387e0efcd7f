"""Jobs of a server while its workers and it itself are killed: none lost, none twice, same bytes.

    python benchmarks/serve_jobs.py RUN SCENE OUT [--jobs 200] [--clients 20]

Starts `cgeartheye serve` with two workers on an application of RUN and the scene, and so many
clients that ask for maps and wait for them. Every 10 s a worker is killed, and every 60 s the
server (--kill-worker, --kill-server), which is started again. At the end each job's map is held
against that of `cgeartheye map`. Prints a table and keeps it in OUT/figures.json. It gives up after
--limit minutes.

With --overhead it measures, without kills, the time of a job over that of the command on the same
scene, and from the request to the first visible rows, medians of --rounds. With --load it measures,
without workers, the server's memory while the clients ask for --requests answers: tiles, lists,
plans and new jobs. With --start it measures the time from the command to the first answer.
"""

import argparse
import hashlib
import http.client
import itertools
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cgeartheye.apps.publish import publish
from cgeartheye.utils.console import bar

ENDED = ("successful", "failed", "dismissed")


class Server:
    """The server's process, which may be killed and started again at the same address."""

    def __init__(self, out: Path, scene: Path, workers: int):
        self.out, self.port = out, 18_000 + random.randrange(2000)
        self.address = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "cgeartheye", "serve", "--registry", out / "apps"]
        command += ["--folder", out / f"data-{os.getpid()}", "--scenes", scene.parent]
        command += ["--port", self.port, "--workers", workers, "--max-queued", 1_000_000]
        command += ["--max-requests", 1_000_000]
        self.folder = out / f"data-{os.getpid()}"
        self.command = [str(word) for word in command]
        self.start()
        scenes = self.ask("/scenes")["scenes"]
        self.scene = next(one["id"] for one in scenes if one["label"] == scene.name)

    def start(self) -> float:
        """Start it; return the seconds until it answers."""
        started = time.monotonic()
        with (self.out / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        while self.ask("/health") is None:
            if self.process.poll() is not None:
                raise SystemExit(f"the server has ended:\n{(self.out / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        return time.monotonic() - started

    def stop(self) -> None:
        """End it in order."""
        self.process.terminate()
        self.process.wait(30)

    def ask(self, path: str, body: Any = None, key: str | None = None) -> Any:
        """Return an answer's JSON; none while the server is away, or refuses."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
        if key:
            headers["Idempotency-Key"] = key
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = stat.read_text().rsplit(")", 1)[1].split()
                line = (stat.parent / "cmdline").read_bytes()
            except OSError:
                continue
            if int(words[1]) == self.process.pid and b"\0worker\0" in line:
                found.append(int(stat.parent.name))
        return found

    def memory(self) -> float:
        """Return the server's resident memory, MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


def main() -> None:
    """Run the campaign, or measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--limit", type=float, default=60, help="minutes")
    parser.add_argument("--kill-worker", type=float, default=10, help="seconds between two")
    parser.add_argument("--kill-server", type=float, default=60, help="seconds between two")
    kinds = parser.add_mutually_exclusive_group()
    for kind in ("overhead", "load", "start"):
        kinds.add_argument(f"--{kind}", action="store_true")
    given = parser.parse_args()
    out, scene = given.out.resolve(), given.scene.resolve()
    out.mkdir(parents=True, exist_ok=True)
    publish(given.run, "Benchmark", name="benchmark", registry=out / "apps", replace=True)
    if given.overhead:
        figures = overhead(out, scene, given.rounds)
    elif given.load:
        figures = load(out, scene, given.requests, given.clients)
    elif given.start:
        figures = starting(out, scene, given.rounds)
    else:
        kills = given.kill_worker, given.kill_server
        figures = campaign(out, scene, given.jobs, given.clients, kills, 60 * given.limit)
    (out / "figures.json").write_text(json.dumps(figures, indent=1))
    table = Table("what", "figure")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}" if isinstance(value, float) else str(value))
    Console().print(table)


def starting(out: Path, scene: Path, rounds: int) -> dict[str, Any]:
    """Time from the command to the first answer, one worker beside it."""
    server = Server(out, scene, 1)  # warms the disk up
    seconds = []
    for _ in range(rounds):
        server.stop()
        seconds.append(server.start())
    server.stop()
    return {"start to ready, s": statistics.median(seconds), "longest, s": max(seconds)}


def overhead(out: Path, scene: Path, rounds: int) -> dict[str, Any]:
    """Time of a job over that of the command, in turns."""
    server = Server(out, scene, 1)
    body = {"inputs": {"scene": server.scene, "options": {"vector_format": []}}}
    served, alone, first_rows = [], [], []
    for turn in range(rounds + 1):
        began = time.monotonic()
        job = server.ask("/processes/benchmark/execution", body)["jobID"]
        seen = None
        while (state := server.ask(f"/jobs/{job}"))["status"] not in ENDED:
            if seen is None and state["progress"] > 0:
                with urllib.request.urlopen(f"{server.address}/jobs/{job}/partial.png") as answer:
                    if answer.status == 200:
                        seen = time.monotonic() - began
            time.sleep(0.05)
        assert state["status"] == "successful", state
        seconds = time.monotonic() - began
        began = time.monotonic()
        by_command(out, scene, out / f"alone-{turn}-{os.getpid()}")
        if turn:  # the first warms both up
            served.append(seconds)
            alone.append(time.monotonic() - began)
            first_rows.append(seen if seen is not None else seconds)
    server.stop()
    return {
        "job, s": statistics.median(served),
        "cgeartheye map, s": statistics.median(alone),
        "job over command": statistics.median(s / a for s, a in zip(served, alone, strict=True)),
        "to the first visible rows, s": statistics.median(first_rows),
    }


def by_command(out: Path, scene: Path, to: Path, *more: str) -> None:
    """Map the scene by the command."""
    command = [sys.executable, "-m", "cgeartheye", "map", str(out / "apps" / "benchmark")]
    command += [str(scene), "--out", str(to), *more]
    subprocess.run(command, check=True, capture_output=True)


def load(out: Path, scene: Path, requests: int, clients: int) -> dict[str, Any]:
    """Memory of the server while clients ask for what the page asks for."""
    server = Server(out, scene, 0)
    place = server.ask(f"/scenes/{server.scene}/tilejson.json")
    zoom, (west, south, east, north) = place["maxzoom"], place["bounds"]
    asked = {"inputs": {"scene": server.scene}}
    paths: list[Callable[[], Any]] = [
        lambda: tile(server, zoom, random.uniform(west, east), random.uniform(south, north)),
        lambda: tile(server, zoom - 2, random.uniform(west, east), random.uniform(south, north)),
        lambda: server.ask("/jobs?limit=20"),
        lambda: server.ask("/scenes"),
        lambda: server.ask("/processes"),
        lambda: server.ask("/apps/benchmark/fit", asked["inputs"]),
        lambda: server.ask("/processes/benchmark/execution", asked),
    ]
    seen: list[float] = []
    numbers, lock = itertools.count(), threading.Lock()
    with bar("asking", requests, "requests") as progress:

        def client() -> None:
            while (number := next(numbers)) < requests:
                paths[number % len(paths)]()
                with lock:
                    progress.advance()
                    if number % max(1, requests // 10) == 0:
                        seen.append(server.memory())

        started = time.monotonic()
        in_threads(client, clients)
    seconds = time.monotonic() - started
    seen.append(server.memory())
    server.stop()
    names = ("first", *(f"after {10 * n} %" for n in range(1, len(seen))))
    return {
        "requests": requests,
        "a second": requests / seconds,
        **{f"memory {name}, MB": value for name, value in zip(names, seen, strict=True)},
    }


def tile(server: Server, zoom: int, longitude: float, latitude: float) -> None:
    """Ask for the tile of a place."""
    from rio_tiler.constants import WEB_MERCATOR_TMS

    found = WEB_MERCATOR_TMS.tile(longitude, latitude, zoom)
    server.ask(f"/scenes/{server.scene}/tiles/{zoom}/{found.x}/{found.y}")  # which is no JSON


def in_threads(work: Callable[[], None], count: int) -> None:
    """Do the same in so many threads."""
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def campaign(
    out: Path, scene: Path, count: int, clients: int, every: tuple[float, float], limit: float
) -> dict[str, Any]:
    """Jobs under kills."""
    server = Server(out, scene, 2)
    body = {"inputs": {"scene": server.scene}}
    done: dict[int, tuple[str, str]] = {}
    numbers, lock, over = itertools.count(), threading.Lock(), threading.Event()
    started = time.monotonic()
    kills: Counter[str] = Counter()
    starts: list[float] = []

    def killer() -> None:
        last = time.monotonic()
        while not over.wait(every[0]):
            if time.monotonic() - last > every[1]:
                last = time.monotonic()
                server.process.kill()
                server.process.wait()
                starts.append(server.start())
                kills["servers"] += 1
            elif workers := server.workers():
                os.kill(random.choice(workers), signal.SIGKILL)
                kills["workers"] += 1

    with bar("jobs", count, "jobs") as progress:

        def client() -> None:
            while (number := next(numbers)) < count:
                job, status = None, ""
                while status not in ENDED:
                    if time.monotonic() - started > limit:
                        return
                    if job is None:  # the same key again: the same job
                        path = "/processes/benchmark/execution"
                        answer = server.ask(path, body, key=f"job {number}")
                    else:
                        answer = server.ask(f"/jobs/{job}")
                    if answer:
                        job, status = answer["jobID"], answer["status"]
                    time.sleep(1)
                assert job
                with lock:
                    done[number] = job, status
                    progress.advance()

        killing = threading.Thread(target=killer)
        killing.start()
        in_threads(client, clients)
    over.set()
    killing.join()
    seconds = time.monotonic() - started
    server.stop()
    by_command(out, scene, out / f"right-{os.getpid()}", "--vector-format", "gpkg")
    right = digest(out / f"right-{os.getpid()}" / "map.tif")
    made = [digest(folder / "map" / "map.tif") for folder in (server.folder / "jobs").iterdir()]
    with sqlite3.connect(server.folder / "jobs.sqlite") as table:
        rows = table.execute("SELECT status, attempt, message FROM jobs").fetchall()
    messages = sorted({message for status, _, message in rows if status == "failed"})
    return {
        "jobs asked for": count,
        "successful": sum(status == "successful" for _, status in done.values()),
        "different jobs": len({job for job, _ in done.values()}),
        "rows in the table": len(rows),
        "folders": len(made),
        "with the bytes of the command": made.count(right),
        "claimed more than once": sum(attempt > 1 for _, attempt, _ in rows),
        "most claims of a job": max((attempt for _, attempt, _ in rows), default=0),
        "workers killed": kills["workers"],
        "servers killed": kills["servers"],
        "start of a killed server, s": statistics.median(starts) if starts else "none",
        "seconds": seconds,
        **({"why some failed": "; ".join(messages)} if messages else {}),
    }


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; empty: it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


if __name__ == "__main__":
    main()
