import math

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cgeartheye.boxes import Detections, corners_of
from cgeartheye.reports.draw_boxes import CROP, MISSED, Drawn, crop_picture, draw_boxes, draw_found

RED, GREEN = (255, 0, 0), (0, 255, 0)
GRAY = np.full((120, 160, 3), 90, np.uint8)


def near(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture.astype(int) - color).max(-1) < 60


@settings(max_examples=25, deadline=None)
@given(
    st.floats(50, 110), st.floats(45, 75), st.floats(25, 60), st.floats(20, 25), st.floats(0, 3.1)
)
def test_lines_follow_the_outline(x: float, y: float, w: float, h: float, angle: float) -> None:
    box = torch.tensor([[x, y, w, h, angle]])
    picture = draw_boxes(GRAY, [Drawn(box, [RED], [""])])
    assert picture.shape == GRAY.shape
    assert picture.dtype == np.uint8
    outline = shapely.Polygon(corners_of(box)[0].tolist()).exterior
    rows, columns = np.nonzero(near(picture, RED))
    distances = shapely.distance(shapely.points(columns + 0.5, rows + 0.5), outline)
    assert distances.max() < 2.5
    # Every part of the outline is drawn.
    drawn = shapely.multipoints(np.stack([columns + 0.5, rows + 0.5], axis=1))
    along = [outline.interpolate(t, normalized=True) for t in np.linspace(0, 1, 60)]
    assert max(drawn.distance(point) for point in along) < 2.5
    far = shapely.distance(
        shapely.points(*np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5)), outline
    )
    np.testing.assert_array_equal(picture[far > 4], GRAY[far > 4])


def test_the_last_layer_is_on_top_and_dashes_have_gaps() -> None:
    box = torch.tensor([[20.0, 20, 140, 100]])
    whole = draw_boxes(GRAY, [Drawn(box, [RED], [""])])
    both = draw_boxes(GRAY, [Drawn(box, [RED], [""]), Drawn(box, [GREEN], [""], dashed=True)])
    assert near(whole, RED).sum() > near(both, RED).sum() > 100
    assert near(both, GREEN).sum() > 100


@pytest.mark.parametrize("box_dim", [4, 5])
def test_drawing_no_boxes_changes_nothing(box_dim: int) -> None:
    np.testing.assert_array_equal(draw_boxes(GRAY, [Drawn(torch.zeros(0, box_dim), [], [])]), GRAY)
    assert (draw_found(GRAY, Detections.none(box_dim), []) == GRAY[0, 0]).all()


def test_boxes_past_the_image_and_without_area_are_drawn() -> None:
    boxes = torch.tensor([[-50.0, -50, 30, 30], [150, 100, 400, 400], [60, 60, 60, 60]])
    found = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0]))
    picture = draw_found(GRAY, found, ["ship", "plane"])
    assert picture.shape == (360, 480, 3)  # enlarged: names would hide an image of 160 pixels
    assert (picture != GRAY[0, 0]).any()
    large = np.zeros((500, 300, 3), np.uint8)
    assert draw_found(large, found, ["ship", "plane"]).shape == large.shape


def test_names_stay_within_the_picture() -> None:
    corner = Detections(torch.tensor([[150.0, 2, 158, 10]]), torch.tensor([0.5]), torch.tensor([0]))
    changed = (draw_found(GRAY, corner, ["a name"]) != GRAY[0, 0]).any(-1)
    # The name needs some 60 pixels to the left of the box, which begins at 450.
    assert changed[:, 380:450].any(0).sum() > 30


@pytest.mark.parametrize("apart", [3.0, 60.0])
def test_names_do_not_lie_on_each_other(apart: float) -> None:
    """If they would overlap, the upper one stays."""

    def drawn(lower: str) -> np.ndarray:
        boxes = [torch.tensor([[20.0, y, 60, y + 10]]) for y in (30, 30 + apart)]
        texts = lower, "upper"
        return draw_boxes(GRAY, [Drawn(b, [RED], [t]) for b, t in zip(boxes, texts, strict=True)])

    assert ((drawn("lower") != drawn("")).any()) == (apart == 60)


@pytest.mark.parametrize("box", [[70.0, 50, 90, 70], [80.0, 60, 20, 20, math.pi / 4]])
def test_a_crop_has_its_box_in_the_middle(box: list[float]) -> None:
    picture = crop_picture(GRAY, torch.tensor(box), RED, None, dashed=False)
    assert picture.shape == (CROP, CROP, 3)
    rows, columns = np.nonzero(near(picture, RED))
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert middle == pytest.approx((CROP / 2, CROP / 2), abs=2)


def test_a_crop_stays_within_the_image_and_shows_the_true_box() -> None:
    picture = crop_picture(
        GRAY, torch.tensor([2.0, 2, 12, 12]), RED, torch.tensor([5.0, 5, 25, 25]), dashed=False
    )
    assert picture.min(axis=-1).max() > 200  # white dashes
    assert near(picture, MISSED).sum() > 50
    rows, columns = np.nonzero(near(picture, RED))
    assert max(rows.max(), columns.max()) < CROP / 3
    assert (picture[150:, 200:] == 90).all()
