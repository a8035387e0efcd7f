import json
import pickle
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cgeartheye import cli
from cgeartheye.config import Backbone, Curation, Network
from cgeartheye.jlssd.curation import embeddings, report
from cgeartheye.jlssd.curation.backbone import read_network
from cgeartheye.jlssd.curation.curate import curate, place_features
from cgeartheye.jlssd.curation.embeddings import Features, encode_chips
from cgeartheye.jlssd.quality.filter import status_counts
from cgeartheye.jlssd.resumable import claim
from cgeartheye.models.backbone import build
from cgeartheye.scale import features
from cgeartheye.training import distributed
from cgeartheye.utils.errors import UserError

KINDS = {"water": ((30, 60, 110), 44), "field": ((150, 140, 70), 12), "town": ((150, 90, 90), 6)}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """62 places, most of them water, of two seasons each; and two copies of a town."""
    root, rows = tmp_path_factory.mktemp("pool"), []
    random = np.random.default_rng(0)
    for kind, (color, count) in KINDS.items():
        for number in range(count):
            for season in ("spring", "summer"):
                tint = np.array(color) + random.normal(0, 12, 3)
                pixels = tint + random.normal(0, 5, (56, 56, 3))
                if kind == "town":
                    pixels[:: 7 + number] += 70
                place = f"{kind}_{number:02d}"
                path = f"{place}_{season}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / path)
                facts = {"land_cover": kind, "region": "north" if number % 2 else "south"}
                rows.append({"path": path, "place": place, "season": season, **facts})
    for copy in ("copy_a", "copy_b"):
        for season in ("spring", "summer"):
            path = f"town_00_{season}.png"
            facts = {"land_cover": "town", "region": "north"}
            rows.append({"path": path, "place": copy, "season": season, **facts})
    rows = [row | {"status": "ok", "reason": None, "lon": 0.5} for row in rows]
    nowhere = {"place": "zz", "season": "spring", "status": "cloud", "reason": "cloud 0.9"}
    rows.append(dict.fromkeys(rows[0]) | nowhere)
    order = random.permutation(len(rows))
    table = pa.Table.from_pylist([rows[n] for n in order])
    pq.write_table(table, root / "chips.parquet")
    return root


def settings(**changes: object) -> Curation:
    network = Network(name="tiny", weights="random", gsd=1.0, layer_scale=1.0)
    values = {"num_places": 20, "image_size": 56, "clusters": (12, 3), "dedup_threshold": 0.9999}
    return Curation(backbone=network, **{**values, **changes})


