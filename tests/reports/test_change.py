from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from cgeartheye.metrics.classification import ChangeMetrics, ConfusionMatrix, changed_iou
from cgeartheye.reports.change import (
    FALSE_ALARM,
    FOUND,
    MISSED,
    UNCHANGED,
    change_panels,
    change_report,
)
from cgeartheye.reports.examples import GAP, UNKNOWN, Example


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = (random.random((20, 30)) < 0.3).astype(np.uint8)
    predicted = np.where(random.random(truth.shape) < 0.1 * seed, 1 - truth, truth)
    truth[:2] = 255
    return truth, predicted


def test_figures_are_those_of_changed() -> None:
    """Whatever the batches, and added up over two processes."""
    parts = [ChangeMetrics(), ChangeMetrics()]
    for seed in range(5):
        truth, predicted = drawn(seed)
        parts[seed % 2].update(torch.from_numpy(predicted), torch.from_numpy(truth))
    whole = ChangeMetrics()
    whole.load_states([part.state() for part in parts])
    both = np.array([drawn(seed) for seed in range(5)])
    truth, predicted = both[:, 0], both[:, 1]
    known = truth != 255
    pair = truth[known], predicted[known]
    expected = {
        "f1": f1_score(*pair),
        "iou": jaccard_score(*pair),
        "precision": precision_score(*pair),
        "recall": recall_score(*pair),
        "accuracy": (pair[0] == pair[1]).mean(),
    }
    assert whole.compute() == pytest.approx({k: 100 * v for k, v in expected.items()})


@pytest.mark.parametrize(
    ("truth", "predicted", "iou"),
    [
        ([0, 0], [0, 0], np.nan),
        ([0, 0], [0, 1], 0),
        ([1, 0], [0, 0], 0),
        ([1, 1, 0], [1, 0, 1], 1 / 3),
    ],
)
def test_iou_of_a_pair(truth: list[int], predicted: list[int], iou: float) -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(torch.tensor(predicted), torch.tensor(truth))
    assert changed_iou(confusion) == pytest.approx(iou, nan_ok=True)


def test_panels_distinguish_false_alarms_from_misses() -> None:
    truth = np.array([[0, 1, 255], [1, 0, 1]], np.uint8)
    predicted = np.array([[1, 0, 1], [1, 0, 0]], np.uint8)
    before, after = (np.full((2, 3, 3), level, np.uint8) for level in (10, 20))
    picture = change_panels(Example((before, after), truth, predicted))
    assert picture.shape == (2, 4 * 3 + 3 * GAP, 3)
    first, second, true, found = (picture[:, i * (3 + GAP) :][:, :3] for i in range(4))
    np.testing.assert_array_equal(first, before)
    np.testing.assert_array_equal(second, after)
    expected = [[UNCHANGED, FOUND, UNKNOWN], [FOUND, UNCHANGED, FOUND]]
    np.testing.assert_array_equal(true, np.array(expected))
    expected = [[FALSE_ALARM, MISSED, UNKNOWN], [FOUND, UNCHANGED, MISSED]]
    np.testing.assert_array_equal(found, np.array(expected))


def test_report(parse: Callable[[str], Any], tmp_path: Path) -> None:
    metrics, ious = ChangeMetrics(), []
    for seed in range(6):
        truth, predicted = (torch.from_numpy(x) for x in drawn(seed))
        metrics.update(predicted, truth)
        own = ConfusionMatrix(2)
        own.update(predicted, truth)
        ious.append(changed_iou(own))

    def load_example(index: int) -> Example:
        truth, predicted = drawn(index)
        image = np.full((20, 30, 3), 40 * index, np.uint8)
        return Example((image, image), truth, predicted)

    change_report(
        tmp_path / "report.html",
        title="run <1>",
        classes=("unchanged", "changed"),
        metrics=metrics,
        history=[{"kind": "val", "step": 2, "epoch": 1, "f1": 41.5, "iou": 30.0}],
        names=[f"{i}.png" for i in range(6)],
        ious=np.array(ious),
        load_example=load_example,
        config_yaml="data: <here>\n",
        environment={"device": "cpu & co"},
    )
    page = parse((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.texts["h1"] == ["run <1>"]
    share = (np.array([drawn(i)[0] for i in range(6)])[:, 2:] == 1).mean()
    assert (
        page.texts["p"][0]
        == f"Change detection · 6 pairs · 3,240 pixels · {share:.1%} of them changed"
    )
    shown = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert shown["F1 of changed"] == f"{metrics.compute()['f1']:.2f} %"
    assert page.texts["h3"][-3:] == ["Worst", "Typical", "Best"]
    assert "missed" in page.texts["li"]
    assert "".join(page.texts["small"]).startswith("5.png4.png")
