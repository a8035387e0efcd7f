from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFilter
from tests import processes
from tests.jlssd.quality.test_measures import picture, with_cloud

from cgeartheye.config import ChipQuality
from cgeartheye.jlssd import workers
from cgeartheye.jlssd.quality import filter as quality_filter
from cgeartheye.jlssd.quality.filter import filter_chips, status_counts, valid_pixels
from cgeartheye.jlssd.quality.measures import MEASURES, measure
from cgeartheye.jlssd.resumable import claim
from cgeartheye.utils.errors import UserError


def bad_pictures() -> dict[str, np.ndarray]:
    """A picture that each rule drops, by the status that it gets."""
    good = picture(256)
    dark = good.copy()
    dark[:, :64] = 0
    blown = good.copy()
    blown[::2] = (255, 220, 120)
    blown[1::4] = (255, 100, 40)
    quiet = 90 + (np.random.default_rng(0).random((256, 256, 1)) < 0.5)
    return {
        "nodata": dark,
        "cloud": with_cloud(good, 110)[0],
        "haze": (good * 0.1 + 225 * 0.9) / np.array([1, 1, 1.15]),
        "saturated": blown,
        "flat": np.repeat(quiet, 3, 2),
        "monotonous": np.where(good[..., :1] > 100, (180, 170, 150), (40, 60, 70)),
        "blurred": np.asarray(Image.fromarray(good).filter(ImageFilter.GaussianBlur(4))),
    }


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    """A table of 12 chips: 3 good, one that each rule drops, one cut off, one never cut."""
    pictures = {f"good_{n}": picture(256, n) for n in range(3)} | bad_pictures()
    rows = []
    (tmp_path / "chips").mkdir()
    for name, pixels in pictures.items():
        path = f"chips/{name}.png"
        Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / path)
        rows.append({"path": path, "place": name, "season": "spring", "status": "ok"})
    cut_off = (tmp_path / "chips/good_0.png").read_bytes()[:2000]
    (tmp_path / "chips/cut_off.png").write_bytes(cut_off)
    rows.append({"path": "chips/cut_off.png", "place": "x", "season": "spring", "status": "ok"})
    rows.append({"path": None, "place": "y", "season": "spring", "status": "cloud"})
    table = pa.Table.from_pylist(rows)
    reasons = [None] * (len(rows) - 1) + ["no mosaic of spring covers it"]
    pq.write_table(
        table.append_column("reason", pa.array(reasons, pa.string())), tmp_path / "chips.parquet"
    )
    return tmp_path / "chips.parquet"