def test_rare_scenes_are_kept_and_copies_are_not(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "curated.parquet"
    done = curate(pool / "chips.parquet", out, settings(), workers=0)
    assert done is not None
    table = pq.read_table(out)
    assert (out.parent / table["path"][0].as_py()).is_file() or table["path"][0].as_py() is None
    by_place: dict[str, set[str]] = {}
    for place, status in zip(table["place"].to_pylist(), table["status"].to_pylist(), strict=True):
        by_place.setdefault(place, set()).add(status)
    assert all(len(found) == 1 for found in by_place.values())  # seasons stay together
    kept = [place for place, found in by_place.items() if found == {"ok"}]
    assert len(kept) == 20
    assert {"copy_b", "town_00"}.isdisjoint(kept)  # copy_a comes before them
    assert by_place["zz"] == {"cloud"}
    town = sum(place.startswith(("town", "copy")) for place in kept)
    water = sum(place.startswith("water") for place in kept)
    assert town >= 4  # of 6 different ones
    assert water <= 10  # of 44
    balance = report.balances_of(done)
    assert balance["land cover"].effective[1] > 1.3 * balance["land cover"].effective[0]
    assert balance["land cover"].before.sum() == 64
    assert "20 of 64 places kept, 2 near-duplicates" in capsys.readouterr().out
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["balance"]["land cover"]["places"]["water"] == [44, water]
    assert "cluster of level 2" in out.with_suffix(".html").read_text()
    assert min(Image.open(out.with_suffix(".jpg")).size) > 200


def test_same_output_after_a_kill(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again = tmp_path / "whole.parquet", tmp_path / "again.parquet"
    monkeypatch.setattr(embeddings, "SHARD", 40)
    curate(pool / "chips.parquet", whole, settings(batch_size=16), workers=0)
    encode, calls = embeddings.ShardEncoder._encode, []

    def killed(self, rows):  # type: ignore[no-untyped-def]
        calls.append(rows)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, rows)

    monkeypatch.setattr(embeddings.ShardEncoder, "_encode", killed)
    with pytest.raises(KeyboardInterrupt):
        curate(pool / "chips.parquet", again, settings(batch_size=16), workers=0)
    assert not again.exists()
    curate(pool / "chips.parquet", again, settings(batch_size=16), workers=0)
    assert again.read_bytes() == whole.read_bytes()
    assert [rows.start for rows in calls] == [0, 40, 40, 80, 120]
    curate(pool / "chips.parquet", again, settings(batch_size=16, num_places=5), workers=0)
    assert len(calls) == 5  # another number needs no second look
    assert status_counts(pq.read_table(again))["ok"] == 10


class StandIn:
    """A cluster of one actor that is here; what Ray would send goes through pickle."""

    def count(self, workers: int | None, on_gpu: bool) -> int:
        return 2

    def work(self, kind, given, method, tasks, count, on_gpu):  # type: ignore[no-untyped-def]
        actor = kind(*pickle.loads(pickle.dumps(given)))
        for task in tasks:
            yield getattr(actor, method)(pickle.loads(pickle.dumps(task)))


@pytest.mark.parametrize("engine", ["here", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_cluster_writes_the_bytes_of_one_process(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(embeddings, "SHARD", 40)  # of the driver; workers are given rows
    chips, how = pool / "chips.parquet", settings(batch_size=16)
    curate(chips, tmp_path / "whole.parquet", how, workers=0)
    with monkeypatch.context() as patch:
        if engine == "ray":
            pytest.importorskip("ray", reason="pip install 'cgeartheye[ray]'")
            patch.setattr(embeddings.ShardEncoder, "_encode", lambda *_: pytest.fail("here"))
        else:
            patch.setattr(features, "connected", lambda _: nullcontext(StandIn()))
        spread = features.encode_on_cluster("local", chips, how, 0, 0)
        curate(chips, tmp_path / "map.parquet", how, 0, 0, spread)
    files = [sorted((tmp_path / f"{name}.features").rglob("*.npy")) for name in ("whole", "map")]
    assert len(files[0]) == 4
    for one, other in zip(*files, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "map.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    # All is there: nothing is asked of a cluster again.
    unreachable = features.encode_on_cluster("127.0.0.1:1", chips, how, 0, 0)
    curate(chips, tmp_path / "map.parquet", how, 0, 0, unreachable)


def test_place_features_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    place = np.sort(random.integers(0, 12, 50))
    place = np.unique(place, return_inverse=True)[1]
    rows = (random.normal(size=(50, 6)) + 5).astype(np.float16)
    shards = [rows[:1], rows[1:17], rows[17:18], rows[18:]]
    found = place_features(Features(shards), place)
    centered = rows.astype(np.float64) - rows.astype(np.float64).mean(0)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    for index in range(place[-1] + 1):
        mean = unit[place == index].sum(0)
        assert np.allclose(found[index], mean / np.linalg.norm(mean), atol=2e-3)


def test_processes_share_the_chips(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "SHARD", 10)
    paths = sorted(pool.glob("*.png"))[:35]
    built = build(Backbone(name="tiny", weights="random", gsd=1.0), 56)
    whole = encode_chips(paths, built, settings(batch_size=5), 0, tmp_path / "whole", CPU)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (1, 0):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        if rank:  # before the first process has done its share
            with pytest.raises(FileNotFoundError):
                encode_chips(paths, built, settings(batch_size=5), 0, tmp_path / "two", CPU)
            assert len(list((tmp_path / "two").rglob("*.npy"))) == 2
    both = encode_chips(paths, built, settings(batch_size=5), 0, tmp_path / "two", CPU)
    for (_, ours), (_, theirs) in zip(whole.pieces(), both.pieces(), strict=True):
        assert (ours == theirs).all()


def test_a_chip_that_cannot_be_read_is_named(pool: Path, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(
        [{"path": "gone.png", "place": "a", "season": "spring", "status": "ok"}]
    )
    pq.write_table(table, tmp_path / "chips.parquet")
    with pytest.raises(UserError, match=r"no image .*gone\.png"):
        curate(tmp_path / "chips.parquet", tmp_path / "curated.parquet", settings(), workers=0)


@pytest.mark.parametrize(("copies", "kept"), [(1, 1), (6, 1)])
def test_a_pool_of_one_scene(pool: Path, tmp_path: Path, copies: int, kept: int) -> None:
    path = str(pool / "town_00_spring.png")
    rows = [{"path": path, "place": f"p{n}", "season": "s", "status": "ok"} for n in range(copies)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "chips.parquet")
    done = curate(tmp_path / "chips.parquet", tmp_path / "out.parquet", settings(), 0, 0)
    assert done is not None
    assert done.kept.sum() == kept
    assert (tmp_path / "out.jpg").is_file()


def test_no_place_to_write(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file"):
        curate(pool / "chips.parquet", tmp_path / "file/out.parquet", settings(), 0, 0)
    with pytest.raises(UserError, match=r"out\.jpg is to be a Parquet file"):
        curate(pool / "chips.parquet", tmp_path / "out.jpg", settings(), 0, 0)


def test_two_curations_at_once(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "curated.parquet"
    with claim(out), pytest.raises(UserError, match=r"another process makes .*curated\.parquet"):
        curate(pool / "chips.parquet", out, settings(), workers=0)
    assert not out.with_suffix(".features").exists()


def test_more_than_there_are(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = curate(
        pool / "chips.parquet", tmp_path / "c.parquet", settings(num_places=500), workers=0
    )
    assert done is not None
    assert done.kept.sum() == 62
    assert "num_places=500 is more than the 62" in " ".join(capsys.readouterr().out.split())


def test_backbone_of_a_config_or_of_weights(tmp_path: Path) -> None:
    from cgeartheye.models.backbone.checkpoint_io import save_tensors

    config = tmp_path / "mine.yaml"
    config.write_text("backbone: {name: base, gsd: 2.0, tuning: lora}\ndata: {root: nowhere}\n")
    assert read_network(config) == Network(name="base", gsd=2.0)
    module = build(Backbone(name="tiny", weights="random", gsd=1.0), 56).module
    save_tensors(tmp_path / "tiny.safetensors", module.state_dict(), {})
    found = read_network(tmp_path / "tiny.safetensors")
    assert (found.name, found.weights) == ("tiny", tmp_path / "tiny.safetensors")
    tensors = {name: value[..., :100] for name, value in module.state_dict().items()}
    save_tensors(tmp_path / "odd.safetensors", tensors, {})
    with pytest.raises(UserError, match="does not fit the backbone: of another shape"):
        read_network(tmp_path / "odd.safetensors")


def test_commands(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "backbone: {name: tiny, weights: random, gsd: 1.0, layer_scale: 1.0}\ndata: {root: x}\n"
    )
    quality, curated = str(tmp_path / "quality.parquet"), str(tmp_path / "curated.parquet")
    arguments = ["quality", str(pool / "chips.parquet"), "--out", quality, "--workers", "0"]
    assert _run(*arguments, "--set", "max_haze=1", "--set", "min_entropy=0") == 0
    arguments = [
        "curate",
        quality,
        "--backbone",
        str(config),
        "--num-places",
        "9",
        "--out",
        curated,
    ]
    arguments += ["--workers", "0", "--set", "image_size=56", "--set", "clusters=[10,3]"]
    assert _run(*arguments, "--set", "dedup_threshold=0.9999") == 0
    assert status_counts(pq.read_table(curated))["ok"] == 18
    assert "9 of 64 places kept" in capsys.readouterr().out
    assert _run(*arguments, "--set", "clusters=[3,10]") == 2
    assert "clusters must fall from level to level" in capsys.readouterr().err
    assert _run("quality", str(pool / "chips.parquet"), "--set", "max_hase=1") == 2
    assert "did you mean 'max_haze'" in capsys.readouterr().err


def _run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        cli.main(["jlssd", *arguments])
    return ended.value.code
