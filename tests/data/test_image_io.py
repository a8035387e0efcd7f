"""Reading images: every kind against Pillow, rasterio or arithmetic; damage ends in a sentence."""

import contextlib
import io
import itertools
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform

from cgeartheye.data import image_io
from cgeartheye.data.image_io import images_below, read_georeference, read_header, read_image
from cgeartheye.utils.errors import UserError

warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # of the files made here

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "geotiff"
HEIGHT, WIDTH = 9, 13


def noise(bands: int, high: int = 256, dtype: str = "uint8") -> np.ndarray:
    """Random pixels `[bands, HEIGHT, WIDTH]`."""
    return np.random.default_rng(bands).integers(0, high, (bands, HEIGHT, WIDTH)).astype(dtype)


def write_tiff(path: Path, pixels: np.ndarray, **profile: object) -> Path:
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype.name}
    with rasterio.open(path, "w", **({"driver": "GTiff"} | shape | profile)) as file:
        file.write(pixels)
    return path


def picture(mode: str) -> Image.Image:
    colors = Image.fromarray(noise(3).transpose(1, 2, 0))
    if mode == "P":
        return colors.quantize(16)
    image = colors.convert(mode)
    if mode in ("LA", "RGBA"):
        alpha = noise(1)[0]
        alpha[:2] = 0
        image.putalpha(Image.fromarray(alpha))
    return image


def as_pillow_sees_it(image: Image.Image) -> np.ndarray:
    """RGB `[3, H, W]`, transparent pixels black."""
    pixels = np.array(image.convert("RGB"))
    if "A" in image.mode:
        pixels[np.array(image.getchannel("A")) == 0] = 0
    return pixels.transpose(2, 0, 1)


KINDS = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
]


@pytest.mark.parametrize(("kind", "mode"), KINDS)
@pytest.mark.parametrize("ending", [".jpg", ".tif", ".png", ".dat"])
def test_every_kind_is_read_as_pillow_reads_it_whatever_its_ending(tmp_path, kind, mode, ending):
    path = tmp_path / f"image{ending}"
    picture(mode).save(path, format=kind)
    with Image.open(path) as image:
        expected = as_pillow_sees_it(image)

    read = read_image(path)

    assert read.dtype == torch.uint8
    np.testing.assert_array_equal(read.numpy(), expected)
    assert read_header(path)[:2] == (WIDTH, HEIGHT)


def test_a_cmyk_tiff_becomes_rgb(tmp_path):
    image = picture("CMYK")
    image.save(tmp_path / "cmyk.tif")
    # GDAL and Pillow round the conversion differently.
    difference = read_image(tmp_path / "cmyk.tif").numpy().astype(int) - as_pillow_sees_it(
        image
    ).astype(int)
    assert np.abs(difference).max() <= 1


def test_a_palette_with_a_transparent_entry(tmp_path):
    image = picture("P")
    image.save(tmp_path / "palette.png", transparency=3)
    indices, read = np.array(image), read_image(tmp_path / "palette.png").numpy()
    assert (indices == 3).any()
    assert (read[:, indices == 3] == 0).all()
    opaque = indices != 3
    np.testing.assert_array_equal(read[:, opaque], as_pillow_sees_it(image)[:, opaque])


