import json
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests import processes
from tests.quicker import shallow_backbone
from tools.jlssd_country import write_configs

from cgeartheye import cli
from cgeartheye.config import load
from cgeartheye.jlssd import data_card as card
from cgeartheye.jlssd import pipeline as module
from cgeartheye.jlssd.pipeline import build
from cgeartheye.jlssd.resumable import Ledger, digest_of
from cgeartheye.pretraining.store.reader import Store
from cgeartheye.synthetic import SEASONS
from cgeartheye.synthetic.country import Country, write_country

TABLES = ("design", "chips", "quality", "curated", "packed")


@pytest.fixture(autouse=True)
def _shallow(shallow: None) -> None:
    """The backbone only tells chips apart."""


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 km a side, of which 0.6 km have pictures."""
    folder = tmp_path_factory.mktemp("country")
    write_country(Country(kilometers=2, tiles=1, world=800), folder)
    sizes = {"cells": 100, "total": 250, "size": 70, "keep": 12, "steps": 2, "workers": 0}
    write_configs(folder, **sizes)
    return folder


@pytest.fixture(scope="module")
def whole(country: Path) -> Path:
    """The work directory of a build that nobody disturbed."""
    with shallow_backbone():
        run("jlssd", "build", str(country / "jlssd.yaml"), "--work-dir", str(country / "whole"))
    return country / "whole"


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    assert ended.value.code == 0


def same(ours: Path, theirs: Path) -> bool:
    """Return whether two builds gave the same tables and the same images in the same order."""
    columns = [name for name in Store(ours / "store").table.column_names if name != "key"]
    stores = Store(ours / "store"), Store(theirs / "store")
    return (
        all(
            (ours / f"{n}.parquet").read_bytes() == (theirs / f"{n}.parquet").read_bytes()
            for n in TABLES
        )
        and stores[0].table.select(columns).equals(stores[1].table.select(columns))
        and stores[0].fingerprint == stores[1].fingerprint
    )


def test_every_step_is_a_table(whole: Path) -> None:
    design, chips, quality, curated, packed = (
        pq.read_table(whole / f"{n}.parquet") for n in TABLES
    )
    assert len(chips) == len(quality) == len(curated) == len(SEASONS) * len(design)
    kept = curated.filter(pc.equal(curated["status"], "ok"))
    assert packed["path"].to_pylist() == kept["path"].to_pylist()
    assert len(set(packed["place"].to_pylist())) == 12
    for path in packed["path"].to_pylist():
        assert (whole / path).is_file()
    dropped = chips.filter(pc.not_equal(chips["status"], "ok"))
    assert dropped["reason"].null_count == 0
    assert set(design["region"].to_pylist()) == {
        "north-west", "north-east", "south-west", "south-east"
    }  # fmt: skip


def test_the_store_keeps_the_columns(whole: Path) -> None:
    store = Store(whole / "store")
    columns = {"place", "season", "lon", "lat", "region", "land_cover", "band", "stratum"}
    assert columns | {"gsd", "cluster_1", "cluster_2", "cloud"} <= set(store.table.column_names)
    packed = pq.read_table(whole / "packed.parquet").sort_by(
        [("place", "ascending"), ("season", "ascending")]
    )
    assert store.table["stratum"].equals(packed["stratum"])
    assert set(store.table["season"].to_pylist()) == set(SEASONS)
    assert store.size(0) == (70, 70)


def test_the_card_counts_right(whole: Path) -> None:
    card = json.loads((whole / "card.json").read_text())
    curated, store = pq.read_table(whole / "curated.parquet"), Store(whole / "store")
    assert card["licence"] == "made by code, MIT"
    assert card["chips"] == len(store)
    lost = sum(one["chips"] for one in card["dropped"])
    assert len(curated) == card["chips"] + lost
    missing = next(one for one in card["dropped"] if one["status"] == "missing")
    assert missing["chips"] == pc.sum(pc.equal(curated["status"], "missing")).as_py()
    for counts in (card["counts"][name] for name in ("region", "land_cover", "band")):
        assert sum(kind["designed"] for kind in counts.values()) == card["designed places"]
        assert sum(kind["stored"] for kind in counts.values()) == card["places"] == 12
    page = (whole / "card.html").read_text()
    assert "What was dropped and why" in page


def test_the_card_names_what_the_store_holds_once(country: Path, tmp_path: Path) -> None:
    chips = {"place": ["p", "p", "q"], "status": ["ok"] * 3, "reason": pa.nulls(3, pa.string())}
    for name in ("chips", "quality", "curated"):
        pq.write_table(pa.table(chips), tmp_path / f"{name}.parquet")
    packed = {"place": ["p", "p", "q"], "path": ["p_a.jpg", "p_b.jpg", "q_a.jpg"]}
    pq.write_table(pa.table(packed), tmp_path / "packed.parquet")
    store = SimpleNamespace(table=pa.table({"path": ["q_a.jpg"]}))
    (lost,) = card.losses(load(country / "jlssd.yaml"), tmp_path, store)  # type: ignore[arg-type]
    assert (lost.step, lost.status, lost.chips, lost.places) == ("pack", "same file", 2, 1)
    assert lost.example == "p_a.jpg"


def test_finished_steps_are_not_done_again(
    whole: Path, country: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*.parquet")}
    arguments = ["jlssd", "build", str(country / "jlssd.yaml"), "--work-dir", str(whole)]
    run(*arguments)
    assert capsys.readouterr().out.count("done before") == 5
    assert before == {path: path.stat().st_mtime_ns for path in whole.glob("*.parquet")}
    run(*arguments, "--set", "curation.num_places=11")
    assert capsys.readouterr().out.count("done before") == 3
    assert len(set(Store(whole / "store").table["place"].to_pylist())) == 11
    run(*arguments)
    assert len(set(Store(whole / "store").table["place"].to_pylist())) == 12


def test_deleted_chips_are_cut_again(
    whole: Path, country: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chip = next(path for path in whole.glob("images/*/*/*.jpg"))
    pixels = chip.read_bytes()
    chip.unlink()
    run("jlssd", "build", str(country / "jlssd.yaml"), "--work-dir", str(whole))
    assert capsys.readouterr().out.count("done before") == 4
    assert chip.read_bytes() == pixels


def test_damaged_tables_are_made_anew_or_named(
    whole: Path, country: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = str(country / "jlssd.yaml")
    chips, packed = whole / "chips.parquet", whole / "packed.parquet"
    before = chips.read_bytes(), packed.read_bytes()
    chips.write_bytes(before[0][:-20])
    run("jlssd", "build", config, "--work-dir", str(whole))
    assert chips.read_bytes() == before[0]
    packed.write_bytes(before[1][:-20])
    with pytest.raises(SystemExit) as ended:
        cli.main(["jlssd", "build", config, "--work-dir", str(whole)])
    assert ended.value.code != 0
    assert f"{packed.name}isdamaged" in "".join(capfd.readouterr().err.split())
    packed.unlink()
    run("jlssd", "build", config, "--work-dir", str(whole))
    assert packed.read_bytes() == before[1]


@pytest.mark.parametrize("step", [2, 4])
def test_same_output_after_a_kill_between_steps(
    whole: Path, country: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Killed when a step has written its files and the ledger does not know it yet."""
    config = load(country / "jlssd.yaml", [f"work_dir={tmp_path / 'killed'}"])
    finish, finished = Ledger.finish, []

    def killed(self: Ledger, name: str, key: str, files: list[str]) -> None:
        finished.append(name)
        if len(finished) == step + 1:
            raise KeyboardInterrupt
        finish(self, name, key, files)

    monkeypatch.setattr(Ledger, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        build(config)  # type: ignore[arg-type]
    monkeypatch.setattr(Ledger, "finish", finish)
    build(config)  # type: ignore[arg-type]
    assert same(tmp_path / "killed", whole)


@pytest.mark.distributed
def test_same_output_after_kills_at_any_time(whole: Path, country: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = ["jlssd", "build", str(country / "jlssd.yaml"), "--work-dir", str(out)]
    landmarks = ["images/*/*/*.jpg", "store/shards/*"]
    for landmark in landmarks:
        process = processes.start(["-m", "cgeartheye", *command])
        while process.is_alive() and not list(out.glob(landmark)):
            time.sleep(0.01)
        process.kill()
        process.join()
    run(*command)
    assert same(out, whole)


def test_pretrain_takes_the_store(whole: Path, country: Path) -> None:
    overrides = [f"data.store={whole / 'store'}", "data.workers=0", "data.batch_size=4"]
    overrides += ["heads.prototypes=32", f"work_dir={country / 'run'}"]
    given = [part for one in overrides for part in ("--set", one)]
    run("pretrain", str(country / "pretrain.yaml"), *given)
    assert (country / "run" / "model.safetensors").is_file()


def test_mistakes_are_reported(
    country: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = country / "jlssd.yaml"
    for override, sentence in {
        "design.regions=gone.gpkg": "no file gone.gpkg",
        "curation.clusters=[5,50]": "clusters must fall from level to level",
        "license=": "license",
        "cut.siz=3": "did you mean 'size'",
    }.items():
        with pytest.raises(SystemExit) as error:
            cli.main(
                ["jlssd", "build", str(config), "--work-dir", str(tmp_path), "--set", override]
            )
        assert error.value.code == 2
        assert sentence in capsys.readouterr().err


def test_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (tmp_path / "a.txt").write_text("1")
    assert not ledger.is_done("one", "key")
    ledger.finish("one", "key", ["a.txt"])
    assert ledger.is_done("one", "key")
    assert not ledger.is_done("one", "other key")
    (tmp_path / "a.txt").write_text("2")
    assert not ledger.is_done("one", "key")
    assert digest_of(tmp_path / "a.txt") != digest_of(Path(module.__file__))
