import numpy as np

from cgeartheye.utils.colors import change_colors, class_colors, distinct_colors


def test_colors_are_distinct_and_those_of_fewer_classes_come_first() -> None:
    many = distinct_colors(60)
    assert len(set(many)) == 60
    assert distinct_colors(5) == many[:5]
    assert distinct_colors(20) == many[:20]


def test_no_two_of_many_classes_look_alike() -> None:
    """In CIELAB, another space than the one that they are chosen in; 2.3 can just be seen."""
    share = np.array(distinct_colors(45)) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(linear @ np.transpose(to_xyz) / (0.9505, 1, 1.089)).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
    distances = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(45, 1)]
    assert distances.min() > 10


def test_a_background_is_black_whatever_its_place() -> None:
    assert class_colors(("road", "Background", "house")) == (
        distinct_colors(2)[0],
        (0, 0, 0),
        distinct_colors(2)[1],
    )


def test_change_is_red_on_grey() -> None:
    (gray, red, *others) = change_colors(4)
    assert len(set(gray)) == 1
    assert red[0] > 2 * max(red[1:])
    assert len({gray, red, *others}) == 4
