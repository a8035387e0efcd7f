import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_map import NORTH_UP, UTM, Toy, ToyCells, picture, read, run_toy, smooth, write_scene

from cgeartheye.inference import windows
from cgeartheye.mapping.options import Options
from cgeartheye.utils.errors import UserError

quick = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def whole(pixels: np.ndarray, radius: int = 1) -> np.ndarray:
    """The model over all of the scene at once: what every map is compared with."""
    return smooth(torch.from_numpy(pixels)[None], radius)[0].numpy()


def bound(radius: int, window: int, overlap: float) -> float:
    """The bound in the docstring of `fade`, for two directions, and a percent's rounding."""
    width = math.floor(window * overlap)
    weight = math.sin(math.pi / 2 * min(1, radius / width)) ** 2
    return 100 * (1 - (1 - weight) ** 2) + 0.5


@quick
@given(
    st.integers(1, 150), st.integers(1, 150), st.sampled_from([14, 28, 42]), st.floats(0.15, 0.8)
)
def test_no_hole_and_no_seam(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, window: int, overlap: float
) -> None:
    tmp_path = tmp_path_factory.mktemp("scene")
    pixels = picture(height, width)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    run_toy(scene, tmp_path / "map", Toy(window), overlap=overlap, probabilities=True)
    classes, percent = read(tmp_path / "map/map.tif")[0], read(tmp_path / "map/probabilities.tif")
    truth = 100 * whole(pixels)
    assert classes.shape == (height, width)
    assert classes.max() <= 2
    assert np.abs(percent - truth).max() <= bound(1, window, overlap) + 1e-3
    # The class is another only where two classes are as close as the bound allows.
    best = np.sort(truth, axis=0)
    clear = best[-1] - best[-2] > 2 * bound(1, window, overlap)
    assert (classes == truth.argmax(0))[clear].all()


@quick
@given(st.integers(1, 120), st.integers(1, 120), st.floats(0, 0.9))
def test_a_constant_model_gives_a_constant_map(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, overlap: float
) -> None:
    class Constant(Toy):
        def predict(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.2, 0.31, 0.49])[:, None, None].expand(len(images), 3, 28, 28)

    tmp_path = tmp_path_factory.mktemp("scene")
    scene = write_scene(tmp_path / "scene.tif", picture(height, width))
    run_toy(scene, tmp_path / "map", Constant(gsd=0.4), overlap=overlap, probabilities=True)
    assert (read(tmp_path / "map/map.tif") == 2).all()
    percent = read(tmp_path / "map/probabilities.tif")
    assert (percent == np.array([20, 31, 49])[:, None, None]).all()


def test_pixels_that_one_window_sees_alone_are_exact(tmp_path: Path) -> None:
    pixels = picture(28, 28 + 20)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    run_toy(scene, tmp_path / "map", probabilities=True, overlap=0.25)
    percent = read(tmp_path / "map/probabilities.tif")
    alone = np.r_[0:20, 28:48]
    expected = (torch.from_numpy(whole(pixels)) * 100).round().numpy()
    np.testing.assert_array_equal(percent[..., alone], expected[..., alone])


def test_bands_of_columns_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture(60, 700)
    pixels[:, 10:30, 200:330] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    for gsd in (0.75, 0.5, 1.3):
        run_toy(scene, tmp_path / f"one{gsd}", Toy(gsd=gsd), probabilities=True)
    monkeypatch.setattr(windows, "MAX_SUMS", 1)  # then a band is 8 windows wide
    for gsd in (0.75, 0.5, 1.3):
        run_toy(scene, tmp_path / f"more{gsd}", Toy(gsd=gsd), probabilities=True)
        for name in ("map.tif", "probabilities.tif"):
            one, more = (read(tmp_path / f"{kind}{gsd}" / name) for kind in ("one", "more"))
            np.testing.assert_array_equal(one, more)


