import json
import math
import time
from collections import Counter
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from affine import Affine
from country import Country, make_country
from earth import TABLE, brute_cover, brute_height, patches, write
from tests import processes

from cgeartheye.jlssd import workers
from cgeartheye.jlssd.resumable import claim
from cgeartheye.jlssd.sampling import cells, design
from cgeartheye.jlssd.sampling.cells import WHOLE
from cgeartheye.jlssd.sampling.design import Inputs, make_design
from cgeartheye.jlssd.sampling.equal_area_grid import Grid
from cgeartheye.jlssd.sampling.regions import read_regions
from cgeartheye.jlssd.sampling.result import SamplingPlan
from cgeartheye.utils.errors import UserError

GRID = Grid(1000)
PLAN = SamplingPlan(300, 150.0, 5)


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> Country:
    return make_country(tmp_path_factory.mktemp("country"))


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts take longer than all the rest."""
    monkeypatch.setattr(design, "write_report", lambda *_: None)


def write_coarser(country: Country, path: Path) -> Path:
    values = country.values[::2, ::2]
    return write(path, values, country.place @ Affine.scale(2), 4326, nodata=0)


quick = pytest.mark.usefixtures("without_report")


def heights_of(country: Country) -> dict[int, float]:
    """Mean elevation by cell. Pixels of 300 m are taken in quarters: there are few in a cell."""
    quarters = country.heights.repeat(2, 0).repeat(2, 1)
    place = country.height_place @ Affine.scale(0.5)
    return brute_height(GRID, quarters, quarters != -9999, place, 4326)


def by_brute_force(country: Country) -> tuple[Counter[tuple[str, str, str]], dict[str, float]]:
    """Cells by region, class and band, and the share of each class, cell by cell."""
    cover = brute_cover(GRID, country.values, country.place, 4326, nodata=0)
    height = heights_of(country)
    strata: Counter[tuple[str, str, str]] = Counter()
    shares = np.zeros(len(TABLE.names), np.int64)
    for cell, counts in cover.items():
        lon, lat = GRID.center(np.array([cell]))
        points = [shapely.Point(lon[0] + turn, lat[0]) for turn in (0, 360)]
        region = next(
            (n for n, s in country.shapes.items() if any(s.intersects(p) for p in points)), None
        )
        if region is None:
            continue
        band = "no elevation"
        if cell in height:
            low = 150 * math.floor(height[cell] / 150)
            band = f"{low} to {low + 150} m"
        strata[region, TABLE.names[int(counts.argmax())], band] += 1
        shares += counts * WHOLE // counts.sum()
    return strata, dict(zip(TABLE.names, shares / shares.sum(), strict=True))


@quick
@pytest.mark.parametrize(("west", "crs"), [(12.0, 4326), (179.7, 4326), (12.0, 3035)])
def test_strata_and_formula_by_brute_force(tmp_path: Path, west: float, crs: int) -> None:
    country = make_country(tmp_path, west, crs)
    out = tmp_path / "out/design.parquet"
    make_design(country.inputs, PLAN, out, workers=1)
    expected, shares = by_brute_force(country)
    of_class = Counter[str]()
    for (_, name, _), count in expected.items():
        of_class[name] += count
    strata = pq.read_table(tmp_path / "out/design.strata.parquet").to_pylist()
    assert {(s["region"], s["land_cover"], s["band"]): s["cells"] for s in strata} == expected
    assert any(s["band"] == "no elevation" for s in strata)
    places = pq.read_table(out).to_pylist()
    drawn = Counter(place["stratum"] for place in places)
    for row in strata:
        name, k = row["land_cover"], row["cells"]
        assert row["class_share"] == pytest.approx(shares[name], abs=1e-12)
        assert row["class_cells"] == of_class[name]
        exact = 300 * shares[name] * k / of_class[name]
        assert row["formula"] == pytest.approx(exact)
        assert row["quota"] == min(k, math.floor(max(1, exact) + 0.5))
        assert row["drawn"] == drawn[row["stratum"]] == row["quota"]
    assert sum(drawn.values()) == len(places)
    assert len({place["place"] for place in places}) == len(places)


@quick
def test_places_are_what_they_say(country: Country, tmp_path: Path) -> None:
    out = tmp_path / "design.parquet"
    make_design(country.inputs, PLAN, out, workers=1)
    cover = brute_cover(GRID, country.values, country.place, 4326, nodata=0)
    height = heights_of(country)
    for place in pq.read_table(out).to_pylist():
        assert place["west"] < place["lon"] < place["east"]
        assert place["south"] < place["lat"] < place["north"]
        assert country.shapes[place["region"]].contains(shapely.Point(place["lon"], place["lat"]))
        assert TABLE.names[int(cover[place["cell"]].argmax())] == place["land_cover"]
        expected = height.get(place["cell"])
        assert (place["elevation"] is None) == (expected is None)
        if expected is not None:
            assert place["elevation"] == pytest.approx(expected)
        name = "/".join((place["region"], place["land_cover"], place["band"]))
        assert place["stratum"] == name


def test_what_is_missing_is_reported(
    country: Country, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_design(country.inputs, PLAN, tmp_path / "design.parquet", workers=1)
    output = " ".join(capsys.readouterr().out.split())
    assert "Afar (16 cells): no land cover at all" in output
    assert "Tiny: contains no center of a cell" in output
    assert "86 cells have no land cover and are not drawn: Lower (62), Upper (24)" in output
    assert "cells have no elevation and are strata of their own" in output
    assert "does not name, taken as no data: 99 (150 pixels)" in output
    assert "cells around the regions are in none" in output
    page = (tmp_path / "design.html").read_text()
    assert "Afar" in page
    assert "99 (150 pixels)" in page
    assert "#1a6e38" in page  # forests have one colour in map and chart


@quick
def test_killed_and_resumed_the_same_bytes(
    country: Country, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [country.regions, country.cover, country.height]
    script = [Path(__file__).with_name("country.py"), *paths]
    out = tmp_path / "killed/design.parquet"
    process = processes.start([*script, out])
    while len(list((out.parent / "cells").rglob("*.parquet"))) < 4:
        assert process.is_alive()
        time.sleep(0.002)
    process.kill()
    process.join()
    assert not out.exists()
    # Unfinished files, which begin with a point, are removed by the next process.
    blocks = list((out.parent / "cells").rglob("[!.]*.parquet"))
    done = {path: path.stat().st_mtime_ns for path in blocks}
    with monkeypatch.context() as patch:
        patch.setattr(cells, "_ROWS", 8)
        patch.setattr(cells, "_COLUMNS", 24)
        make_design(country.inputs, PLAN, out, workers=1)
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())
    whole = tmp_path / "whole/design.parquet"
    make_design(country.inputs, PLAN, whole, workers=1)
    for name in ("design.parquet", "design.strata.parquet"):
        assert (out.parent / name).read_bytes() == (whole.parent / name).read_bytes(), name


@quick
def test_neither_processes_nor_blocks_matter(
    country: Country, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "START", processes.START)
    for name, count, rows, columns in (("a", 1, 64, 256), ("b", 2, 16, 30), ("c", 1, 9, 17)):
        monkeypatch.setattr(cells, "_ROWS", rows)
        monkeypatch.setattr(cells, "_COLUMNS", columns)
        make_design(country.inputs, PLAN, tmp_path / name / "design.parquet", workers=count)
    for name in ("design.parquet", "design.strata.parquet"):
        contents = [(tmp_path / run / name).read_bytes() for run in "abc"]
        assert contents[0] == contents[1] == contents[2]


@quick
def test_another_draw_needs_no_second_look_at_the_rasters(
    country: Country, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "design.parquet"
    make_design(country.inputs, PLAN, out, workers=1)
    first = {p["place"]: p["quota"] for p in pq.read_table(out).to_pylist()}
    monkeypatch.setattr(cells, "make_block", None)
    make_design(country.inputs, SamplingPlan(600, 150.0, 5), out, workers=1)
    larger = {p["place"] for p in pq.read_table(out).to_pylist()}
    assert first.keys() < larger
    make_design(country.inputs, SamplingPlan(300, 150.0, 6), out, workers=1)
    other = {p["place"]: p["quota"] for p in pq.read_table(out).to_pylist()}
    assert len(other) == len(first)
    assert len(other.keys() & first.keys()) < len(first) / 2


@quick
def test_other_inputs_make_other_cells(country: Country, tmp_path: Path) -> None:
    out = tmp_path / "design.parquet"
    make_design(country.inputs, PLAN, out, workers=1)
    small = len(list((tmp_path / "cells").rglob("*.parquet")))
    first = out.read_bytes()
    make_design(country.inputs, PLAN, out, side=2000, workers=1)
    assert set(pq.read_table(out).schema.metadata[b"cells"].split()) == {b"2000"}
    assert len(list((tmp_path / "cells").rglob("*.parquet"))) > small
    make_design(country.inputs, PLAN, out, workers=1)
    assert out.read_bytes() == first


def test_designs_in_one_folder_leave_each_other_alone(country: Country, tmp_path: Path) -> None:
    make_design(country.inputs, PLAN, tmp_path / "few.parquet", workers=1)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert {path.name for path in before} == {
        ".few.lock", "few.parquet", "few.strata.parquet", "few.html"
    }  # fmt: skip
    make_design(country.inputs, SamplingPlan(600, 200.0), tmp_path / "many.parquet", workers=1)
    assert all(path.read_bytes() == then for path, then in before.items())
    held = claim(tmp_path / "few.parquet")
    with held, pytest.raises(UserError, match=r"another process makes .*few\.parquet"):
        make_design(country.inputs, PLAN, tmp_path / "few.parquet", workers=1)


@quick
def test_a_damaged_block_is_named(country: Country, tmp_path: Path) -> None:
    out = tmp_path / "design.parquet"
    make_design(country.inputs, PLAN, out, workers=1)
    block = next((tmp_path / "cells").rglob("*.parquet"))
    block.write_bytes(block.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{block.name} is damaged"):
        make_design(country.inputs, PLAN, out, workers=1)


@pytest.mark.parametrize("total", [1, 10**9])
@quick
def test_another_number_than_wanted_is_explained(
    country: Country, tmp_path: Path, capsys: pytest.CaptureFixture[str], total: int
) -> None:
    make_design(country.inputs, SamplingPlan(total, 200.0), tmp_path / "design.parquet", workers=0)
    strata = pq.read_table(tmp_path / "design.strata.parquet")
    drawn = sum(strata["drawn"].to_pylist())
    output = " ".join(capsys.readouterr().out.split())
    assert f"{drawn:,} places are drawn, {total:,} were wanted" in output
    if total == 1:
        assert drawn == len(strata)
        floor = sum(max(0, 1 - value) for value in strata["formula"].to_pylist())
        assert f"the floor of one a stratum adds {floor:,.0f}" in output
    else:
        assert drawn == sum(strata["cells"].to_pylist())
        assert "strata with fewer cells than their quota lack" in output


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["", None, "  ", " A"], ("row 1", "row 2", "row 3", "A")),
        ([7, None, 9, 7], ("7", "row 2", "9")),
        ([0.5, 2.0, float("nan"), 2.0], ("0.5", "2.0", "row 3")),
    ],
)
@pytest.mark.parametrize("suffix", ["gpkg", "parquet"])
def test_names_of_regions(
    tmp_path: Path, names: list[object], expected: tuple[str, ...], suffix: str
) -> None:
    path = tmp_path / f"regions.{suffix}"
    boxes = [shapely.box(n, 0, n + 1, 1) for n in range(len(names))]
    frame = geopandas.GeoDataFrame({"name": names}, geometry=boxes, crs=4326)
    frame["name"] = frame["name"].convert_dtypes()
    frame.to_parquet(path) if suffix == "parquet" else frame.to_file(path)
    assert read_regions(path).names == expected


@quick
def test_mistakes_are_reported(country: Country, tmp_path: Path) -> None:
    out = tmp_path / "design.parquet"
    inputs = country.inputs

    def make(**changes: object) -> None:
        make_design(Inputs(**{**vars(inputs), **changes}), PLAN, out, workers=1)

    with pytest.raises(UserError, match="cannot be read as regions"):
        make(regions=tmp_path / "absent.gpkg")
    lost = tmp_path / "lost.geojson"
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)])
    frame.to_file(tmp_path / "lost.shp")
    with pytest.raises(UserError, match="has no CRS"):
        make(regions=tmp_path / "lost.shp")
    frame.set_crs(4326).to_file(lost)
    with pytest.raises(UserError, match="no column 'province'"):
        make(regions=lost, column="province")
    points = geopandas.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=4326)
    points.to_file(tmp_path / "points.gpkg")
    with pytest.raises(UserError, match="holds no polygon"):
        make(regions=tmp_path / "points.gpkg")
    for layer in ("provinces", "counties"):
        frame.set_crs(4326).to_file(tmp_path / "layers.gpkg", layer=layer)
    with pytest.raises(UserError, match=r"holds 2 layers \(provinces, counties\)"):
        make(regions=tmp_path / "layers.gpkg")
    scaled = tmp_path / "scaled.tif"
    write(scaled, country.heights, country.height_place, 4326)
    with rasterio.open(scaled, "r+") as file:
        file.scales = (0.1,)
    with pytest.raises(UserError, match=r"scaled\.tif stores scaled values \(scale 0\.1, offset 0"):
        make(height=(str(scaled),))
    with pytest.raises(UserError, match=r"another pixel size .*: make one mosaic .* gdalbuildvrt"):
        make(height=(*inputs.cover, str(write_coarser(country, tmp_path / "coarser.tif"))))
    with pytest.raises(UserError, match=r"absent\.tif"):
        make(cover=(str(tmp_path / "absent.tif"),))
    with pytest.raises(UserError, match="holds int16 and not classes"):
        make(cover=inputs.height)
    for height in (0.01, math.inf, math.nan):
        with pytest.raises(UserError, match=r"--elevation-step 0\.1 metres or more"):
            make_design(inputs, SamplingPlan(300, height), out)
    with pytest.raises(UserError, match=r"\.parquet"):
        make_design(inputs, PLAN, tmp_path / "design.csv")
    (tmp_path / "classes.csv").write_text("value,class\n10,forest\n10,water\n")
    with pytest.raises(UserError, match="line 3: value 10 is named twice"):
        make(classes=tmp_path / "classes.csv")
    many = "".join(f"{n},class {n}\n" for n in range(128))
    (tmp_path / "classes.csv").write_text(f"value,class\n{many}")
    with pytest.raises(UserError, match="names 128 classes: 127 at most"):
        make(classes=tmp_path / "classes.csv")
    with pytest.raises(UserError, match=r"no cell of .* has land cover"):
        make(regions=lost)


@quick
def test_broken_shapes_are_closed_or_named(tmp_path: Path) -> None:
    square = [[12.0, 47.0], [12.1, 47.0], [12.1, 47.1], [12.0, 47.1]]
    shapes = {"open": square, "point": square[:1], "whole": [*square, square[0]]}
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for name, ring in shapes.items()
    ]
    path = tmp_path / "broken.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    regions = read_regions(path)
    assert regions.without == ("point",)
    assert [part.area for part in regions.parts] == pytest.approx([0.01, 0.01])


@quick
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_shape_without_end_is_named(tmp_path: Path, value: float) -> None:
    path, square = tmp_path / "endless.gpkg", shapely.box(0, 0, 1, 1)
    shape = shapely.Polygon([(0, 0), (value, 1), (1, 1), (1, 0)])
    frame = geopandas.GeoDataFrame({"name": ["a", "b"]}, geometry=[shape, square], crs=4326)
    frame.to_file(path)
    regions = read_regions(path)
    assert regions.without == ("a",)
    assert [part.area for part in regions.parts] == [1]


@quick
def test_own_classes(country: Country, tmp_path: Path) -> None:
    table = tmp_path / "classes.csv"
    table.write_text("value,class\n10,trees\n80,water\n99,odd\n")
    out = tmp_path / "out/design.parquet"
    inputs = Inputs(**{**vars(country.inputs), "classes": table})
    make_design(inputs, PLAN, out, workers=1)
    names = set(pq.read_table(out)["land_cover"].to_pylist())
    assert names <= {"trees", "water", "odd"}
    settings = json.loads(next((tmp_path / "out/cells").rglob("settings.json")).read_text())
    assert settings["classes"][0] == ["trees", "water", "odd"]


@quick
def test_a_mosaic_of_tiles_is_one_raster(country: Country, tmp_path: Path) -> None:
    tiles = tmp_path / "tiles"
    for row in range(2):
        for column in range(2):
            part = country.values[row * 170 : row * 170 + 170, column * 180 : column * 180 + 180]
            place = country.place @ country.place.translation(column * 180, row * 170)
            write(tiles / f"{row}{column}.tif", part, place, 4326, nodata=0)
    make_design(country.inputs, PLAN, tmp_path / "one/design.parquet", workers=1)
    inputs = Inputs(country.regions, (str(tiles),), (str(country.height),))
    make_design(inputs, PLAN, tmp_path / "many/design.parquet", workers=1)
    one, many = ((tmp_path / n / "design.parquet").read_bytes() for n in ("one", "many"))
    assert one == many


@quick
def test_polar_regions_in_their_own_system(tmp_path: Path) -> None:
    """A disc that holds the south pole, in metres; land cover in longitude and latitude."""
    shape = shapely.Point(6e3, -9e3).buffer(2e4, 64)
    disc = geopandas.GeoDataFrame({"name": ["Pole"]}, geometry=[shape])
    disc.set_crs(3031).to_file(tmp_path / "disc.gpkg")
    place = Affine(0.25, 0, -180, 0, -0.002, -89.7)
    write(tmp_path / "cover.tif", patches(2, 150, 1440), place, 4326)
    write(tmp_path / "height.tif", np.full((150, 1440), 2800, np.int16), place, 4326)
    inputs = Inputs(
        tmp_path / "disc.gpkg", (str(tmp_path / "cover.tif"),), (str(tmp_path / "height.tif"),)
    )
    make_design(inputs, SamplingPlan(50), tmp_path / "design.parquet", workers=1)
    strata = pq.read_table(tmp_path / "design.strata.parquet")
    # EPSG:3031 is true to scale at 71 degrees south; at the pole a metre of it is 1.028 on Earth.
    assert sum(strata["cells"].to_pylist()) == pytest.approx(math.pi * 20.56**2, rel=0.02)
    assert set(strata["band"].to_pylist()) == {"2800 to 3000 m"}
