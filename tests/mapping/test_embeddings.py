import json
import time
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
import zarr
from affine import Affine
from tests import processes
from toy_encoder import MIX, ToyEncoder, decoded, open_vectors, run_encoder
from toy_map import NORTH_UP, UTM, content, picture, write_scene

from cgeartheye.commands.embed import embed_scenes
from cgeartheye.mapping.predictor import Detector, Encoder
from cgeartheye.utils.errors import UserError


def mean_colors(pixels: np.ndarray, side: int) -> np.ndarray:
    """Features by brute force `[rows, columns, 4]`; beyond the scene pixels are 0."""
    _, height, width = pixels.shape
    rows, columns = -(-height // side), -(-width // side)
    padded = np.zeros((3, rows * side, columns * side))
    padded[:, :height, :width] = pixels
    means = padded.reshape(3, rows, side, columns, side).mean((2, 4))
    return np.einsum("chw,cd->hwd", means, MIX.numpy())


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): content(p) for p in folder.rglob("*") if p.is_file()}


def test_an_encoder_is_no_detector() -> None:
    assert isinstance(ToyEncoder(), Encoder)
    assert not isinstance(ToyEncoder(), Detector)


@pytest.mark.parametrize("shape", [(70, 91), (75, 60), (20, 33)])
@pytest.mark.parametrize("overlap", [0.0, 1 / 3])
def test_every_patch_has_its_features_wherever_windows_lie(
    tmp_path: Path, shape: tuple[int, int], overlap: float
) -> None:
    pixels = picture(*shape)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    facts = run_encoder(scene, tmp_path / "out", overlap=overlap)
    expected = mean_colors(pixels, 7)
    np.testing.assert_allclose(decoded(tmp_path / "out"), expected, atol=0.01)
    assert open_vectors(tmp_path / "out")["valid"].all()
    assert facts["vectors"]["shape"] == expected.shape[:2]


def test_int8_keeps_features_within_half_a_step(tmp_path: Path) -> None:
    pixels = picture(140, 140)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    run_encoder(scene, tmp_path / "out", ToyEncoder(dtype="int8", components=3), overlap=1 / 3)
    held = open_vectors(tmp_path / "out")
    assert held["vectors"].dtype == np.int8
    inside = (np.abs(held["vectors"]) < 127).all(-1)
    assert inside.mean() > 0.95
    steps = np.sqrt((held["scale"] ** 2).sum()) / 2  # three components hold three colors
    off = np.linalg.norm(decoded(tmp_path / "out") - mean_colors(pixels, 7), axis=-1)
    assert off[inside].max() <= steps + 1e-4


def test_components_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.decomposition import PCA

    pixels = picture(56, 56)  # all of it is in the sample, its windows do not overlap
    scene = write_scene(tmp_path / "scene.tif", pixels)
    run_encoder(scene, tmp_path / "out", ToyEncoder(components=2), overlap=0.0)
    held = open_vectors(tmp_path / "out")
    features = mean_colors(pixels, 7).reshape(-1, 4)
    pca = PCA(2).fit(features)
    np.testing.assert_allclose(held["mean"], pca.mean_, atol=1e-4)
    cosines = np.abs((held["basis"].T * pca.components_).sum(1))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


@pytest.mark.parametrize("cut", ["aoi", "nodata"])
def test_components_are_those_of_what_is_embedded(tmp_path: Path, cut: str) -> None:
    """However little of the scene that is, and wherever: windows elsewhere tell nothing of it."""
    pixels, options = picture(600, 600), {}
    inside = np.zeros((600, 600), bool)
    inside[140:196, 364:420] = True
    if cut == "aoi":
        area = shapely.box(366, 142, 418, 194)
        area = shapely.transform(area, lambda xy: np.stack(NORTH_UP @ xy.T, -1))
        geopandas.GeoDataFrame(geometry=[area], crs=UTM.to_wkt()).to_file(tmp_path / "a.gpkg")
        options = {"aoi": tmp_path / "a.gpkg"}
    else:
        pixels[:, ~inside] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    run_encoder(scene, tmp_path / "out", ToyEncoder(dtype="int8"), overlap=0.0, **options)
    held = open_vectors(tmp_path / "out")
    np.testing.assert_array_equal(held["valid"], inside[::7, ::7])
    off = (decoded(tmp_path / "out") - mean_colors(pixels, 7))[held["valid"]]
    assert np.abs(off).max() < 0.05
    assert (np.abs(held["vectors"][held["valid"]]) == 127).mean() < 0.1