@pytest.mark.parametrize(
    ("size", "ratio"), [((90, 130), 0.5), ((90, 130), 2.0), ((61, 47), 3.7), ((33, 80), 0.83)]
)
def test_resampled_maps_agree_with_resampling_the_whole(
    tmp_path: Path, size: tuple[int, int], ratio: float
) -> None:
    """Against torch's own resampling, of the scene and of the whole prediction."""
    import torch.nn.functional as F

    pixels = picture(*size)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    facts = run_toy(
        scene, tmp_path / "map", Toy(gsd=0.75 * ratio, window=42), probabilities=True, overlap=0.5
    )
    model = facts["model_grid"]["rows"], facts["model_grid"]["columns"]
    assert model == tuple(round(length / ratio) for length in size)
    image = torch.from_numpy(pixels)[None].float()
    factor = max(1, round(ratio))
    padded = F.pad(image, (0, -size[1] % factor, 0, -size[0] % factor), mode="replicate")
    means = F.avg_pool2d(padded, factor)
    if size[0] % factor or size[1] % factor or ratio % 1:
        grid_ = F.interpolate(image, size=model, mode="bilinear", antialias=ratio > 1)
    else:
        grid_ = F.interpolate(means, size=model, mode="bilinear")
    predicted = smooth(grid_.round().to(torch.uint8), 1)
    expected = 100 * F.interpolate(predicted, size=size, mode="bilinear")[0].numpy()
    found = read(tmp_path / "map/probabilities.tif").astype(float)
    inner = (slice(None), slice(4, -4), slice(4, -4))
    error = np.abs(found - expected)[inner]
    assert error.mean() < 1
    if not ratio % 1 or ratio == 0.5:
        assert error.max() < bound(1, 42, 0.5) + 0.6


