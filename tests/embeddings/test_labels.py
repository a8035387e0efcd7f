import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.features import rasterize
from scipy.ndimage import map_coordinates
from scipy.spatial.distance import pdist
from toy_embeddings import NORTH_UP, UTM, make

from cgeartheye.commands.label import fit_labels, suggest_labels, write_dataset
from cgeartheye.config import load
from cgeartheye.data.formats.masks import make_legend, read_mask
from cgeartheye.embeddings.crossval import BLOCK, leave_places_out
from cgeartheye.embeddings.decoder import fit_decoder
from cgeartheye.embeddings.labels import (
    LabelledPatches,
    class_numbers,
    colors_of,
    frame_of,
    patches_of,
    read_labels,
)
from cgeartheye.embeddings.redraw import NODATA, draw_classes
from cgeartheye.embeddings.store import open_embedding
from cgeartheye.embeddings.suggest import margins
from cgeartheye.geo.vector_writer import write_vectors
from cgeartheye.utils.errors import UserError


def field(rows: int = 60, columns: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of two kinds of ground, and which is where."""
    random = np.random.default_rng(seed)
    truth = (np.arange(columns) // 10 % 2)[None].repeat(rows, 0)
    truth[rows // 2 :] = 1 - truth[rows // 2 :]
    features = random.normal(size=(rows, columns, 8))
    features[..., 0] += 6 * truth
    return features, truth


def labels_file(
    path: Path,
    shapes: list,
    classes: list[str],
    times: list[str] | None = None,
    user: str = "a",
    colors: list[str] | None = None,
) -> Path:
    """Labels whose shapes are counted in patches."""
    placed = shapely.transform(np.array(shapes), lambda xy: np.stack(NORTH_UP @ xy.T, -1))
    frame = frame_of(list(placed), classes, user, times, colors)
    frame = frame.set_crs(UTM.to_wkt(), allow_override=True)
    write_vectors([frame], path)
    return path


def points(path: Path, places: list[tuple[int, int]], classes: list[str], **more: object) -> Path:
    return labels_file(path, [shapely.Point(c + 0.5, r + 0.5) for r, c in places], classes, **more)  # type: ignore[arg-type]


def test_shapes_become_the_patches_that_they_cover(tmp_path: Path) -> None:
    embedding = open_embedding(make(tmp_path / "e", field(30, 40)[0]))
    shapes = [
        shapely.Point(3.2, 4.9),
        shapely.box(10, 5, 14, 9),
        shapely.LineString([(20.5, 20.5), (28.5, 20.5)]),
        shapely.Point(35, 10).buffer(3),
        shapely.box(1.1, 20.1, 1.3, 20.3),  # within a patch
    ]
    path = labels_file(tmp_path / "l.gpkg", shapes, ["a", "b", "a", "b", "a"])
    found = patches_of(read_labels(path), embedding)
    seen = {
        (int(r), int(c), int(n))
        for r, c, n in zip(found.rows, found.columns, found.labels, strict=True)
    }
    disc = rasterize([shapes[3]], (30, 40))
    expected = {(4, 3, 0), (20, 1, 4)}
    expected |= {(r, c, 1) for r in range(5, 9) for c in range(10, 14)}
    expected |= {(20, c, 2) for c in range(20, 29)}
    expected |= {(int(r), int(c), 3) for r, c in np.argwhere(disc)}
    assert seen == expected
    assert found.names == ("a", "b")


def test_bad_labels_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "e", field(30, 40)[0])
    embedding = open_embedding(folder)
    path = tmp_path / "l.gpkg"
    with pytest.raises(UserError, match=r"all labels are of the class a: label"):
        fit_labels(folder, points(path, [(1, 1), (2, 2)], ["a", "a"]), None)
    with pytest.raises(UserError, match="none of the 2 labels is where e has data"):
        fit_labels(folder, points(path, [(-5, 1), (90, 2)], ["a", "b"]), None)
    found = patches_of(
        read_labels(points(path, [(1, 1), (2, 2), (90, 2)], ["a", "b", "b"])), embedding
    )
    assert len(found) == 2
    assert "1 of 3 labels are outside" in capsys.readouterr().out
    times = ["2026-01-02", "2026-01-01", "2026-01-01"]
    found = patches_of(
        read_labels(points(path, [(1, 1), (1, 1), (3, 3)], ["a", "b", "b"], times=times)), embedding
    )
    assert [found.names[n] for n in found.classes] == ["a", "b"]  # the later one
    assert "1 patches have labels of two classes" in capsys.readouterr().out
    with pytest.raises(UserError, match="later labels leave those of the class b alone: label"):
        fit_labels(folder, points(path, [(1, 1), (1, 1)], ["a", "b"]), None)
    with pytest.raises(UserError, match="all labels are what is not there: label at least one"):
        fit_labels(folder, points(path, [(1, 1), (2, 2)], ["not a", "not b"]), None)
    with pytest.raises(UserError, match="has no label of the user b"):
        read_labels(path, "b")
    with pytest.raises(UserError, match="cannot be read as labels"):
        read_labels(tmp_path / "none.gpkg")
    geopandas.GeoDataFrame({"x": [1]}, geometry=[shapely.Point(0, 0)], crs=4326).to_file(path)
    with pytest.raises(UserError, match="has no column 'class'"):
        read_labels(path)


def test_the_later_of_two_large_labels_covers_the_earlier(tmp_path: Path) -> None:
    """However few of their patches count."""
    embedding = open_embedding(make(tmp_path / "e", field()[0]))
    shapes = [shapely.box(0, 0, 60, 40), shapely.box(10, 10, 50, 38)]
    path = labels_file(tmp_path / "l.gpkg", shapes, ["a", "b"])
    found = patches_of(read_labels(path), embedding)
    inside = (found.rows >= 10) & (found.rows < 38) & (found.columns >= 10) & (found.columns < 50)
    np.testing.assert_array_equal(inside, found.classes == 1)
    assert np.bincount(found.classes).tolist() == [200, 200]


def test_what_a_label_only_excludes(tmp_path: Path) -> None:
    """Of two classes it is the other; of three the place is no longer known."""
    embedding = open_embedding(make(tmp_path / "e", field(30, 40)[0]))
    shapes = [shapely.box(0, 0, 4, 4), shapely.box(10, 0, 14, 4), shapely.box(2, 0, 4, 4)]
    names = ["wood", "water", "not wood"]
    read = read_labels(labels_file(tmp_path / "l.gpkg", shapes, names))
    assert class_numbers(read, ("wood", "water")).tolist() == [0, 1, 1]
    found = patches_of(read, embedding)
    assert found.names == ("wood", "water")
    assert {(int(c), int(k)) for c, k in zip(found.columns, found.classes, strict=True)} == {
        *((c, 0) for c in (0, 1)),
        *((c, 1) for c in (2, 3, 10, 11, 12, 13)),
    }
    shapes, names = [*shapes, shapely.Point(20, 20)], [*names, "road"]
    found = patches_of(read_labels(labels_file(tmp_path / "m.gpkg", shapes, names)), embedding)
    assert found.names == ("wood", "water", "road")
    assert {(int(c), int(k)) for c, k in zip(found.columns, found.classes, strict=True)} == {
        *((c, 0) for c in (0, 1)),
        *((c, 1) for c in (10, 11, 12, 13)),
        (20, 2),
    }


def test_what_a_correction_excludes_is_not_known(tmp_path: Path) -> None:
    """Its map may have more classes than the labels."""
    read = read_labels(points(tmp_path / "l.gpkg", [(1, n) for n in range(4)], list("aabb")))
    read["class"] = ["a", "b", "not a", "not a"]
    read["source"] = ["", "", "", "correction of land, job 1"]
    assert class_numbers(read, ("a", "b")).tolist() == [0, 1, 1, -1]


def test_shapes_at_the_edges_are_in_or_out(tmp_path: Path) -> None:
    """Those that only touch an edge from without are outside, as rasters have it."""
    embedding = open_embedding(make(tmp_path / "e", field(30, 40)[0]))
    inside = [shapely.box(38, 28, 40, 30), shapely.Point(0, 0)]
    outside = [
        shapely.box(40, 2, 45, 9),
        shapely.box(2, 30, 9, 35),
        shapely.box(-5, 2, 0, 9),
        shapely.box(2, -5, 9, 0),
        shapely.Point(40, 10),
        shapely.Point(10, 30),
        shapely.LineString([(40, 2), (40, 9)]),
    ]
    path = labels_file(tmp_path / "l.gpkg", [*inside, *outside], ["a", "b", *["a"] * 7])
    found = patches_of(read_labels(path), embedding)
    assert np.bincount(found.labels).tolist() == [4, 1]


def test_labels_are_in_the_order_of_time_in_any_zone(tmp_path: Path) -> None:
    times = ["2026-01-01T12:00:00+08:00", "2026-01-01T05:00:00.5Z", "", "2026-01-01 04:30"]
    path = points(tmp_path / "l.gpkg", [(1, 1)] * 4, list("abcd"), times=times)
    assert list(read_labels(path)["class"]) == ["c", "a", "d", "b"]


def test_more_classes_than_a_map_can_have_are_one_sentence(tmp_path: Path) -> None:
    folder = make(tmp_path / "e", field(30, 40)[0])
    places = [divmod(n, 40) for n in range(256)]
    path = points(tmp_path / "l.gpkg", places, [f"class {n}" for n in range(256)])
    with pytest.raises(UserError, match="256 classes, and a map 255 at most"):
        fit_labels(folder, path, tmp_path / "map.tif")


def test_colors_are_chosen_or_in_the_order_of_the_classes(tmp_path: Path) -> None:
    places, names = [(n, n) for n in range(5)], ["z", "background", "a", "z", "m"]
    chosen = ["#ff0000", "", "", "#4285f4", "nonsense"]
    read = read_labels(points(tmp_path / "l.gpkg", places, names, colors=chosen))
    order = ("background", "z", "a", "m")
    assert patches_of(read, open_embedding(make(tmp_path / "e", field()[0]))).names == order
    blue, green, yellow = (66, 133, 244), (46, 125, 50), (251, 192, 45)
    assert colors_of(read, order) == ((0, 0, 0), blue, green, yellow)
    same = read.assign(color="#4285f4")
    assert len(set(colors_of(same, order))) == 4


def test_a_few_clicks_map_two_kinds_of_ground(tmp_path: Path) -> None:
    features, truth = field()
    folder = make(tmp_path / "e", features)
    places = [(5, 5), (40, 30), (50, 70), (5, 15), (40, 25), (12, 75)]
    names = ["crop" if truth[p] else "bare" for p in places]
    made = fit_labels(folder, points(tmp_path / "l.gpkg", places, names), tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        drawn = file.read(1)
        assert file.transform.almost_equals(NORTH_UP @ NORTH_UP.scale(1 / 14))
        assert file.crs == UTM
    middles = drawn[7::14, 7::14]
    assert (middles == truth).mean() > 0.98
    assert made.shares[1] == pytest.approx(0.5, abs=0.02)


def test_the_decoder_agrees_with_scikit_learn(tmp_path: Path) -> None:
    """Three classes, one label a class and patch: balanced weights of single samples."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(3)
    embedding = open_embedding(
        make(tmp_path / "e", random.normal(size=(20, 20, 6)), dtype="float16")
    )
    rows, columns = np.divmod(random.permutation(400)[:30], 20)
    classes = np.arange(30) % 3
    covered = np.zeros(embedding.shape, bool)
    patches = LabelledPatches(rows, columns, classes, np.arange(30), ("a", "b", "c"), covered)
    decoder = fit_decoder(patches, embedding)
    x = embedding.components(rows, columns)
    scale = np.sqrt(x.var(0).sum())
    peer = LogisticRegression(C=10.0, max_iter=1000, tol=1e-8).fit(x / scale, classes)
    every = embedding.components(*np.divmod(np.arange(400), 20))
    expected = peer.predict_proba(every / scale).reshape(20, 20, 3)
    np.testing.assert_allclose(decoder.decode(embedding), expected, atol=0.02)


def test_accuracy_is_by_place(tmp_path: Path) -> None:
    """Labels that agree within their place alone look good until their place is left out."""
    random = np.random.default_rng(0)
    features = random.normal(size=(100, 100, 4))
    for r in range(0, 100, BLOCK):
        for c in range(0, 100, BLOCK):
            features[r : r + BLOCK, c : c + BLOCK] += random.normal(size=4) * 30
    embedding = open_embedding(make(tmp_path / "e", features))
    rows, columns = np.divmod(random.permutation(10_000)[:300], 100)
    place = rows // BLOCK * 5 + columns // BLOCK
    classes = random.integers(0, 2, 25)[place]
    covered = np.zeros(embedding.shape, bool)
    patches = LabelledPatches(rows, columns, classes, np.arange(300), ("a", "b"), covered)
    decoder = fit_decoder(patches, embedding)
    found = decoder.probabilities(embedding.components(rows, columns)).argmax(-1)
    seen = (found == classes).mean()
    held = leave_places_out(patches, embedding)
    assert held is not None
    estimate = held.accuracy

    assert estimate < seen - 0.1
    alone = LabelledPatches(
        rows[:2], columns[:2], np.array([0, 1]), np.arange(2), ("a", "b"), covered
    )
    assert leave_places_out(alone, embedding) is None


@settings(deadline=None, max_examples=20)
@given(
    st.integers(2, 5), st.integers(1, 7), st.integers(1, 7), st.floats(2, 15), st.integers(0, 999)
)
def test_pixels_are_interpolated_as_scipy_does(
    count: int, height: int, width: int, cell: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(count), (height, width)).astype(np.float32)
    valid = random.random((height, width)) > 0.2
    shape = round(height * cell), round(width * cell)
    rows = shape[0] // 3, shape[0]
    drawn = draw_classes(probabilities, valid, (cell, cell), rows, (0, shape[1]))
    y, x = (np.arange(n) + 0.5 for n in shape)
    at = np.meshgrid(y / cell - 0.5, x / cell - 0.5, indexing="ij")
    planes = [
        map_coordinates(probabilities[..., k], at, order=1, mode="nearest") for k in range(count)
    ]
    sure = np.partition(planes, -2, axis=0)
    clear = (sure[-1] - sure[-2] > 1e-4)[rows[0] :]
    known = valid[np.minimum(y / cell, height - 1).astype(int)][
        :, np.minimum(x / cell, width - 1).astype(int)
    ]
    known = known[rows[0] :]
    assert (drawn[~known] == NODATA).all()
    both = clear & known
    np.testing.assert_array_equal(drawn[both], np.argmax(planes, axis=0)[rows[0] :][both])


def test_suggestions_are_doubtful_apart_and_new(tmp_path: Path) -> None:
    features, truth = field()
    features[20:24, 20:24, 0] = 3  # between both kinds
    folder = make(tmp_path / "e", features)
    places = [(5, 5), (40, 30), (5, 15), (40, 25)]
    path = points(tmp_path / "l.gpkg", places, ["crop" if truth[p] else "bare" for p in places])
    found = suggest_labels(folder, path, 12)
    embedding = open_embedding(folder)
    rows, columns, inside = embedding.find(found[["lon", "lat"]].to_numpy())
    assert inside.all()
    assert len(set(zip(rows, columns, strict=True))) == 12
    patches = patches_of(read_labels(path), embedding)
    sure = margins(fit_decoder(patches, embedding).decode(embedding))
    assert np.median(sure[rows, columns]) < np.median(sure)
    least = np.divmod(np.argsort(sure, axis=None)[:12], sure.shape[1])
    apart = [pdist(embedding.components(*each)).min() for each in ((rows, columns), least)]
    assert apart[0] > apart[1]
    assert set(found["guess"]) <= {"crop", "bare"}
    first = suggest_labels(folder, None, 6)  # nothing is labelled yet: both kinds are among them
    rows, columns, _ = embedding.find(first[["lon", "lat"]].to_numpy())
    assert len(set(truth[rows, columns])) == 2


def test_no_suggestion_is_where_a_label_is(tmp_path: Path) -> None:
    """Also on what a large label has beyond the patches that are drawn of it, or only excludes."""
    folder = make(tmp_path / "e", field()[0])
    halves = [shapely.box(0, 0, 80, 30), shapely.box(0, 30, 70, 60)]
    for names in (["a", "b"], ["a", "a"], ["a", "not a"]):
        found = suggest_labels(folder, labels_file(tmp_path / "l.gpkg", halves, names), 12)
        rows, columns, _ = open_embedding(folder).find(found[["lon", "lat"]].to_numpy())
        assert len(found) == 12
        assert (rows >= 30).all()
        assert (columns >= 70).all()
        assert (found["guess"] == "").all() == ("b" not in names)
    whole = labels_file(tmp_path / "l.gpkg", [*halves, shapely.box(70, 30, 80, 60)], list("aba"))
    with pytest.raises(UserError, match="labels are on all of e that has data"):
        suggest_labels(folder, whole, 12)


@pytest.mark.parametrize("rare", range(12))
def test_a_class_in_one_square_is_learnt(tmp_path: Path, rare: int) -> None:
    """Wherever it is: of two squares one is for training, and one to test with."""
    pixels = np.full((3, 168, 224), 100, np.uint8)
    profile = {"driver": "GTiff", "width": 224, "height": 168, "count": 3, "dtype": "uint8"}
    transform = NORTH_UP @ NORTH_UP.scale(1 / 14)
    with rasterio.open(tmp_path / "s.tif", "w", crs=UTM, transform=transform, **profile) as file:
        file.write(pixels)
    places = [(4 * column + 2, 4 * row + 2) for row in range(3) for column in range(4)]
    names = ["rare" if n == rare else "crop" if n % 2 else "bare" for n in range(12)]
    path = labels_file(tmp_path / "l.gpkg", [shapely.Point(place) for place in places], names)
    counts = write_dataset([tmp_path / "s.tif"], path, tmp_path / "d", chip=56)
    assert counts == {"train": 8, "val": 2, "test": 2}
    found = {
        part: {
            n
            for mask in (tmp_path / "d" / part).glob("Label/*")
            for n in np.unique(Image.open(mask))
        }
        for part in counts
    }
    assert found == {"train": {0, 1, 2, 255}, "val": {*found["val"]}, "test": {*found["test"]}}
    assert len((found["val"] | found["test"]) - {255}) == 2


def test_a_data_set_has_no_label_where_the_scene_has_no_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.full((3, 168, 224), 100, np.uint8)
    pixels[:, :70] = 0  # the first row of squares, and a part of the second
    profile = {"driver": "GTiff", "width": 224, "height": 168, "count": 3, "dtype": "uint8"}
    place = {"crs": UTM, "transform": NORTH_UP @ NORTH_UP.scale(1 / 14), "nodata": 0}
    with rasterio.open(tmp_path / "s.tif", "w", **profile, **place) as file:
        file.write(pixels)
    halves = [shapely.box(0, 0, 8, 12), shapely.box(8, 0, 16, 12)]
    path = labels_file(tmp_path / "l.gpkg", halves, ["crop", "bare"])
    counts = write_dataset([tmp_path / "s.tif"], path, tmp_path / "d", chip=56)
    assert sum(counts.values()) == 8
    assert "4 squares have labels only where" in capsys.readouterr().out
    for file in (tmp_path / "d").glob("*/Label/*.png"):
        top = int(file.stem.split("_")[0])
        known = np.asarray(Image.open(file)) < 255
        np.testing.assert_array_equal(known, (pixels[0, top : top + 56, :56] > 0))
    with pytest.raises(UserError, match="--chip 100 is no multiple of 14: give 98"):
        write_dataset([tmp_path / "s.tif"], path, tmp_path / "e", chip=100)
    assert not (tmp_path / "e").exists()


def test_a_data_set_is_split_by_place_and_trains(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 200, 240)).astype(np.uint8)
    transform = NORTH_UP @ NORTH_UP.scale(1 / 14)
    with rasterio.open(
        tmp_path / "s.tif",
        "w",
        driver="GTiff",
        width=240,
        height=200,
        count=3,
        dtype="uint8",
        crs=UTM,
        transform=transform,
    ) as file:
        file.write(pixels)
    shapes = [
        shapely.box(2, 2, 7, 5),
        shapely.Point(12.5, 10.5),
        shapely.LineString([(9, 1), (16, 1)]),
    ]
    colors = ["#010203", "", ""]
    path = labels_file(tmp_path / "l.gpkg", shapes, ["crop", "bare", "bare"], colors=colors)
    counts = write_dataset([tmp_path / "s.tif"], path, tmp_path / "d", chip=56)
    assert set(counts) == {"train", "val", "test"}
    assert min(counts.values()) >= 1
    whole = np.full((224, 280), 255, np.uint8)
    for mask in (tmp_path / "d").glob("*/Label/*.png"):
        top, left = (int(n) for n in mask.stem.split("_"))
        found = np.asarray(Image.open(mask))
        assert (found < 255).any()
        assert (whole[top : top + 56, left : left + 56] == 255).all()  # of one part alone
        whole[top : top + 56, left : left + 56] = found
        image = np.asarray(Image.open(mask.parents[1] / "Img" / mask.name)).transpose(2, 0, 1)
        inside = pixels[:, top : top + 56, left : left + 56]
        np.testing.assert_array_equal(image[:, : inside.shape[1], : inside.shape[2]], inside)
    assert (whole[28:70, 28:98] == 0).all()  # crop, which was labelled first
    assert (whole[140:154, 168:182] == 1).all()
    assert (whole[7:21, 126:224] == 1).all()
    data = load(tmp_path / "d/train.yaml").data
    assert data.classes == ("crop", "bare")  # type: ignore[union-attr]
    legend = make_legend(data)  # type: ignore[arg-type]
    assert legend.colors == ((1, 2, 3), (66, 133, 244))
    for mask in (tmp_path / "d").glob("*/Label/*.png"):  # as training reads it
        np.testing.assert_array_equal(read_mask(mask, legend), np.asarray(Image.open(mask)))
    few = labels_file(tmp_path / "f.gpkg", shapes[:2], ["crop", "bare"])
    with pytest.raises(UserError, match=r"labels in 2 squares .* needs 3 at least"):
        write_dataset([tmp_path / "s.tif"], few, tmp_path / "f", chip=112)
    with pytest.raises(UserError, match="is not empty"):
        write_dataset([tmp_path / "s.tif"], path, tmp_path / "d")
    assert json.dumps(counts)
