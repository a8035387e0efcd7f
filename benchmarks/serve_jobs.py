"""Jobs of a server while its workers and it itself are killed: none lost, none twice, same bytes.

    python benchmarks/serve_jobs.py RUN SCENE OUT [--jobs 200] [--clients 20]

Starts `cgeartheye serve` with two workers on an application of RUN and the scene, and so many
clients that ask for maps and wait for them. Every 10 s a worker is killed, and every 60 s the
server, which is started again. At the end each job's map is held against that of `cgeartheye map`,
and the server's memory at the beginning against that at the end. Prints a table and keeps it in
OUT/figures.json. With --overhead it measures, without kills, the time of a job over that of the
command on the same scene, and from the request to the first visible rows, medians of --rounds.
"""

import argparse
import hashlib
import json
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cgeartheye.apps.publish import publish

WORKER_SECONDS, SERVER_SECONDS = 10.0, 60.0


class Server:
    """The server's process, which may be killed and started again at the same address."""

    def __init__(self, out: Path, scene: Path, workers: int):
        self.out, self.port = out, 18_000 + random.randrange(2000)
        self.address = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "cgeartheye", "serve", "--registry", out / "apps"]
        command += ["--folder", out / "data", "--scenes", scene.parent, "--port", self.port]
        command += ["--workers", workers, "--max-queued", 10_000]
        self.command = [str(word) for word in command]
        self.start()

    def start(self) -> float:
        """Start it; return the seconds until it answers."""
        started = time.monotonic()
        with (self.out / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        while self.ask("/health") is None:
            assert self.process.poll() is None, (self.out / "log").read_text()[-2000:]
            time.sleep(0.02)
        return time.monotonic() - started

    def ask(self, path: str, body: Any = None, key: str | None = None) -> Any:
        """Return an answer's JSON; none while the server is away."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
        if key:
            headers["Idempotency-Key"] = key
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except (OSError, urllib.error.URLError, ValueError):
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
    """Run the campaign, or measure the overhead."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--overhead", action="store_true")
    given = parser.parse_args()
    out, scene = given.out.resolve(), given.scene.resolve()
    out.mkdir(parents=True, exist_ok=True)
    publish(given.run, "Benchmark", name="benchmark", registry=out / "apps", replace=True)
    if given.overhead:
        figures = overhead(out, scene, given.rounds)
    else:
        figures = campaign(out, scene, given.jobs, given.clients)
    (out / "figures.json").write_text(json.dumps(figures, indent=1))
    table = Table(show_header=False)
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}" if isinstance(value, float) else str(value))
    Console().print(table)


def overhead(out: Path, scene: Path, rounds: int) -> dict[str, Any]:
    """Time of a job over that of the command, in turns."""
    server = Server(out, scene, 1)
    ready = time.monotonic()
    ids = [one["id"] for one in server.ask("/scenes")["scenes"] if one["label"] == scene.name]
    body = {"inputs": {"scene": ids[0], "options": {"vector_format": []}}}
    served, alone, first_rows = [], [], []
    for turn in range(rounds + 1):
        began = time.monotonic()
        job = server.ask("/processes/benchmark/execution", body)["jobID"]
        seen = None
        while (state := server.ask(f"/jobs/{job}"))["status"] in ("accepted", "running"):
            if seen is None and state["progress"] > 0:
                with urllib.request.urlopen(f"{server.address}/jobs/{job}/partial.png") as answer:
                    if answer.status == 200:
                        seen = time.monotonic() - began
            time.sleep(0.05)
        assert state["status"] == "successful", state
        seconds = time.monotonic() - began
        command = [sys.executable, "-m", "cgeartheye", "map", str(out / "apps" / "benchmark")]
        command += [str(scene), "--out", str(out / f"alone-{turn}-{ready:.0f}")]
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        if turn:  # the first warms both up
            served.append(seconds)
            alone.append(time.monotonic() - began)
            first_rows.append(seen if seen is not None else seconds)
    server.process.send_signal(signal.SIGTERM)
    server.process.wait()
    return {
        "job, s": statistics.median(served),
        "cgeartheye map, s": statistics.median(alone),
        "job over command": statistics.median(s / a for s, a in zip(served, alone, strict=True)),
        "to the first visible rows, s": statistics.median(first_rows),
    }


def campaign(out: Path, scene: Path, count: int, clients: int) -> dict[str, Any]:
    """Jobs under kills."""
    server = Server(out, scene, 2)
    ids = [one["id"] for one in server.ask("/scenes")["scenes"] if one["label"] == scene.name]
    body = {"inputs": {"scene": ids[0]}}
    done: dict[str, str] = {}
    numbers = iter(range(count))
    lock, over = threading.Lock(), threading.Event()

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            job = None
            while job is None:  # the same key again: the same job
                answer = server.ask("/processes/benchmark/execution", body, key=f"job {number}")
                job = answer and answer["jobID"]
                time.sleep(0.1)
            while True:
                state = server.ask(f"/jobs/{job}")
                if state and state["status"] in ("successful", "failed", "dismissed"):
                    done[job] = state["status"]
                    break
                time.sleep(0.3)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started, before = time.monotonic(), server.memory()
    for thread in threads:
        thread.start()
    kills = {"workers": 0, "servers": 0}

    def killer() -> None:
        last = time.monotonic()
        while not over.wait(WORKER_SECONDS):
            if time.monotonic() - last > SERVER_SECONDS:
                last = time.monotonic()
                server.process.kill()
                server.process.wait()
                server.start()
                kills["servers"] += 1
            elif workers := server.workers():
                subprocess.run(["kill", "-9", str(random.choice(workers))], check=False)
                kills["workers"] += 1

    killing = threading.Thread(target=killer)
    killing.start()
    for thread in threads:
        thread.join()
    over.set()
    killing.join()
    seconds, after = time.monotonic() - started, server.memory()
    server.process.terminate()
    server.process.wait()
    command = [sys.executable, "-m", "cgeartheye", "map", str(out / "apps" / "benchmark")]
    command += [str(scene), "--out", str(out / "right"), "--vector-format", "gpkg"]
    subprocess.run(command, check=True, capture_output=True)
    right = digest(out / "right" / "map.tif")
    jobs = out / "data" / "jobs"
    made = [digest(folder / "map" / "map.tif") for folder in jobs.iterdir()]
    return {
        "jobs asked for": count,
        "successful": sum(status == "successful" for status in done.values()),
        "folders": len(made),
        "with the bytes of the command": sum(one == right for one in made),
        "workers killed": kills["workers"],
        "servers killed": kills["servers"],
        "seconds": seconds,
        "memory of the server at first, MB": before,
        "memory at the end, MB": after,
    }


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