@pytest.mark.parametrize(("gsd", "warned"), [(0.1, True), (0.75, False), (1.5, False)])
def test_enlarging_a_coarse_scene_is_reported(
    tmp_path: Path, gsd: float, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run_toy(write_scene(tmp_path / "a.tif", picture(20, 20)), tmp_path / "map", Toy(gsd=gsd))
    output = "".join(capsys.readouterr())
    sentence = "0.75 m/px are resampled 8 times finer, to the model's 0.1 m/px; set --gsd 0.75"
    assert (sentence in output) == warned


def test_a_scene_that_is_far_too_coarse_is_refused_unless_asked_for(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", picture(20, 20))
    with pytest.raises(UserError, match=r"a.tif has 0.75 m/px, 15 times coarser .* --gsd 0.75"):
        run_toy(scene, tmp_path / "map", Toy(gsd=0.05))
    assert not (tmp_path / "map/map.tif").exists()
    run_toy(scene, tmp_path / "asked", Toy(gsd=0.05), gsd=0.06)


@pytest.mark.parametrize("gsd", [None, 0.5, 1.6])
def test_nodata_in_the_middle_of_a_window_stays_nodata(tmp_path: Path, gsd: float | None) -> None:
    pixels = picture(70, 90)
    pixels[:, 20:33, 31:50] = 0
    pixels[:, 60, 3] = 0
    pixels[0, 5, 5] = 0  # one band alone is no nodata
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    run_toy(scene, tmp_path / "map", Toy(gsd=gsd), vector_format=("gpkg",), probabilities=True)
    classes = read(tmp_path / "map/map.tif")[0]
    np.testing.assert_array_equal(classes == 255, (pixels == 0).all(0))
    np.testing.assert_array_equal(
        (read(tmp_path / "map/probabilities.tif") == 255).all(0), classes == 255
    )
    with rasterio.open(tmp_path / "map/map.tif") as file:
        assert file.nodata == 255


@pytest.mark.parametrize("gsd", [None, 0.4, 2.0])
def test_pixels_inside_a_lonely_patch_are_all_predicted(tmp_path: Path, gsd: float | None) -> None:
    """Most windows see nothing; those that any pixel needs are not left out."""
    rng = np.random.default_rng(3)
    pixels = picture(200, 230) * (rng.random((200, 230)) < 0.002)
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    toy = Toy(gsd=gsd, window=14)
    run_toy(scene, tmp_path / "map", toy, batch_size=1)
    np.testing.assert_array_equal(read(tmp_path / "map/map.tif")[0] == 255, (pixels == 0).all(0))


def test_windows_without_data_cost_nothing(tmp_path: Path) -> None:
    pixels = picture(300, 300)
    pixels[:, 30:, :] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    toy = Toy()
    run_toy(scene, tmp_path / "map", toy, batch_size=1)
    # A look at the model; two rows of windows touch the data.
    assert toy.calls == 1 + 2 * len(windows.window_offsets(300, 28, Options().overlap))


def test_nan_is_nodata(tmp_path: Path) -> None:
    pixels = picture(40, 50).astype(np.float32)
    pixels[1, 10:20, 5:9] = np.nan
    scene = write_scene(tmp_path / "scene.tif", pixels)
    facts = run_toy(scene, tmp_path / "map")
    np.testing.assert_array_equal(read(tmp_path / "map/map.tif")[0] == 255, np.isnan(pixels[1]))
    usable = pixels[:, ~np.isnan(pixels[1])]
    low, high = np.percentile(usable, [1, 99])
    np.testing.assert_allclose(facts["scene"]["stretch"], [low, high], rtol=0.02)


def test_16_bits_are_stretched_alike_everywhere(tmp_path: Path) -> None:
    eight = picture(60, 200)
    sixteen = eight.astype(np.uint16) * 20 + 300
    write_scene(tmp_path / "a.tif", sixteen)
    facts = run_toy(tmp_path / "a.tif", tmp_path / "a", stretch=(300, 300 + 20 * 255))
    assert facts["scene"]["stretch"] == (300, 5400)
    run_toy(write_scene(tmp_path / "b.tif", eight), tmp_path / "b")
    np.testing.assert_array_equal(read(tmp_path / "a/map.tif"), read(tmp_path / "b/map.tif"))


def test_chosen_bands_of_four(tmp_path: Path) -> None:
    pixels = picture(40, 40)
    four = np.concatenate([picture(40, 40, 9)[:1], pixels[::-1]])  # other, blue, green, red
    run_toy(write_scene(tmp_path / "a.tif", four), tmp_path / "a", bands=(4, 3, 2))
    run_toy(write_scene(tmp_path / "b.tif", pixels), tmp_path / "b")
    np.testing.assert_array_equal(read(tmp_path / "a/map.tif"), read(tmp_path / "b/map.tif"))
    with pytest.raises(UserError, match="has 4 bands, so no band 5"):
        run_toy(tmp_path / "a.tif", tmp_path / "c", bands=(5, 1, 2))


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.75, 0, 5e5, 0, 0.75, 44e5),  # south-up
        Affine(5e5 * 0 + 0.6, 0.45, 5e5, 0.45, -0.6, 44e5),  # rotated
    ],
)
def test_the_grid_of_the_map_is_the_scenes(tmp_path: Path, transform: Affine) -> None:
    pixels = picture(50, 80)
    run_toy(write_scene(tmp_path / "a.tif", pixels, transform), tmp_path / "a", gsd=1.0)
    run_toy(write_scene(tmp_path / "b.tif", pixels, NORTH_UP), tmp_path / "b", gsd=1.0)
    with rasterio.open(tmp_path / "a/map.tif") as file:
        assert file.transform == transform
        assert file.crs == UTM
        np.testing.assert_array_equal(file.read(), read(tmp_path / "b/map.tif"))


@pytest.mark.parametrize(
    ("crs", "transform", "ground"),
    [
        (4326, Affine(1e-5, 0, 10, 0, -1e-5, 60), (0.5580, 1.1141)),
        (3857, Affine(2.0, 0, 1e6, 0, -2.0, 8.4e6), (1.0, 1.0)),
        (2263, Affine(1.0, 0, 1e6, 0, -1.0, 2e5), (0.3048, 0.3048)),
    ],
)
def test_pixels_are_measured_on_the_ground(
    tmp_path: Path, crs: int, transform: Affine, ground: tuple[float, float]
) -> None:
    """Degrees at 60° N, Mercator at 60° N (twice too large), feet."""
    scene = write_scene(tmp_path / "a.tif", picture(60, 60), transform, crs)
    facts = run_toy(scene, tmp_path / "map", gsd=ground[0])
    np.testing.assert_allclose(facts["scene"]["metres_a_pixel"], ground, rtol=5e-3)
    assert facts["model_grid"]["columns"] == 60
    assert facts["model_grid"]["rows"] == round(60 * ground[1] / ground[0])