@given(
    pixels=st.lists(st.integers(0, 65535), min_size=12, max_size=12),
    low=st.integers(0, 60000),
    span=st.integers(1, 5000),
    kind=st.sampled_from([("GTiff", ".tif"), ("PNG", ".png")]),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_16_bits_are_mapped_by_the_stretch(tmp_path, pixels, low, span, kind):
    driver, ending = kind
    values = np.array(pixels, dtype="uint16").reshape(3, 2, 2)
    path = write_tiff(tmp_path / f"deep{ending}", values, driver=driver)

    read = read_image(path, stretch=(low, low + span)).numpy()

    exact = (values.astype(np.float64) - low) / span * 255
    assert read.dtype == np.uint8
    assert np.abs(read - exact.clip(0, 255)).max() <= 0.501
    assert read_header(path) == (2, 2, 16)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64", "int32"])
def test_without_a_stretch_the_percentiles_of_the_chosen_bands_count(tmp_path, dtype):
    values = noise(4, 3000, dtype)
    values[0] += 9000  # not chosen, so without influence
    path = write_tiff(tmp_path / "deep.tif", values)

    read = read_image(path, bands=(4, 3, 2)).numpy()

    chosen = values[[3, 2, 1]].astype(np.float64)
    low, high = np.percentile(chosen, (1, 99), method="nearest")
    exact = ((chosen - low) / (high - low) * 255).clip(0, 255)
    assert np.abs(read - exact).max() <= 0.501


def test_nan_and_nodata_are_black_and_have_no_say_in_the_stretch(tmp_path):
    values = noise(3, 1000, "float32")
    values[:, 0] = -9999
    values[:, 1, 1] = np.nan
    values[:, 2, 2] = np.inf
    path = write_tiff(tmp_path / "holes.tif", values, nodata=-9999)

    read = read_image(path).numpy()

    usable = np.isfinite(values) & (values != -9999)
    low, high = np.percentile(values[usable], (1, 99), method="nearest")
    exact = ((values - low) / (high - low) * 255).clip(0, 255)
    assert (read[~usable] == 0).all()
    assert np.abs(read - exact)[usable].max() <= 0.501


def test_a_pixel_is_nodata_only_where_all_bands_are(tmp_path):
    values = noise(3, 200)
    values[:, 0, 0] = 255
    values[:, 0, 1] = (255, 10, 20)  # a bright red roof
    read = read_image(write_tiff(tmp_path / "roof.tif", values, nodata=255))
    assert read[:, 0, 0].tolist() == [0, 0, 0]
    assert read[:, 0, 1].tolist() == [255, 10, 20]


def test_alpha_and_an_internal_mask_make_black(tmp_path):
    values = noise(4, 255) + 1
    values[3] = 255
    values[3, :4] = 0
    with_alpha = write_tiff(tmp_path / "alpha.tif", values, photometric="RGB", alpha="YES")
    masked = write_tiff(tmp_path / "mask.tif", values[:3])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(masked, "r+") as file:
        file.write_mask(values[3])
    for path in (with_alpha, masked):
        read = read_image(path).numpy()
        assert (read[:, :4] == 0).all()
        np.testing.assert_array_equal(read[:, 4:], values[:3, 4:])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_one_and_two_bands_are_grey(tmp_path, dtype):
    for bands in (1, 2):
        values = noise(bands, 256, dtype)
        path = write_tiff(tmp_path / f"{bands}.tif", values, photometric="minisblack")
        read = read_image(path, bands=(4, 3, 2), stretch=(0, 255)).numpy()
        np.testing.assert_array_equal(read, np.repeat(values[:1], 3, axis=0))


def test_a_band_that_is_not_there(tmp_path):
    path = write_tiff(tmp_path / "four.tif", noise(4))
    assert read_image(path, bands=(4, 2, 1)).numpy().tolist() == noise(4)[[3, 1, 0]].tolist()
    with pytest.raises(UserError, match=r"four\.tif has 4 bands, so no band 5: .*data\.bands"):
        read_image(path, bands=(5, 2, 1))
    picture("RGB").save(tmp_path / "three.png")
    with pytest.raises(UserError, match=r"three\.png has 3 bands"):
        read_image(tmp_path / "three.png", bands=(4, 2, 1))


def test_one_value_everywhere_is_black(tmp_path):
    path = write_tiff(tmp_path / "flat.tif", np.full((3, 4, 4), 700, dtype="uint16"))
    assert not read_image(path).any()
    path = write_tiff(tmp_path / "void.tif", np.full((3, 4, 4), np.nan, dtype="float32"))
    assert not read_image(path).any()


def test_a_palette_tiff_with_its_bands_in_another_order(tmp_path):
    image = picture("P")
    image.save(tmp_path / "palette.tif")
    with rasterio.open(tmp_path / "palette.tif") as file:
        assert file.colorinterp[0] == ColorInterp.palette
    read = read_image(tmp_path / "palette.tif", bands=(3, 2, 1)).numpy()
    np.testing.assert_array_equal(read, as_pillow_sees_it(image)[::-1])


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "TIFF16":
        with rasterio.MemoryFile() as memory:
            with memory.open(
                driver="GTiff", count=3, height=HEIGHT, width=WIDTH, dtype="uint16"
            ) as file:
                file.write(noise(3, 3000, "uint16"))
            return bytes(memory.read())
    picture("RGB").save(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "TIFF16"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_a_sentence_with_its_name(tmp_path, kind, share):
    path = tmp_path / "cut.jpg"
    data = encoded(kind)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"cut\.jpg .*replace it or take it out"):
        read_image(path)


@given(
    kind=st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "TIFF16"]),
    place=st.floats(0, 0.999),
    junk=st.binary(min_size=1, max_size=12),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_file_is_read_or_is_a_sentence(tmp_path, kind, place, junk):
    data = bytearray(encoded(kind))
    start = int(place * len(data))
    data[start : start + len(junk)] = junk
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with contextlib.suppress(UserError):  # whose sentences the tests beside this one read
        read = read_image(path)
        assert read.dtype == torch.uint8
        assert read.shape[0] == 3


