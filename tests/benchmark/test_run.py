"""A table end to end, on chips made by code."""

import csv
import multiprocessing
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tests.quicker import leave_charts_out, shallow_backbone

import processes
from cgeartheye.benchmark import processes as starting
from cgeartheye.benchmark import worker
from cgeartheye.benchmark.cells import BenchmarkCell, plan
from cgeartheye.benchmark.run import benchmark
from cgeartheye.benchmark.summary import Summary
from cgeartheye.commands import tasks
from cgeartheye.commands.probe import probe
from cgeartheye.config import BenchmarkTable, make, read_section
from cgeartheye.tasks.sources import SourceFactory, Views
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import lock


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Processes of tests have one thread, and importing takes seconds."""
    patch.setattr(starting, "START", "fork")
    leave_charts_out(patch)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, shallow: None) -> None:
    quicken(monkeypatch)


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


def count_passes(patch: pytest.MonkeyPatch, out: Path) -> None:
    """Note how many views of the good chips go through each backbone."""
    encode = SourceFactory.encode

    def counted(self: SourceFactory, samples: Views, compute: Callable) -> Iterator:
        for batch, features in encode(self, samples, compute):
            if self._folder == out / "features" and self._config.data.root.name != "damaged":
                (out / "passes").mkdir(exist_ok=True)
                with (out / "passes" / self._built.fingerprint).open("a") as file:
                    print(features.shape[0] * features.shape[1], file=file)
            yield batch, features

    patch.setattr(SourceFactory, "encode", counted)


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
    with pytest.MonkeyPatch.context() as patch, shallow_backbone():
        quicken(patch)
        count_passes(patch, folder / "out")
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
    # Of the 21 images that are tested, which light heads read in half precision, nothing is
    # encoded but for the probes; of the 25 others 2 views are.
    passes = [sum(map(int, path.read_text().split())) for path in (out / "passes").iterdir()]
    assert passes == [25 + 21 + 25 * 2] * 2


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
from cgeartheye.benchmark import processes, run
processes.START = "fork"
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


def stamps(out: Path) -> dict[str, int]:
    return {str(p.parent.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("cell.json")}


def rewrite(path: Path) -> None:
    """Draw another image over one."""
    pixels = np.random.default_rng(9).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_cells_of_an_image_that_was_overwritten_run_again(tmp_path: Path, chips: Path) -> None:
    copies = {name: shutil.copytree(chips, tmp_path / name) for name in ("one", "other")}
    fields = {"image_size": 28, "train_fraction": 0.55}
    datasets = {
        name: {"task": "scene_classification", "data": {"root": str(root), **fields}}
        for name, root in copies.items()
    }
    path = write_table(tmp_path, chips, **SMALL, datasets=datasets, seeds=[0])
    out = tmp_path / "out"
    benchmark(path, out=out)
    before = stamps(out)
    assert len(before) == 4
    os.utime(copies["other"] / "brick" / "brick_0.png")  # the same bytes
    rewrite(copies["one"] / "brick" / "brick_0.png")
    benchmark(path, out=out, resume=True)
    after = stamps(out)
    rerun = {cell for cell in before if before[cell] != after[cell]}
    assert rerun == {cell for cell in before if cell.startswith("cells/one/")}
    # What comes of it is what comes of the new images alone.
    benchmark(path, out=tmp_path / "new")
    assert figures(out) == figures(tmp_path / "new")


def test_finished_cells_outlive_images_that_cannot_be_read(
    tmp_path: Path, chips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(chips, tmp_path / "chips")
    path, out = write_table(tmp_path, root, **SMALL, seeds=[0]), tmp_path / "out"
    benchmark(path, out=out)
    before, found = stamps(out), figures(out)
    root.rename(tmp_path / "elsewhere")
    root.mkdir()  # the mount point of a disk that is not there
    capsys.readouterr()
    benchmark(path, out=out, resume=True)
    said = " ".join("".join(capsys.readouterr()).split())
    assert "chips cannot be read now: 2 finished cells are kept as they are" in said
    assert (stamps(out), figures(out)) == (before, found)


def test_costs_of_a_protocol_that_comes_later(tmp_path: Path, chips: Path) -> None:
    """Its features are there already, and no others are measured again."""
    light = {"chips": {"task": "scene_classification", "set": {"decoder.kind": "light"}}}
    light["chips"]["data"] = {"root": str(chips), "image_size": 28, "train_fraction": 0.55}
    fields = {**SMALL, "datasets": light, "seeds": [0]}
    linear = {"linear": SMALL["protocols"]["linear"]}
    out, begun = tmp_path / "out", write_table(tmp_path, chips, **fields | {"protocols": linear})
    (first,) = benchmark(begun, out=out).entries.values()
    assert first.learned == 4 * (192 + 1)
    entries = benchmark(write_table(tmp_path, chips, **fields), out=out, resume=True).entries
    linear, light = (entries[name, "one", "chips"] for name in ("linear", "light"))
    assert linear.encode_seconds == light.encode_seconds > first.encode_seconds
    assert (linear.learned, linear.encode_ms) == (first.learned, first.encode_ms)


def test_what_is_set_of_one_data_set_wins_over_what_is_set_of_all(
    tmp_path: Path, chips: Path
) -> None:
    data = {"root": str(chips), "image_size": 28, "train_fraction": 0.55}
    entry = {"task": "scene_classification", "data": data, "set": {"training.lr": 0.5}}
    protocols = {"a": {"kind": "light"}, "b": {"kind": "light", "set": {"training.lr": 0.25}}}
    path = write_table(tmp_path, chips, datasets={"chips": entry}, protocols=protocols)
    cells = plan(read_section(path, BenchmarkTable, []), tmp_path).cells
    assert {cell.protocol: cell.config.training.lr for cell in cells} == {"a": 0.5, "b": 0.25}


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("published=Aidd", "chips: published=Aidd is none of AID, RESISC45"),
        ("figure=macro_f1", "top1 of AID is published, not macro_f1"),
    ],
)
def test_published_figures_stand_beside_the_same_figure(
    finished: tuple[Path, Path, Summary], field: str, sentence: str
) -> None:
    path, out, _ = finished
    with pytest.raises(UserError, match=sentence):
        benchmark(path, [f"datasets.chips.{field}"], out, resume=True)


def test_a_figure_that_a_task_does_not_have_is_a_sentence(tmp_path: Path, chips: Path) -> None:
    path, out = write_table(tmp_path, chips, **SMALL, seeds=[0]), tmp_path / "out"
    benchmark(path, out=out)
    entries = benchmark(path, ["datasets.chips.figure=kappa"], out, resume=True).entries
    assert all("figure=kappa is none of top1" in entry.errors[0] for entry in entries.values())


def figures(out: Path) -> list[tuple[str, ...]]:
    """Return what the table holds beside times and memory."""
    names = ("protocol", "backbone", "dataset", "mean", "deviation", "low", "high", "error")
    return [tuple(row[n] for n in names) for row in csv.DictReader((out / "table.csv").open())]


def test_two_workers_make_the_same_table_and_a_killed_one_is_started_again(
    tmp_path: Path, chips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path, chips, **SMALL)
    benchmark(path, out=tmp_path / "alone")
    killed, run_cell = tmp_path / "killed", worker.run_cell

    def dies_once(cell: BenchmarkCell) -> None:
        if cell.protocol == "light" and cell.seed == 1 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        run_cell(cell)

    monkeypatch.setattr(worker, "run_cell", dies_once)
    benchmark(path, out=tmp_path / "both", workers=2)
    assert killed.exists()
    assert figures(tmp_path / "both") == figures(tmp_path / "alone")
    assert not any(row[-1] for row in figures(tmp_path / "both"))


def test_a_process_that_is_killed_each_time_is_noted(
    tmp_path: Path, chips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path, chips, **SMALL, seeds=[0])
    run_cell = worker.run_cell

    def dies(cell: BenchmarkCell) -> None:
        if cell.protocol == "light":
            os.kill(os.getpid(), signal.SIGKILL)
        run_cell(cell)

    monkeypatch.setattr(worker, "run_cell", dies)
    summary = benchmark(path, out=tmp_path / "out")
    assert (
        "signal 9, perhaps for lack of memory" in summary.entries["light", "one", "chips"].errors[0]
    )
    assert summary.entries["linear", "one", "chips"].values
    monkeypatch.setattr(worker, "run_cell", run_cell)
    summary = benchmark(path, out=tmp_path / "out", resume=True)
    assert summary.entries["light", "one", "chips"].values


def note_start(path: Path) -> None:
    path.write_text(multiprocessing.get_start_method())


def test_loaders_of_a_cell_begin_as_those_of_a_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as the process of the cell did, by an interpreter of their own."""
    monkeypatch.setattr(starting, "START", "forkserver")
    with starting.processes(None, 1, on_gpu=False) as local:
        code = local.run(note_start, (tmp_path / "how",), tmp_path / "log", {})
    assert code == 0
    assert (tmp_path / "how").read_text() == multiprocessing.get_start_method()
