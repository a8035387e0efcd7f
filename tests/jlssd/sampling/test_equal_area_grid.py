import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from cgeartheye.jlssd.sampling.equal_area_grid import Block, Grid
from cgeartheye.utils.errors import UserError

WGS84 = Geod(ellps="WGS84")
KILOMETER = Grid(1000)


def geodesic_area(grid: Grid, number: int) -> float:
    """Area by pyproj, the parallels followed in small steps: geodesics leave them."""
    west, south, east, north = (float(v) for v in grid.bounds(np.array(number)))
    lon = np.linspace(west, east, 2001)
    x = np.concatenate([lon, lon[::-1]])
    y = np.concatenate([np.full(2001, south), np.full(2001, north)])
    return abs(WGS84.polygon_area_perimeter(x, y)[0])


@pytest.mark.parametrize("lat", [-89.9999, -89.97, -60, -0.001, 0, 33.3, 52, 80, 89.6, 89.995])
@pytest.mark.parametrize("lon", [-180, -179.999, 0.1, 179.9999])
def test_a_cell_has_a_square_kilometre_everywhere(lat: float, lon: float) -> None:
    number = int(KILOMETER.number(np.array(lon), np.array(lat)))
    assert geodesic_area(KILOMETER, number) == pytest.approx(1e6, rel=2e-6)


def test_cells_are_about_square() -> None:
    grid = KILOMETER
    row = np.arange(20, grid.rows - 20)  # 20 km from the poles on
    height = np.diff(-grid.latitudes)[row] * 111_200
    middle = (grid.latitudes[row] + grid.latitudes[row + 1]) / 2
    width = 111_320 * np.cos(np.radians(middle)) * 360 / grid.width(row)
    assert abs(width / height - 1).max() < 0.05


@pytest.mark.parametrize("side", [1000, 777, 25_000, 1_000_000])
def test_cells_fill_the_world_without_overlap(side: int) -> None:
    grid = Grid(side)
    assert grid.count * grid.area == pytest.approx(510_065_621_724_088, rel=1e-9)  # WGS 84's
    assert grid.area == pytest.approx(side**2, rel=1e-2 if side > 100_000 else 1e-5)
    assert grid.starts[0] == 0
    assert grid.starts[-1] == grid.count
    widths = grid.width(np.arange(grid.rows))
    np.testing.assert_array_equal(widths, widths[::-1])
    assert np.diff(grid.latitudes).max() < 0


@given(
    st.floats(-540, 540), st.floats(-90, 90, exclude_min=True), st.sampled_from([1000, 90, 50_000])
)
def test_every_point_is_in_the_cell_it_is_given(lon: float, lat: float, side: int) -> None:
    grid = Grid(side)
    number = grid.number(np.array([lon]), np.array([lat]))
    west, south, east, north = (float(v[0]) for v in grid.bounds(number))
    turned = (lon + 180) % 360 - 180
    assert 0 <= number[0] < grid.count
    assert west - 1e-9 <= turned <= east + 1e-9
    # Near the poles the sine of a latitude resolves it to some centimetres.
    slack = 1e-9 if abs(lat) < 89 else 1e-6
    assert south - slack <= lat <= north + slack
    assert -180 <= west < east <= 180


@given(st.integers(0, Grid(1000).count - 1))
def test_centre_and_name_lead_back(number: int) -> None:
    numbers = np.array([number])
    lon, lat = KILOMETER.center(numbers)
    assert KILOMETER.number(lon, lat)[0] == number
    side, row, column = KILOMETER.names(numbers)[0].split("-")
    assert side == "1000"
    assert KILOMETER.starts[int(row)] + int(column) == number


def test_the_antimeridian_is_an_edge() -> None:
    lat = np.array([17.3])
    west = KILOMETER.number(np.array([179.9999]), lat)
    east = KILOMETER.number(np.array([-179.9999]), lat)
    assert KILOMETER.number(np.array([180.0001]), lat) == east
    assert KILOMETER.number(np.array([180.0]), lat) == east
    row, column = KILOMETER.place(np.concatenate([west, east]))
    assert row[0] == row[1]
    assert column.tolist() == [KILOMETER.width(int(row[0])) - 1, 0]
    assert KILOMETER.bounds(west).east[0] == 180
    assert KILOMETER.bounds(east).west[0] == -180


@pytest.mark.parametrize(("rows", "columns"), [(7, 5), (64, 64), (1000, 1000)])
def test_blocks_divide_the_world(rows: int, columns: int) -> None:
    grid = Grid(200_000)
    firsts = range(0, grid.rows, rows)
    blocks = [block for first in firsts for block in grid.blocks(rows, columns, first)]
    cells = np.concatenate([grid.cells(block) for block in blocks])
    np.testing.assert_array_equal(np.sort(cells), np.arange(grid.count))


def test_a_block_is_inside_its_rectangle() -> None:
    grid = Grid(20_000)
    for block in (Block(0, 8, 0, 1), Block(100, 140, 3, 7), Block(992, 1000, 1, 2)):
        around = shapely.box(*(float(v) for v in grid.around(block)))
        own = shapely.box(*grid.bounds(grid.cells(block)))
        assert around.buffer(1e-9).contains(shapely.union_all(own))


def test_a_side_beyond_sense_is_refused() -> None:
    with pytest.raises(UserError, match="--cell-size"):
        Grid(1)