def test_no_reference_system(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", picture(40, 40), crs=None)
    with pytest.raises(UserError, match=r"a.tif has no CRS: name it with --crs"):
        run_toy(scene, tmp_path / "a")
    run_toy(scene, tmp_path / "b", crs="EPSG:32650")
    with rasterio.open(tmp_path / "b/map.tif") as file:
        assert (file.crs, file.transform) == (UTM, NORTH_UP)
    plain = write_scene(tmp_path / "c.tif", picture(40, 40), Affine.identity(), None)
    with pytest.raises(UserError, match="no CRS"):
        run_toy(plain, tmp_path / "c")
    facts = run_toy(plain, tmp_path / "d", input_gsd=2.0, gsd=1.0, vector_format=("gpkg",))
    assert facts["model_grid"]["rows"] == 80
    with rasterio.open(tmp_path / "d/map.tif") as file:
        assert file.crs is None


def test_mosaic(tmp_path: Path) -> None:
    pixels = picture(60, 100)
    folder = tmp_path / "tiles"
    folder.mkdir()
    write_scene(folder / "a.tif", pixels[:, :, :40])
    write_scene(folder / "b.tif", pixels[:, 10:, 40:], NORTH_UP @ Affine.translation(40, 10))
    facts = run_toy(folder, tmp_path / "a")
    run_toy(write_scene(tmp_path / "one.tif", pixels), tmp_path / "b")
    missing = np.zeros((60, 100), bool)
    missing[:10, 40:] = True
    found, one = read(tmp_path / "a/map.tif")[0], read(tmp_path / "b/map.tif")[0]
    np.testing.assert_array_equal(found == 255, missing)
    away = slice(12, None)  # from where black replaces pixels
    np.testing.assert_array_equal(found[away], one[away])
    assert len(facts["settings"]["scenes"]) == 2
    write_scene(folder / "c.tif", pixels, crs=32651)
    with pytest.raises(UserError, match=r"c.tif has another CRS than .*a.tif"):
        run_toy(folder, tmp_path / "c")


@pytest.mark.parametrize("nodata", [0, None])
def test_in_a_mosaic_the_last_file_with_data_is_seen(tmp_path: Path, nodata: int | None) -> None:
    first, second = picture(40, 40, 1), picture(40, 40, 2)
    second[:, :20] = 0
    a = write_scene(tmp_path / "a.tif", first, nodata=nodata)
    b = write_scene(tmp_path / "b.tif", second, nodata=nodata)
    if nodata is None:
        with rasterio.open(b, "r+") as file:
            file.write_mask(second.any(0).astype(np.uint8) * 255)
    both = np.concatenate([first[:, :20], second[:, 20:]], axis=1)
    run_toy([a, b], tmp_path / "ab")
    run_toy(write_scene(tmp_path / "both.tif", both), tmp_path / "both_map")
    np.testing.assert_array_equal(
        read(tmp_path / "ab/map.tif"), read(tmp_path / "both_map/map.tif")
    )


@pytest.mark.parametrize("gsd", [None, 1.4])
def test_outside_the_area_of_interest_is_nodata(tmp_path: Path, gsd: float | None) -> None:
    import geopandas
    import shapely

    scene = write_scene(tmp_path / "scene.tif", picture(120, 120))
    corners = [NORTH_UP @ corner for corner in ((20, 30), (70, 35), (50, 90))]
    frame = geopandas.GeoDataFrame(geometry=[shapely.Polygon(corners)], crs=32650)
    frame.to_crs(4326).to_file(tmp_path / "aoi.geojson")
    toy = Toy(gsd=gsd)
    run_toy(scene, tmp_path / "map", toy, aoi=tmp_path / "aoi.geojson")
    run_toy(scene, tmp_path / "all", Toy(gsd=gsd))
    rows, columns = np.mgrid[:120, :120] + 0.5
    polygon = shapely.Polygon([(20, 30), (70, 35), (50, 90)])
    inside = shapely.contains_xy(polygon, columns, rows)
    edge = shapely.distance(polygon.exterior, shapely.points(columns, rows)) < 1e-3
    found, full = read(tmp_path / "map/map.tif")[0], read(tmp_path / "all/map.tif")[0]
    assert (((found != 255) == inside) | edge).all()
    np.testing.assert_array_equal(found[found != 255], full[found != 255])
    far = frame.translate(1e5)
    far.to_file(tmp_path / "far.gpkg")
    with pytest.raises(UserError, match=r"far.gpkg has no polygon that touches .*scene.tif"):
        run_toy(scene, tmp_path / "none", aoi=tmp_path / "far.gpkg")
    collection = json.loads((tmp_path / "aoi.geojson").read_text())
    collection["features"][0]["geometry"]["coordinates"][0].pop()  # a ring that is not closed
    no_text = (tmp_path / "aoi.geojson").read_bytes().replace(b"{", b"{\n\x80", 1)
    for content in (json.dumps(collection).encode(), no_text):
        (tmp_path / "open.geojson").write_bytes(content)
        with pytest.raises(UserError, match=r"open.geojson cannot be read as vectors"):
            run_toy(scene, tmp_path / "none", aoi=tmp_path / "open.geojson")


def test_scenes_become_a_grid_of_cells(tmp_path: Path) -> None:
    import geopandas

    pixels = picture(60, 100)
    pixels[:, :28, 28:56] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    facts = run_toy(
        scene, tmp_path / "map", ToyCells(), vector_format=("gpkg",), probabilities=True
    )
    assert facts["kind"] == "cells"
    classes, percent = read(tmp_path / "map/map.tif")[0], read(tmp_path / "map/probabilities.tif")
    assert classes.shape == (3, 4)
    for row in range(3):
        for column in range(4):
            if (row, column) == (0, 1):
                assert classes[row, column] == 255
                continue
            top, left = min(28 * row, 60 - 28), min(28 * column, 100 - 28)
            truth = whole(pixels[:, top : top + 28, left : left + 28]).mean((1, 2))
            np.testing.assert_allclose(percent[:, row, column], 100 * truth, atol=0.501)
            assert classes[row, column] == truth.argmax()
    with rasterio.open(tmp_path / "map/map.tif") as file:
        assert file.transform == NORTH_UP @ Affine.scale(28, 28)
    frame = geopandas.read_file(tmp_path / "map/map.gpkg")
    assert len(frame) == 11
    np.testing.assert_allclose(frame.area.sum(), (6000 - 28 * 28) * 0.75**2)
    by_class = frame.dissolve("class").area / 1e6  # cells at the ends are cut
    for entry in facts["classes"]:
        np.testing.assert_allclose(entry["km2"], by_class.get(entry["name"], 0.0), rtol=1e-3)


def test_the_file_has_metadata(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(600, 700))
    run_toy(scene, tmp_path / "map", Toy(window=140), probabilities=True)
    with rasterio.open(tmp_path / "map/map.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) == [2]
        assert file.tags()["CLASSES"] == "red,green,blue"
        assert len({file.colormap(1)[value] for value in range(3)}) == 3
    assert "<Category>green</Category>" in (tmp_path / "map/map.tif.aux.xml").read_text()
    with rasterio.open(tmp_path / "map/probabilities.tif") as file:
        assert file.descriptions == ("red", "green", "blue")


def test_a_prediction_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    class Broken(Toy):
        def predict(self, images: torch.Tensor) -> torch.Tensor:
            found = super().predict(images)
            return found * torch.nan if images.any() else found

    scene = write_scene(tmp_path / "scene.tif", picture(40, 40))
    with pytest.raises(UserError, match="no finite probabilities in rows 0-"):
        run_toy(scene, tmp_path / "map", Broken())
    assert not (tmp_path / "map/map.tif").exists()


def test_a_scene_without_data_is_an_error(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", np.zeros((3, 40, 40), np.uint8), nodata=0)
    with pytest.raises(UserError, match="has no pixel with data"):
        run_toy(scene, tmp_path / "map")


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(40, 40))
    for wrong, message in (
        ({"overlap": 1.0}, "--overlap 1.0"),
        ({"gsd": -1.0}, "--gsd -1.0"),
        ({"vector_format": ("shp",)}, "--vector-format shp is unknown: give one of gpkg"),
    ):
        with pytest.raises(UserError, match=message):
            run_toy(scene, tmp_path / "map", **wrong)
    with pytest.raises(UserError, match="no scene"):
        run_toy(tmp_path / "none.tif", tmp_path / "map")
