"""A table by Ray on this machine: a worker is killed, and the table is that of one process."""

import csv
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

from cgeartheye.benchmark import processes as starting
from cgeartheye.benchmark.run import benchmark
from cgeartheye.utils.errors import UserError

pytest.importorskip("ray", reason="pip install 'cgeartheye[ray]'")
COLUMNS = ("protocol", "backbone", "dataset", "mean", "low", "high", "error")


def table_of(chips: Path, path: Path) -> Path:
    table = {
        "seeds": [0],
        "resamples": 50,
        "backbones": {"one": {"name": "tiny", "weights": "random"}},
        "datasets": {
            "chips": {
                "task": "scene_classification",
                "data": {"root": str(chips), "image_size": 28, "train_fraction": 0.55},
            }
        },
        "protocols": {
            "linear": {"kind": "linear"},
            "light": {"kind": "light", "set": {"training.epochs": 2}},
        },
        "set": {"data.workers": 0, "cache.views": 2, "training": {"device": "cpu", "lr": 1e-2}},
    }
    path.write_text(yaml.safe_dump(table))
    return path


def figures(out: Path) -> list[list[str]]:
    with (out / "table.csv").open() as file:
        return [[row[name] for name in COLUMNS] for row in csv.DictReader(file)]


def kill_a_worker(killed: list[int], ended: threading.Event) -> None:
    """Kill the first process of Ray's that has begun a cell."""
    while not ended.wait(0.05) and not killed:
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if line.read_bytes().startswith(b"ray::_run_in"):
                    time.sleep(1)
                    os.kill(int(line.parent.name), signal.SIGKILL)
                    killed.append(int(line.parent.name))
                    return
            except OSError:
                continue


@pytest.mark.slow  # minutes: each process of Ray imports the package
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_a_killed_worker_leaves_the_same_table(
    chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table_of(chips, tmp_path / "table.yaml")
    killed: list[int] = []
    ended = threading.Event()
    killing = threading.Thread(target=kill_a_worker, args=(killed, ended))
    killing.start()
    try:
        benchmark(path, out=tmp_path / "by ray", cluster="local", workers=2)
    finally:
        ended.set()
        killing.join()
    assert killed
    monkeypatch.setattr(starting, "START", "fork")
    benchmark(path, out=tmp_path / "alone")
    assert figures(tmp_path / "by ray") == figures(tmp_path / "alone")
    assert not any(row[-1] for row in figures(tmp_path / "alone"))


def test_an_address_that_does_not_answer(chips: Path, tmp_path: Path) -> None:
    path = table_of(chips, tmp_path / "table.yaml")
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        benchmark(path, out=tmp_path / "out", cluster="127.0.0.1:1")
