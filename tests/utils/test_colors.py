from cgeartheye.utils.colors import change_colors, class_colors, distinct_colors


def test_colors_are_distinct_and_those_of_fewer_classes_come_first() -> None:
    many = distinct_colors(60)
    assert len(set(many)) == 60
    assert distinct_colors(5) == many[:5]


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
