from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from toy_embeddings import NORTH_UP, lonlat, make

from cgeartheye.commands.changes import write_changes
from cgeartheye.embeddings.changes import changed, timeline
from cgeartheye.embeddings.store import open_embedding, open_embeddings
from cgeartheye.utils.errors import UserError


def test_distances_are_those_of_features_on_another_grid(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    before, after = random.normal(size=(10, 12, 5)), random.normal(size=(8, 8, 5))
    moved = NORTH_UP @ Affine.translation(2, 3)
    opened = [
        open_embedding(make(tmp_path / "a", before, dtype="float16", seed=1)),
        open_embedding(make(tmp_path / "b", after, dtype="float16", seed=2, transform=moved)),
    ]
    distances, known = changed(*opened)
    expected = np.zeros((10, 12), bool)
    expected[3:10, 2:10] = True
    np.testing.assert_array_equal(known, expected)
    x, y = before - before.mean((0, 1)), after - after.mean((0, 1))
    cosines = (x[3:10, 2:10] * y[:7]).sum(-1)
    cosines /= np.linalg.norm(x[3:10, 2:10], axis=-1) * np.linalg.norm(y[:7], axis=-1)
    np.testing.assert_allclose(distances[3:10, 2:10], 1 - cosines, atol=5e-3)


def test_what_changed_stands_out_and_a_season_does_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ground = random.normal(size=(20, 20, 6)) * 3
    for number, date in enumerate(("2021-05-01", "2022-05-02", "2023-05-03")):
        seen = ground + number + random.normal(size=ground.shape) * 0.1
        if number == 2:
            seen[5:8, 5:8] += random.normal(size=(3, 3, 6)) * 20
        make(tmp_path / "e" / f"s{2 - number}", seen, date=date, seed=number)
    dates = write_changes(tmp_path / "e", tmp_path / "c.tif")
    assert dates == ("2021-05-01", "2023-05-03")
    with rasterio.open(tmp_path / "c.tif") as file:
        found = file.read(1)
    inside = np.zeros((20, 20), bool)
    inside[5:8, 5:8] = True
    assert np.median(found[inside]) > 10 * np.median(found[~inside])
    embeddings = open_embeddings(tmp_path / "e")
    moments = timeline(embeddings, lonlat(embeddings[0], 6, 6))
    assert [m.date for m in moments] == ["2021-05-01", "2022-05-02", "2023-05-03"]
    assert moments[0].from_first == 0
    assert moments[1].from_first < 0.05 < moments[2].from_last
    with pytest.raises(UserError, match="--since 2020-01-01 is none of the earlier dates"):
        write_changes(tmp_path / "e", tmp_path / "c.tif", "2020-01-01")
    with pytest.raises(UserError, match="seen at fewer than two dates"):
        timeline(embeddings, (0.0, 0.0))


def test_two_scenes_of_one_date_are_refused(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(6, 6, 4))
    for name, date in (("a", "2021-05-01"), ("b", "2022-05-01"), ("c", "2021-05-01")):
        make(tmp_path / "e" / name, features, date=date)
    with pytest.raises(UserError, match=r"e/a and .*e/c are both of 2021-05-01"):
        write_changes(tmp_path / "e", tmp_path / "c.tif")
    embeddings = open_embeddings(tmp_path / "e")
    with pytest.raises(UserError, match="are both of 2021-05-01"):
        timeline(embeddings, lonlat(embeddings[0], 3, 3))


def test_ground_without_any_difference_has_not_changed(tmp_path: Path) -> None:
    for name, date in (("a", "2021-05-01"), ("b", "2022-05-01")):
        make(tmp_path / "e" / name, np.ones((6, 6, 4)), date=date, dtype="float16")
    embeddings = open_embeddings(tmp_path / "e")
    assert (changed(*embeddings)[0] == 0).all()
    moments = timeline(embeddings, lonlat(embeddings[0], 3, 3))
    assert [m.from_first for m in moments] == [0, 0]


def test_dates_and_weights_are_needed(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(6, 6, 4))
    make(tmp_path / "e/a", features, date="2021-05-01")
    with pytest.raises(UserError, match="two dates at least"):
        write_changes(tmp_path / "e", tmp_path / "c.tif")
    make(tmp_path / "e/b", features)
    with pytest.raises(UserError, match=r"the date of .*b is not known"):
        write_changes(tmp_path / "e", tmp_path / "c.tif")
    other = make(tmp_path / "f", features, weights="b" * 64)
    with pytest.raises(UserError, match="different weights"):
        changed(open_embedding(tmp_path / "e/a"), open_embedding(other))