def test_the_sample_of_a_whole_scene_is_evenly_spread(tmp_path: Path) -> None:
    """And none of it is taken in addition."""
    toy = ToyEncoder(window=14)
    scene = write_scene(tmp_path / "scene.tif", picture(140, 140))
    seen = []
    toy.predict = lambda images: seen.append(images) or ToyEncoder.predict(toy, images)  # type: ignore[method-assign,func-returns-value]
    run_encoder(scene, tmp_path / "out", toy, overlap=0.0)
    pixels = picture(140, 140)
    for number, images in zip((0, 25, 50, 74, 99), seen, strict=False):
        top, left = 14 * (number // 10), 14 * (number % 10)
        expected = pixels[:, top : top + 14, left : left + 14]
        np.testing.assert_array_equal(images[0].numpy(), expected)
    assert len(seen) > 5
    assert len(seen[5]) > 1  # the map begins


def test_nothing_to_embed_is_one_sentence(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", np.zeros((3, 60, 60), np.uint8), nodata=0)
    with pytest.raises(UserError, match=r"has no patch of 7 pixels with data in half of it"):
        run_encoder(scene, tmp_path / "out")
    small = write_scene(tmp_path / "small.tif", picture(5, 60))
    with pytest.raises(UserError, match=r"small\.tif has no patch of 7 pixels"):
        run_encoder(small, tmp_path / "other")


def test_patches_without_data_are_told_and_no_others(tmp_path: Path) -> None:
    pixels = picture(98, 70)
    pixels[:, 21:56, 14:43] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    run_encoder(scene, tmp_path / "out")
    data = pixels.any(0).reshape(14, 7, 10, 7).any((1, 3))
    held = open_vectors(tmp_path / "out")
    np.testing.assert_array_equal(held["valid"], data)
    assert not held["vectors"][~data].any()


def test_a_finer_grid_lies_where_the_scene_does(tmp_path: Path) -> None:
    """Half the scene's GSD: a patch of 7 pixels is 3.5 of the scene."""
    pixels = picture(70, 49)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    run_encoder(scene, tmp_path / "out", ToyEncoder(gsd=0.375))
    group = zarr.open_group(tmp_path / "out/features.zarr", mode="r")
    assert group["vectors"].shape[:2] == (20, 14)
    transform = Affine(*group.attrs["spatial:transform"])
    assert transform.almost_equals(NORTH_UP @ Affine.scale(3.5))
    assert group.attrs["proj:code"] == "EPSG:32650"
    coarse = decoded(tmp_path / "out").reshape(10, 2, 7, 2, 4).mean((1, 3))
    off = np.abs(coarse - mean_colors(pixels, 7))[1:-1, 1:-1]
    assert off.mean() < 0.05 * mean_colors(pixels, 7).std()


def test_cells_are_geoparquet_with_the_tokens_of_windows(tmp_path: Path) -> None:
    pixels = picture(84, 70)
    pixels[:, :28, :28] = 0
    scene = write_scene(tmp_path / "town_20230714.tif", pixels, nodata=0)
    run_encoder(scene, tmp_path / "out", ToyEncoder(patch=28))
    frame = geopandas.read_parquet(tmp_path / "out/cells.parquet")
    assert len(frame) == 8  # of 3 x 3, one without data
    assert set(frame["date"]) == {"2023-07-14"}
    assert set(frame["weights"]) == {"0" * 64}
    cell = shapely.box(28, 28, 56, 56)
    on_map = shapely.transform(cell, lambda xy: np.stack(NORTH_UP @ xy.T, -1))
    row = frame[frame.geometry.apply(lambda g: g.equals(on_map))].iloc[0]
    expected = pixels[:, 28:56, 28:56].mean((1, 2)) @ MIX.numpy()
    np.testing.assert_allclose(row["vector"], expected, atol=1e-3)


def test_stac_names_the_scene_and_the_date(tmp_path: Path) -> None:
    import pystac

    scene = write_scene(tmp_path / "town_20230714.tif", picture(40, 40))
    run_encoder(scene, tmp_path / "out")
    item = pystac.Item.from_file(str(tmp_path / "out/item.json"))
    assert item.datetime is not None
    assert item.datetime.date().isoformat() == "2023-07-14"
    assert (tmp_path / "out" / item.assets["embeddings"].href).is_dir()
    plain = write_scene(tmp_path / "town.tif", picture(40, 40))
    run_encoder(plain, tmp_path / "dateless")
    assert not (tmp_path / "dateless/item.json").exists()


def test_killed_twice_the_embedding_has_the_same_bytes(tmp_path: Path) -> None:
    pixels = picture(160, 90)
    pixels[:, 40:70, 20:60] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    script = [Path(__file__).with_name("toy_encoder.py"), scene]
    processes.run([*script, tmp_path / "whole"])
    out, killed = tmp_path / "killed", 0
    known = int(open_vectors(tmp_path / "whole")["valid"].sum())
    for share in (0.2, 0.6):
        process = processes.start([*script, out])
        written = out / "unfinished/valid.raw"
        while process.is_alive():
            if written.exists() and np.fromfile(written, np.uint8).sum() > share * known:
                process.kill()
                killed += 1
                break
            time.sleep(0.005)
        process.join()
    assert killed == 2
    processes.run([*script, out])
    whole = files(tmp_path / "whole")
    assert files(out) == whole
    assert {"map.json", "preview.jpg", "features.zarr/zarr.json"} <= set(whole)


def test_other_weights_do_not_go_on_with_it(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(40, 40))
    run_encoder(scene, tmp_path / "out")
    toy = ToyEncoder()
    run_encoder(scene, tmp_path / "out", toy, resume=True)
    assert toy.calls == 0
    path = tmp_path / "out/map.json"
    facts = json.loads(path.read_text())
    facts["settings"]["model"]["backbone"] = "1" * 64
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="was begun with model"):
        run_encoder(scene, tmp_path / "out", resume=True)


def test_an_embedding_is_within_its_folder_however_the_scene_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cgeartheye.commands.embed.map_scene", lambda *a, **k: None)
    (tmp_path / "town" / "north").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "town" / "north")
    for given in ("..", "../.", "../../town", "../../town.tif"):
        assert embed_scenes([Path(given)], Path("out")) == [Path("out/town")]


def test_features_that_are_not_finite_are_one_sentence(tmp_path: Path) -> None:
    class Broken(ToyEncoder):
        def predict(self, images):  # type: ignore[no-untyped-def]
            found = super().predict(images)
            return found.fill_(np.nan) if self.calls > 3 else found

    scene = write_scene(tmp_path / "scene.tif", picture(150, 150))
    with pytest.raises(UserError, match="features that are not finite"):
        run_encoder(scene, tmp_path / "out", Broken())
