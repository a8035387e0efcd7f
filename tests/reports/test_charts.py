import re
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA

from cgeartheye.reports import charts

AWKWARD = [
    "<b>&amp;</b>",
    "$x_1$ \"q\" 'r'",
    'id="a" url(#b) #0072b2',
    "长春农田",
    "a name that is much too long for a chart",
]

Parse = Callable[[str], Any]


def luminance(color: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
    ]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("shade", [0, 1])
def test_text_and_marks_stand_out_on_light_and_on_dark_paper(shade: int) -> None:
    colors = {name: pair[shade] for name, pair in charts.COLORS.items()}
    for ground in ("paper", "shade"):
        assert contrast(colors["ink"], colors[ground]) > 10
        assert contrast(colors["soft"], colors[ground]) > 4.5
        for mark in ("blue", "orange", "green", "purple"):
            assert contrast(colors[mark], colors[ground]) > 3


def all_charts(classes: list[str]) -> dict[str, str]:
    random = np.random.default_rng(0)
    count = len(classes)
    labels = np.arange(5 * count) % count
    return {
        "curves": charts.curves({"loss": (range(200), random.random(200))}, "epoch", smooth=True),
        "two": charts.curves({name: ([1, 2], [0.5, 0.7]) for name in classes[:2]}, "epoch"),
        "confusion": charts.confusion_matrix(random.integers(0, 9, (count, count)), classes),
        "reliability": charts.reliability(
            np.arange(15), np.linspace(0, 1, 15), np.array([np.nan, *np.linspace(0.1, 1, 14)])
        ),
        "embedding": charts.embedding(random.normal(size=(len(labels), 2)), labels, classes),
    }


def test_no_curve_is_left_out() -> None:
    many = {f"class {n}": ([0.0, 1.0], [0.0, float(n)]) for n in range(11)}
    assert "−" not in charts.curves({"F1": ([1, 2, 3], [0, 0, 0.1])}, "epoch")  # no such figure
    svg = charts.curves(many, "metres", colors=["#123456", "#654321"])
    assert all(name in svg for name in many)
    assert {"#123456", "#654321"} <= set(re.findall(r"#[0-9a-f]{6}", svg))


def test_charts_are_sound_markup_in_the_colours_of_the_page(parse: Parse) -> None:
    for name, svg in all_charts(AWKWARD).items():
        page = parse(svg)
        assert page.tags[0][0] == "svg", name
        # Every colour but those of further classes follows light and dark.
        assert set(re.findall(r"#[0-9a-fA-F]{6}\b", svg)) <= {*charts.CLASS_COLORS}, name
        assert set(re.findall(r"var\(--(\w+)\)", svg)) <= {*charts.COLORS}, name
        assert "http" not in svg
        assert "style" not in page.texts


def test_names_are_shown_as_they_are(parse: Parse) -> None:
    drawn = all_charts(AWKWARD)
    for name in ("confusion", "embedding"):
        texts = parse(drawn[name]).texts["text"]
        for awkward in AWKWARD[:4]:
            assert texts.count(awkward) == 2
        assert texts.count("a name that is much too…") == 2


def test_names_in_other_scripts_make_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    all_charts(["长春", "Київ"])
    assert not recwarn.list


def test_charts_leave_no_trace() -> None:
    before = dict(matplotlib.rcParams)
    first, second = all_charts(AWKWARD), all_charts(AWKWARD)
    assert first == second
    assert dict(matplotlib.rcParams) == before


def test_confusion_matrix_shows_each_count_up_to_15_classes(parse: Parse) -> None:
    counts = np.arange(225).reshape(15, 15) + 1000
    counts[3, 4] = 0
    classes = [f"c{k}" for k in range(15)]
    texts = parse(charts.confusion_matrix(counts, classes)).texts["text"]
    assert sorted(text for text in texts if text.isdigit()) == sorted(map(str, counts[counts > 0]))
    many = np.ones((16, 16), int)
    texts = parse(charts.confusion_matrix(many, [f"c{k}" for k in range(16)])).texts["text"]
    assert not [text for text in texts if text.isdigit()]


def test_confusion_matrix_colours_by_the_share_of_the_row() -> None:
    svg = charts.confusion_matrix(np.array([[90, 30], [0, 1]]), ["a", "b"])
    squares = re.findall(r"fill: var\(--(blue|orange)\)(?:; (?:fill-)?opacity: ([\d.]+))?", svg)
    shares = {(color, round((float(opacity or 1) - 0.15) / 0.85, 2)) for color, opacity in squares}
    assert shares == {("blue", 0.75), ("orange", 0.25), ("blue", 1.0)}