def test_other_things_that_are_no_image(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image at all")
    Image.new("RGB", (8, 8)).save(tmp_path / "image.gif")
    write_tiff(tmp_path / "radar.tif", noise(3).astype("complex64"))
    sentences = {
        "absent.jpg": "no image .*absent.jpg: correct the path",
        "text.jpg": "text.jpg is not a JPEG, PNG, TIFF or BMP image",
        "image.gif": "image.gif is not a JPEG, PNG, TIFF or BMP image",
        "radar.tif": "radar.tif holds complex values",
        "": "is truncated or damaged",
    }
    for name, sentence in sentences.items():
        with pytest.raises(UserError, match=sentence):
            read_image(tmp_path / name)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b""))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(UserError, match=r"bomb\.png has more than 178 million pixels"):
        read_image(tmp_path / "bomb.png")

    monkeypatch.setattr(image_io, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    for kind in ("JPEG", "BMP", "TIFF"):
        path = tmp_path / f"bomb.{kind}"
        path.write_bytes(encoded(kind))
        with pytest.raises(UserError, match="more than"):
            read_image(path)


def test_a_header_is_read_without_the_pixels(tmp_path):
    for kind, bits in (("JPEG", 8), ("PNG", 8), ("BMP", 8)):
        path = tmp_path / kind
        path.write_bytes(encoded(kind)[:-60])
        assert read_header(path) == (WIDTH, HEIGHT, bits)


def signed_area(ring: list[tuple[float, float]]) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring)) / 2


@pytest.mark.parametrize(
    "placement",
    [
        from_origin(500_000, 5_000_000, 10, 20),
        Affine(10, 0, 500_000, 0, 20, 5_000_000),  # south up
        Affine(8.66, 10, 500_000, 5, -17.32, 5_000_000),  # turned by 30 degrees
    ],
)
def test_the_outline_is_the_four_corners_counter_clockwise(tmp_path, placement):
    path = write_tiff(tmp_path / "utm.tif", noise(3), crs="EPSG:32633", transform=placement)

    found = read_georeference(path)

    assert found is not None
    assert found.crs == "EPSG:32633"
    assert found.geometry["type"] == "Polygon"
    (ring,) = found.geometry["coordinates"]
    assert ring[0] == ring[-1]
    assert signed_area(ring) > 0
    columns, rows = np.array([0, WIDTH, 0, WIDTH]), np.array([0, 0, HEIGHT, HEIGHT])
    eastings = placement.a * columns + placement.b * rows + placement.c
    northings = placement.d * columns + placement.e * rows + placement.f
    lon_lat = zip(*transform("EPSG:32633", "EPSG:4326", eastings, northings), strict=True)
    assert np.array(sorted(ring[:-1])) == pytest.approx(np.array(sorted(lon_lat)), abs=1e-9)


def test_an_outline_over_the_antimeridian_is_cut(tmp_path):
    (west,), (north,) = transform("EPSG:4326", "EPSG:3832", [179.9], [-17])  # Pacific Mercator
    placement = from_origin(west, north, 5000, 5000)
    path = write_tiff(tmp_path / "fiji.tif", noise(1), crs="EPSG:3832", transform=placement)
    found = read_georeference(path)
    assert found is not None
    assert found.geometry["type"] == "MultiPolygon"
    spans = sorted(
        (min(lon for lon, _ in ring), max(lon for lon, _ in ring))
        for (ring,) in found.geometry["coordinates"]
    )
    (_, end), _ = transform("EPSG:3832", "EPSG:4326", [0, west + 5000 * WIDTH], [0, north])
    assert np.array(spans) == pytest.approx(np.array([[-180, end], [179.9, 180]]))


def test_control_points_place_an_image_too_and_nothing_is_nowhere(tmp_path):
    points = [
        GroundControlPoint(row, column, 10 + 0.1 * column, 50 - 0.1 * row)
        for row in (0, HEIGHT)
        for column in (0, WIDTH)
    ]
    path = write_tiff(tmp_path / "gcps.tif", noise(1), gcps=points, crs="EPSG:4326")
    found = read_georeference(path)
    assert found is not None
    corners = np.array(found.geometry["coordinates"][0])
    assert corners.min(axis=0) == pytest.approx([10, 50 - 0.1 * HEIGHT])
    assert corners.max(axis=0) == pytest.approx([10 + 0.1 * WIDTH, 50])

    picture("RGB").save(tmp_path / "plain.jpg")
    assert read_georeference(tmp_path / "plain.jpg") is None
    with pytest.raises(UserError, match=r"absent\.tif"):
        read_georeference(tmp_path / "absent.tif")


def test_images_below_a_folder(tmp_path):
    for name in (
        "b/2.JPG",
        "b/10.tif",
        "a.png",
        ".hidden/1.png",
        "b/.1.png",
        "b/1.csv",
        "b/c/x.bmp",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in images_below(tmp_path)]
    assert found == ["a.png", "b/10.tif", "b/2.JPG", "b/c/x.bmp"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared GeoTIFFs are not here")
def test_odd_geotiffs_of_the_real_world():
    for path in SHARED.glob("*.tif"):
        read = read_image(path)
        width, height, _ = read_header(path)
        assert read.shape == (3, height, width)
        assert read.float().std() > 10, path
        assert read_georeference(path) is not None, path
