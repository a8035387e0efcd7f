"""A table end to end, on chips made by code."""

import csv
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

import processes
from cgeartheye.benchmark import run as runner
from cgeartheye.benchmark.cells import BenchmarkCell
from cgeartheye.benchmark.run import benchmark
from cgeartheye.benchmark.summary import Summary
from cgeartheye.commands import tasks
from cgeartheye.commands.probe import probe
from cgeartheye.config import make
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import lock


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of tests have one thread, and importing takes seconds."""
    monkeypatch.setattr(runner, "START", "fork")


def write_table(folder: Path, chips: Path, **fields: object) -> Path:
    data = {"image_size": 28, "train_fraction": 0.55}
    table = {
        "seeds": [0, 1],
        "resamples": 200,
        "backbones": {
            "one": {"name": "tiny", "weights": "random"},
            "other": {"name": "tiny", "weights": "random", "seed": 5, "layer_scale": 0.5},
        },
        "datasets": {
            "chips": {"task": "scene_classification", "data": {"root": str(chips), **data}}
        },
        "protocols": {
            "knn": {"kind": "knn", "k": 5},
            "linear": {"kind": "linear"},
            "few": {"kind": "few", "labels": 2, "draws": 2},
            "light": {"kind": "light", "set": {"training.epochs": 2}},
        },
        "set": {
            "data.workers": 0,
            "data.batch_size": 8,
            "cache.views": 2,
            "training": {"device": "cpu", "lr": 1e-2},
        },
    }
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump(table | fields))
    return path


@pytest.fixture(scope="module")
def finished(
    chips: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Path, Summary]]:
    """The table's file, the folder, and what came of it: chips, damaged chips, and none."""
    folder = tmp_path_factory.mktemp("benchmark")
    damaged = shutil.copytree(chips, folder / "damaged")
    broken = next(damaged.glob("*/*.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    data = {"image_size": 28, "train_fraction": 0.55}
    datasets = {
        name: {"task": "scene_classification", "data": {"root": str(root), **data}}
        for name, root in (("chips", chips), ("damaged", damaged), ("absent", folder / "absent"))
    }
    datasets["chips"]["published"] = "AID"
    path = write_table(folder, chips, datasets=datasets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "START", "fork")
        yield path, folder / "out", benchmark(path, out=folder / "out")


def cells_of(summary: Summary, dataset: str) -> list[BenchmarkCell]:
    return [cell for cell in summary.plan.cells if cell.dataset == dataset]


def test_figures_are_those_of_each_run_alone(
    finished: tuple[Path, Path, Summary], tmp_path: Path
) -> None:
    _, _, summary = finished
    cells = cells_of(summary, "chips")
    assert len(cells) == 2 * (1 + 3 * 2)
    for cell in cells:
        if cell.backbone == "one" or cell.protocol == "few":
            where = {"work_dir": tmp_path / "alone" / f"{cell}" / "run", "cache.folder": None}
            config = make(cell.config, where)
            if cell.probe:
                figure = probe(config, [cell.probe]).figures[cell.probe.name]
            else:
                figure = tasks.train(config)["top1"]
            values = summary.entries[cell.protocol, cell.backbone, "chips"].values
            assert values[0 if cell.protocol == "knn" else cell.seed] == figure, cell


def test_features_are_encoded_once(finished: tuple[Path, Path, Summary]) -> None:
    _, out, _ = finished
    chips = 46
    kept = [np.load(path, mmap_mode="r") for path in (out / "features").glob("*.npy")]
    rows = sum(len(features) for features in kept if features.dtype == np.float32)
    assert rows == 2 * chips  # a backbone each, whatever the protocol and seed


def test_outputs_hold_figures_hashes_links_and_the_published_figure(
    finished: tuple[Path, Path, Summary],
) -> None:
    _, out, summary = finished
    page = (out / "report.html").read_text()
    markdown = (out / "table.md").read_text()
    for text in (page, markdown, (out / "table.csv").read_text(), (out / "table.tex").read_text()):
        assert summary.plan.digest in text
    entry = summary.entries["linear", "one", "chips"]
    assert f"{entry.mean:.2f} ± {entry.deviation:.2f}" in markdown
    assert "97.60" in markdown
    links = re.findall(r"\((cells/[^)]*)\)", markdown)
    assert len(links) == 16
    assert all((out / link).exists() for link in links)
    rows = list(csv.DictReader((out / "table.csv").open()))
    (row,) = [r for r in rows if (r["protocol"], r["backbone"]) == ("linear", "one")][:1]
    assert float(row["mean"]) == entry.mean == np.mean(entry.values)
    assert float(row["low"]) <= entry.mean <= float(row["high"])
    assert int(row["learned_parameters"]) == 4 * (192 + 1)
    assert entry.deviation == pytest.approx(np.std(entry.values, ddof=1))


def test_a_failing_cell_and_a_missing_data_set_are_noted(
    finished: tuple[Path, Path, Summary],
) -> None:
    _, out, summary = finished
    for key, entry in summary.entries.items():
        assert bool(entry.errors) == (key[2] == "damaged"), key
        assert all(".png" in error for error in entry.errors)
    text = (out / "table.md").read_text()
    assert text.count("not here") >= 8
    assert "absent is not here: there is no folder" in text
    assert "failed" in text


def test_nothing_is_chosen_on_what_is_tested(finished: tuple[Path, Path, Summary]) -> None:
    _, _, summary = finished
    for cell in cells_of(summary, "chips"):
        if not cell.probe:
            log = (cell.folder / "metrics.jsonl").read_text()
            assert log.count('"kind": "val"') == 1
            assert "nothing was chosen" in (cell.folder / "report.html").read_text()


def test_a_folder_is_not_used_twice_nor_for_other_settings(
    finished: tuple[Path, Path, Summary], tmp_path: Path, chips: Path
) -> None:
    path, out, _ = finished
    with pytest.raises(UserError, match="already holds a benchmark: add --resume"):
        benchmark(path, out=out)
    with lock(out / ".lock"), pytest.raises(UserError, match="another benchmark is running"):
        benchmark(path, out=out, resume=True)
    with pytest.raises(UserError, match="begun with other settings"):
        benchmark(path, ["protocols.linear.set={data.resize: 30}"], out, resume=True)


SMALL = {
    "backbones": {"one": {"name": "tiny", "weights": "random"}},
    "protocols": {
        "linear": {"kind": "linear"},
        "light": {"kind": "light", "set": {"training.epochs": 3}},
    },
}
CODE = """
import sys
from pathlib import Path
from cgeartheye.benchmark import run
from cgeartheye.reports import charts
run.START = "fork"
charts.embedding = charts.confusion_matrix = charts.reliability = lambda *_, **__: "<svg></svg>"
charts.embed = lambda features: (__import__("numpy").arange(1), None)
run.benchmark(Path(sys.argv[1]), out=Path(sys.argv[2]), resume=True)
"""


def test_killed_three_times_it_ends_with_the_same_table(tmp_path: Path, chips: Path) -> None:
    path = write_table(tmp_path, chips, **SMALL)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    processes.run(["-c", CODE, path, whole])
    for kill in range(3):
        process = processes.start(["-c", CODE, path, killed])
        end = time.monotonic() + 60
        while len(list(killed.glob("cells/*/*/*/cell.json"))) <= kill and process.is_alive():
            assert time.monotonic() < end
            time.sleep(0.005)
        process.kill()
        process.join()
        assert not (killed / "table.md").exists()
    records = killed.glob("cells/*/*/*/cell.json")
    done = {p: p.stat().st_mtime_ns for p in records if "figures" in p.read_text()}
    time.sleep(0.3)  # what was begun ends with its parent
    processes.run(["-c", CODE, path, killed])
    assert (killed / "table.md").read_text() == (whole / "table.md").read_text()
    assert all(p.stat().st_mtime_ns == when for p, when in done.items())
