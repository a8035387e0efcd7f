from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from toy_embeddings import make

from cgeartheye.embeddings.calibration import calibrate, calibration_error, find_temperature
from cgeartheye.embeddings.crossval import HeldOut, leave_places_out
from cgeartheye.embeddings.decoder import Decoder, fit_decoder
from cgeartheye.embeddings.labels import LabelledPatches
from cgeartheye.embeddings.store import open_embedding


def two_levels(margin: float, right: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two classes that always differ by as much, and classes that they get right."""
    classes = np.arange(len(right)) % 2
    said = np.where(right, classes, 1 - classes)
    return np.eye(2)[said] * margin, classes


@pytest.mark.parametrize(("margin", "wrong"), [(0.5, 3), (6.0, 3), (6.0, 0), (2.0, 7)])
def test_the_temperature_has_a_closed_form_with_one_margin(margin: float, wrong: int) -> None:
    """The best probability of what is said is the mean of the targets there."""
    count = 20
    scores, classes = two_levels(margin, [n >= wrong for n in range(count)])
    high, low = (count + 1) / (count + 2), 1 / (count + 2)
    best = (wrong * low + (count - wrong) * high) / count
    expected = margin / np.log(best / (1 - best))
    found = find_temperature(scores, classes, np.full(count, 1 / count), count)
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_error_is_that_of_a_loop_over_bins() -> None:
    random = np.random.default_rng(0)
    probabilities, classes = random.dirichlet(np.ones(3), 200), random.integers(0, 3, 200)
    weights = random.uniform(size=200)
    expected = 0.0
    for low in range(10):
        own = [n for n in range(200) if low / 10 <= probabilities[n].max() < (low + 1) / 10]
        if own:
            share = sum(weights[n] for n in own)
            sure = sum(weights[n] * probabilities[n].max() for n in own) / share
            right = sum(weights[n] for n in own if probabilities[n].argmax() == classes[n]) / share
            expected += share / weights.sum() * abs(sure - right)
    assert calibration_error(probabilities, classes, weights) == pytest.approx(expected)
    certain = np.eye(3)[classes]
    assert calibration_error(certain, classes, weights) == 0


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_scores_of_a_known_temperature_are_mended(factor: float) -> None:
    """Classes are drawn by the softmax of scores, which are then made too sure or too unsure."""
    random = np.random.default_rng(1)
    true = random.normal(size=(4000, 3)) * 2
    classes = np.array([random.choice(3, p=p) for p in softmax(true, axis=-1)])
    held = HeldOut(true * factor, classes, np.arange(4000), np.arange(4000) % 5)
    found = calibrate(held)
    assert found.temperature == pytest.approx(factor, rel=0.1)
    assert found.after < 0.03
    if factor != 1:
        assert found.before > 3 * found.after
    moved = HeldOut(true * factor, classes, np.arange(4000), np.zeros(4000, int))
    assert calibrate(moved).before == found.before


def test_a_temperature_that_other_places_do_not_need_is_not_taken() -> None:
    """On the places that it was found on it would look good; each place is measured without it."""
    scores, classes = two_levels(1.4, [n % 5 > 0 for n in range(100)])
    far, others = two_levels(8.0, [n % 2 > 0 for n in range(100)])
    both = np.concatenate([scores, far]), np.concatenate([classes, others])
    held = HeldOut(*both, np.arange(200), np.repeat([0, 1], 100))

    def error(scores: np.ndarray) -> float:
        return calibration_error(softmax(scores, axis=-1), both[1], held.weights)

    one = find_temperature(*both, held.weights, 200)
    first = find_temperature(scores, classes, np.full(100, 1.0), 100)
    second = find_temperature(far, others, np.full(100, 1.0), 100)
    apart = error(np.concatenate([scores / second, far / first]))
    assert error(both[0] / one) < error(both[0]) < apart
    found = calibrate(held)
    assert (found.temperature, found.after) == (1, found.before)
    assert found.before == pytest.approx(error(both[0]))


def test_places_that_agree_are_mended_without_themselves() -> None:
    parts = [two_levels(margin, [n % 4 > 0 for n in range(40)]) for margin in (4.0, 5.0)]
    scores, classes = (np.concatenate(each) for each in zip(*parts, strict=True))
    held = HeldOut(scores, classes, np.arange(80), np.repeat([0, 1], 40))
    own = [find_temperature(*part, np.full(40, 1.0), 40) for part in parts]
    mended = np.concatenate([parts[0][0] / own[1], parts[1][0] / own[0]])
    expected = calibration_error(softmax(mended, axis=-1), classes, held.weights)
    assert calibrate(held).after == pytest.approx(expected, abs=1e-4)
    assert expected < calibrate(held).before


def test_a_class_that_a_fold_lacks_breaks_nothing() -> None:
    scores = np.array([[2.0, 0, -np.inf], [0, 3, -np.inf], [1, 0, -np.inf], [0, 1, 2]])
    held = HeldOut(scores, np.array([0, 1, 2, 2]), np.arange(4), np.array([0, 0, 1, 1]))
    found = calibrate(held)
    assert np.isfinite([found.temperature, found.before, found.after]).all()


def test_held_out_scores_are_those_of_fits_without_the_place(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    embedding = open_embedding(make(tmp_path / "e", random.normal(size=(100, 100, 4))))
    rows, columns = np.divmod(random.permutation(10_000)[:60], 100)
    classes = np.arange(60) % 3
    names, covered = ("a", "b", "c"), np.zeros(embedding.shape, bool)
    patches = LabelledPatches(rows, columns, classes, np.arange(60), names, covered)
    held = leave_places_out(patches, embedding)
    assert held is not None
    assert len(np.unique(held.folds)) == 5
    for fold in range(5):
        fit = held.folds != fold
        places = [set(zip(rows[m] // 20, columns[m] // 20, strict=True)) for m in (fit, ~fit)]
        assert not places[0] & places[1]
        part = LabelledPatches(
            rows[fit], columns[fit], classes[fit], np.arange(fit.sum()), names, covered
        )
        own = fit_decoder(part, embedding).scores(embedding.components(rows[~fit], columns[~fit]))
        np.testing.assert_allclose(held.scores[~fit], own, rtol=1e-4, atol=1e-4)


def test_a_temperature_keeps_what_is_likeliest() -> None:
    random = np.random.default_rng(0)
    decoder = Decoder(random.normal(size=(4, 3)), random.normal(size=3), ("a", "b", "c"))
    x = random.normal(size=(50, 4))
    cold, hot = (decoder.tempered(t).probabilities(x) for t in (0.5, 4))
    np.testing.assert_array_equal(cold.argmax(-1), hot.argmax(-1))
    assert (cold.max(-1) > hot.max(-1)).all()
    np.testing.assert_allclose(hot, softmax(decoder.scores(x) / 4, axis=-1), rtol=1e-5)
