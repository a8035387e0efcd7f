"""Average precision of images drawn anew, against measuring the drawn images."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from toy_boxes import Drawn, draw, measured

from cgeartheye.metrics.detection.resampling import BoxOutcomes
from cgeartheye.metrics.resampling import bootstrap, can_resample, permutation_p_value
from cgeartheye.tasks.outcomes import read_outcomes, write_outcomes

CLASSES = 4


def without_ties(images: list[Drawn], seed: int) -> list[Drawn]:
    """Give each found box a score of its own: the order of equals depends on who comes first."""
    random = np.random.default_rng(seed)
    for one in images:
        one.preds.scores.copy_(one.preds.scores.new_tensor(random.random(len(one.preds))))
    return images


def outcomes_of(images: list[Drawn], oriented: bool) -> BoxOutcomes:
    return BoxOutcomes.of(measured(dict(enumerate(images)), CLASSES, oriented))


def brute_force(images: list[Drawn], weights: np.ndarray, oriented: bool) -> dict[str, float]:
    drawn = [images[place] for place in np.repeat(np.arange(len(images)), weights)]
    return measured(dict(enumerate(drawn)), CLASSES, oriented).compute()


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_figures_are_those_of_measuring_the_drawn_images(seed: int, oriented: bool) -> None:
    images = without_ties(draw(seed, oriented, images=2 + seed % 6), seed)
    outcomes = outcomes_of(images, oriented)
    random = np.random.default_rng(seed)
    shares = np.full(len(images), 1 / len(images))
    weights = np.vstack([np.ones(len(images), int), random.multinomial(len(images), shares, 5)])
    expected = [brute_force(images, one, oriented) for one in weights]
    for figure in outcomes.figures:
        found = outcomes.score(figure, weights)
        truth = [one[figure] for one in expected]
        assert found == pytest.approx(truth, abs=1e-6, nan_ok=True), figure


def test_more_boxes_of_an_image_than_count() -> None:
    images = without_ties(draw(4, oriented=False, images=5, most=130), 4)
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 3, 0, 0]])
    found = outcomes_of(images, oriented=False).score("ap", weights)
    truth = [brute_force(images, one, oriented=False)["ap"] for one in weights]
    assert found == pytest.approx(truth, abs=1e-6)


def test_an_interval_is_that_of_a_loop() -> None:
    images = without_ties(draw(7, oriented=False, images=9), 7)
    draws = np.random.default_rng(3).multinomial(9, np.full(9, 1 / 9), 100)
    loop = [brute_force(images, one, oriented=False)["ap50"] for one in draws]
    found = bootstrap("ap50", [outcomes_of(images, oriented=False)], draws=4000)
    np.testing.assert_allclose(found, np.nanquantile(loop, [0.025, 0.975]), atol=6)


def test_a_p_value_is_that_of_all_swaps() -> None:
    one = without_ties(draw(7, oriented=True, images=5), 7)
    other = [Drawn(a.preds[:2], a.boxes, a.labels, a.ignored) for a in one]
    differences = []
    for number in range(2**5):
        swapped = [(number >> place) & 1 for place in range(5)]
        sides = [
            [(one, other)[swap ^ side][place] for place, swap in enumerate(swapped)]
            for side in (0, 1)
        ]
        first, second = (outcomes_of(side, True).score("ap50", np.ones((1, 5))) for side in sides)
        differences.append(abs(float(first[0] - second[0])))
    exact = np.mean(np.array(differences) >= differences[0] - 1e-9)
    pair = [outcomes_of(one, True)], [outcomes_of(other, True)]
    assert 0.05 < exact < 0.95
    assert permutation_p_value("ap50", *pair, draws=4000) == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("oriented", [False, True])
def test_outcomes_are_read_as_they_were_written(oriented: bool, tmp_path: Path) -> None:
    outcomes = outcomes_of(draw(1, oriented, images=4), oriented)
    write_outcomes(tmp_path, outcomes)
    again = read_outcomes(tmp_path)
    assert isinstance(again, BoxOutcomes)
    weights = np.array([[1, 2, 0, 1]])
    for figure in outcomes.figures:
        assert again.score(figure, weights) == outcomes.score(figure, weights)
    assert can_resample("ap_11", again) == oriented
    assert not can_resample("ar", again)
