import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_embeddings import NORTH_UP, lonlat, make

from cgeartheye.embeddings.search import NEGATIVE, SceneIndex, VectorIndex, search
from cgeartheye.embeddings.store import open_embedding, open_embeddings
from cgeartheye.utils.errors import UserError


def directions(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20_000), st.integers(1, 12), st.integers(0, 2**31))
def test_cosines_are_those_of_all_pairs(count: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(width + 2, width)))[0].astype(np.float32)
    vectors = random.integers(-127, 128, (count, width)).astype(np.int8)
    scale = random.uniform(0.1, 1, width).astype(np.float32)
    offset = random.normal(size=width + 2).astype(np.float32)
    query = directions(random.normal(size=width + 2))
    index = VectorIndex.build(vectors, scale, basis, offset)
    whole = offset + (vectors * scale) @ basis.T
    expected = directions(whole) @ query
    np.testing.assert_allclose(index.cosines(query), expected, atol=2e-4)


def test_two_scenes_are_ranked_as_by_brute_force(tmp_path: Path) -> None:
    """Each in a basis of its own; with a place that is not looked for, and none that overlap."""
    random = np.random.default_rng(0)
    features = [random.normal(size=(12, 15, 6)) + 3, random.normal(size=(9, 9, 6)) + 3]
    for number, some in enumerate(features):
        east = NORTH_UP @ Affine.translation(100 * number, 0)
        make(tmp_path / "e" / f"s{number}", some, transform=east, dtype="float16", seed=number)
    opened = open_embeddings(tmp_path / "e")
    at, unlike = lonlat(opened[0], 3, 4), lonlat(opened[1], 7, 2)
    found = search(tmp_path / "e", [at], [unlike], top=8)

    center = np.mean([each.reshape(-1, 6).mean(0) for each in features], axis=0)
    query = directions(features[0][3, 4] - center)
    query = directions(query - NEGATIVE * directions(features[1][7, 2] - center))
    scores = [directions(each - center) @ query for each in features]
    order = sorted(
        ((s[r, c], n, r, c) for n, s in enumerate(scores) for r, c in np.ndindex(s.shape)),
        reverse=True,
    )
    taken = [(0, 3, 4), (1, 7, 2)]
    expected = []
    for score, n, r, c in order:
        if all(m != n or max(abs(r - y), abs(c - x)) > 2 for m, y, x in taken):
            taken.append((n, r, c))
            expected.append((f"s{n}", r, c, score))
    assert list(found["rank"]) == list(range(1, 9))
    for row, (scene, r, c, score) in zip(found.itertuples(), expected, strict=False):
        assert row.scene == scene
        assert (row.lon, row.lat) == pytest.approx(lonlat(opened[int(scene[1])], r, c))
        assert row.score == pytest.approx(score, abs=2e-3)
    squares = found.to_crs(32650).geometry
    assert squares.area.to_numpy() == pytest.approx(900, rel=1e-3)
    assert sum(a.intersection(b).area > 1 for a in squares for b in squares) == 8  # each itself


def test_places_of_two_dates_may_be_the_same_ground(tmp_path: Path) -> None:
    """Within a scene no two overlap."""
    features = np.random.default_rng(0).normal(size=(12, 15, 6))
    for number in range(2):
        make(tmp_path / "e" / f"s{number}", features, dtype="float16", seed=number)
    found = search(tmp_path / "e", [lonlat(open_embeddings(tmp_path / "e")[0], 3, 4)], top=10)
    squares = [part.to_crs(32650).geometry for _, part in found.groupby("scene")]
    assert sum(a.intersection(b).area > 1 for a in squares[0] for b in squares[1]) > 0
    for part in squares:
        assert sum(a.intersection(b).area > 1 for a in part for b in part) == len(part)


def test_patches_without_data_are_never_found(tmp_path: Path) -> None:
    features = np.random.default_rng(1).normal(size=(20, 20, 4))
    valid = np.zeros((20, 20), bool)
    valid[:6, :6] = True
    folder = make(tmp_path / "e", features, valid)
    index = SceneIndex([open_embedding(folder)])
    found = index.search([lonlat(index.embeddings[0], 0, 0)], top=500)
    assert 1 <= len(found) < 9
    with pytest.raises(UserError, match="is in none of the scenes, or where they have no data"):
        index.search([lonlat(index.embeddings[0], 15, 15)])
    with pytest.raises(UserError, match="is in none"):
        index.search([(0.0, 0.0)])


def test_other_weights_and_other_places_of_bad_input(tmp_path: Path) -> None:
    features = np.random.default_rng(1).normal(size=(5, 5, 4))
    make(tmp_path / "e/a", features)
    make(tmp_path / "e/b", features, weights="b" * 64)
    with pytest.raises(UserError, match=r"different weights .* cannot be compared"):
        open_embeddings(tmp_path / "e")
    with pytest.raises(UserError, match="holds no embedding of patches"):
        open_embeddings(tmp_path / "e/a/features.zarr/vectors")
    path = tmp_path / "e/a/features.zarr/zarr.json"
    facts = json.loads(path.read_text())
    facts["attributes"]["spatial:transform"][0] = 0
    for text in (json.dumps(facts), "{"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"features\.zarr is damaged"):
            open_embedding(tmp_path / "e/a")


def test_without_a_crs_places_are_pixels(tmp_path: Path) -> None:
    features = np.random.default_rng(1).normal(size=(8, 8, 4))
    make(tmp_path / "e", features, transform=Affine.scale(14), crs=None)
    found = search(tmp_path / "e", [(7.0, 7.0)], top=3)
    assert found.crs is None
    assert (found["lon"] % 14 == 7).all()