def test_each_rule_drops_its_chip(chips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = chips.parent / "quality.parquet"
    result = filter_chips(chips, out, ChipQuality(), workers=0)
    expected = ["ok"] * 3 + list(bad_pictures()) + ["unreadable", "cloud"]
    assert result["status"].to_pylist() == expected
    assert pq.read_table(out).equals(result)
    assert result["reason"][-1].as_py() == "no mosaic of spring covers it"
    assert "cut_off.png is truncated or damaged" in result["reason"][-2].as_py()
    assert result["reason"][3].as_py() == "nodata 0.25, nodata above 0.05"
    assert result["cloud"][-1].as_py() is None
    pixels = np.asarray(Image.open(chips.parent / "chips/good_1.png"))
    figures = measure(pixels, valid_pixels(pixels))
    for name in MEASURES:
        assert result[name][1].as_py() == pytest.approx(figures[name], rel=1e-6)
    with Image.open(out.with_suffix(".jpg")) as sheet:
        assert min(sheet.size) > 200
    assert not out.with_suffix(".parts").exists()
    printed = capsys.readouterr().out
    assert "cut_off.png is truncated" in printed
    assert "dropped by a step before" in printed


def test_limits_are_the_configs(chips: Path) -> None:
    out = chips.parent / "quality.parquet"
    lenient = ChipQuality(
        max_nodata=1, max_saturated=1, min_sharpness=0, min_contrast=0, min_entropy=0, max_haze=1
    )
    counts = status_counts(filter_chips(chips, out, lenient, workers=0))
    assert counts == {"ok": 9, "cloud": 2, "unreadable": 1}


def test_paths_lead_from_the_new_folder(chips: Path) -> None:
    out = chips.parent / "deep" / "er" / "quality.parquet"
    filter_chips(chips, out, ChipQuality(), workers=0)
    assert pq.read_table(out)["path"][0].as_py() == "../../chips/good_0.png"
    again = filter_chips(out, out.with_name("again.parquet"), ChipQuality(), workers=0)
    assert status_counts(again)["ok"] == 3


def test_a_killed_review_goes_on(chips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = chips.parent / "quality.parquet"
    whole = filter_chips(chips, out, ChipQuality(), workers=0)
    out.unlink()
    monkeypatch.setattr(quality_filter, "PART", 4)
    work, seen = quality_filter._measure, []

    def killed(folder: Path, part: tuple[Path, list[str]]) -> None:
        seen.append(part[1])
        if len(seen) == 3:
            raise KeyboardInterrupt
        work(folder, part)

    monkeypatch.setattr(quality_filter, "_measure", killed)
    with pytest.raises(KeyboardInterrupt):
        filter_chips(chips, out, ChipQuality(), workers=0)
    assert not out.exists()
    assert filter_chips(chips, out, ChipQuality(), workers=0).equals(whole)
    assert seen[2:] == [seen[2]] * 2  # the third part, twice; the first two once


@pytest.mark.distributed
def test_several_processes(chips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "START", processes.START)
    alone = filter_chips(chips, chips.parent / "alone.parquet", ChipQuality(), workers=0)
    assert filter_chips(chips, chips.parent / "two.parquet", ChipQuality(), workers=2).equals(alone)


def test_solid_black_is_nodata_and_shadow_is_not() -> None:
    pixels = picture(64)
    pixels[pixels.max(2) == 0] = 1
    pixels[10:20, 10:20] = 0
    pixels[40:44, :] = 0
    expected = np.ones((64, 64), bool)
    expected[10:20, 10:20] = False
    assert (valid_pixels(pixels) == expected).all()


def _with(path: Path, name: str, values: list[object]) -> None:
    columns = {"path": ["a.jpg"], "place": ["p"], "season": ["s"], "status": ["ok"], name: values}
    pq.write_table(pa.table(columns), path)


def _without(path: Path, name: str) -> None:
    columns = {"path": ["a.jpg"] * 2, "place": ["p", "q"], "season": ["s", "s"]}
    columns |= {"status": ["cloud", "ok"], name: [None, None]}
    pq.write_table(pa.table(columns), path)


def test_no_place_to_write(chips: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*chips\.parquet"):
        filter_chips(chips, chips / "quality.parquet", ChipQuality(), workers=0)
    with pytest.raises(UserError, match=r"quality\.jpg is to be a Parquet file"):
        filter_chips(chips, chips.parent / "quality.jpg", ChipQuality(), workers=0)


def test_two_reviews_at_once(chips: Path) -> None:
    out = chips.parent / "quality.parquet"
    with claim(out), pytest.raises(UserError, match=r"another process makes .*quality\.parquet"):
        filter_chips(chips, out, ChipQuality(), workers=0)
    assert not out.with_suffix(".parts").exists()
    filter_chips(chips, out, ChipQuality(), workers=0)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "no table of chips"),
        (lambda path: path.write_bytes(b"PAR1 no"), "cannot be read as a table"),
        (lambda path: pq.write_table(pa.table({"path": ["a"]}), path), "has no column place"),
        (
            lambda path: pq.write_table(
                pa.table({"path": [""], "place": ["p"], "season": ["s"], "status": ["cloud"]}), path
            ),
            "no chip with status ok",
        ),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read as a table"),
        (lambda path: _with(path, "status", [1]), "no chip with status ok"),
        (lambda path: _with(path, "status", [["ok"]]), "column status holds no text"),
        (lambda path: _with(path, "path", [[b"a"]]), "column path holds no text"),
        (lambda path: _with(path, "season", [b"\xff"]), "column season holds no text"),
        *(
            (lambda path, name=name: _without(path, name), f"row 2: status ok and no {name}")
            for name in ("path", "place", "season")
        ),
    ],
)
def test_bad_tables_are_named(chips: Path, damage, sentence: str) -> None:  # type: ignore[no-untyped-def]
    damage(chips)
    with pytest.raises(UserError, match=sentence) as error:
        filter_chips(chips, chips.parent / "quality.parquet", ChipQuality(), workers=0)
    assert "chips.parquet" in str(error.value)