def test_running_mean_agrees_with_brute_force() -> None:
    values = np.random.default_rng(0).random(30)
    for window in (1, 4, 5):
        smooth = charts._running_mean(values, window)
        for place in range(30):
            first = place - window // 2
            inside = values[max(0, first) : first + window]
            assert smooth[place] == pytest.approx(inside.mean())


@settings(deadline=None)
@given(
    hnp.arrays(float, (12, 2), elements=st.floats(0, 10)),
    hnp.arrays(float, 12, elements=st.floats(0.1, 5)),
)
def test_no_label_covers_another(centers: np.ndarray, widths: np.ndarray) -> None:
    spread = charts._spread(centers, widths, 1.0)
    np.testing.assert_array_equal(spread[:, 0], centers[:, 0])
    assert (spread[:, 1] <= centers[:, 1]).all()
    for one in range(12):
        for other in range(one):
            across, up = np.abs(spread[one] - spread[other])
            assert across >= (widths[one] + widths[other]) / 2 or up >= 1 - 1e-9


@pytest.mark.parametrize(("rows", "columns"), [(40, 7), (5, 9), (40, 2)])
def test_principal_components_agree_with_sklearn(rows: int, columns: int) -> None:
    data = np.random.default_rng(0).normal(size=(rows, columns)) * np.arange(1, columns + 1)
    found = charts._principal_components(data, 3)
    expected = PCA(min(3, columns), svd_solver="full").fit_transform(data)
    assert found.shape == (rows, 3)
    known = expected.shape[1]
    np.testing.assert_allclose(np.abs(found[:, :known]), np.abs(expected), atol=1e-9)
    assert not found[:, known:].any()


def test_embedding_keeps_classes_together_and_is_the_same_each_time() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    features = (10 * np.eye(3, 80)[labels] + random.normal(size=(90, 80))).astype(np.float32)
    chosen, places = charts.embed(features)
    np.testing.assert_array_equal(chosen, np.arange(90))
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(1)] == labels).mean() > 0.98
    np.testing.assert_array_equal(places, charts.embed(features)[1])


def test_embedding_of_many_draws_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "EMBEDDED", 20)
    chosen, places = charts.embed(np.random.default_rng(0).normal(size=(50, 6)))
    assert places.shape == (20, 2)
    assert len(set(chosen.tolist())) == 20
    assert (np.diff(chosen) > 0).all()
    assert chosen.max() > 20


@pytest.mark.parametrize("shape", [(4, 8), (6, 1)])
def test_features_without_any_spread_are_drawn_too(shape: tuple[int, int]) -> None:
    chosen, places = charts.embed(np.ones(shape))
    assert (places == places[0]).all()
    charts.embedding(places, np.zeros(len(chosen), int), ["only"])


def test_patch_features_give_equal_colours_to_equal_features() -> None:
    kinds = np.random.default_rng(0).normal(size=(4, 16))
    layout = np.array([[[0, 1], [2, 3]], [[3, 2], [1, 0]]])
    pictures = charts.patch_features(kinds[layout].transpose(0, 3, 1, 2), side=64)
    assert pictures.shape == (2, 64, 64, 3)
    assert pictures.dtype == np.uint8
    corners = pictures[:, 4::55, 4::55].astype(int)  # away from where they blend
    for kind in range(4):
        first, second = corners[layout == kind]
        np.testing.assert_allclose(first, second, atol=2)
    colors = np.stack([corners[layout == kind][0] for kind in range(4)])
    apart = np.abs(colors[:, None] - colors[None]).max(2)
    assert apart[~np.eye(4, dtype=bool)].min() > 40
    assert np.ptp(colors, axis=0).min() > 200


def test_patch_features_of_one_patch_or_one_channel() -> None:
    maps = np.random.default_rng(0).normal(size=(1, 4, 1, 1)).astype(np.float16)
    assert not charts.patch_features(maps, 14).any()
    ramp = np.arange(6, dtype=np.float16).reshape(1, 1, 2, 3)
    (picture,) = charts.patch_features(ramp, 6)
    # The middles of the patches: the one channel is red, from the least to the largest.
    reds = picture[1::3, 1::2, 0].astype(int)
    assert (np.diff(reds.ravel()) > 0).all()
    assert not picture[..., 1:].any()


def test_beside() -> None:
    view = np.full((20, 30, 3), 200, np.uint8)
    features = np.zeros((10, 10, 3), np.uint8)
    pair = charts.beside(view, features)
    assert pair.shape == (10, 20, 3)
    assert (pair[:, :10] == 200).all()
    assert (pair[:, 10:] == 0).all()
