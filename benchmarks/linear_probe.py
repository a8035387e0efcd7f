"""The linear probe: all penalties in one path against scikit-learn's LogisticRegressionCV.

Both standardise the features, choose one of the same penalties on the same fifth of the training
features, fit all of them with the chosen one and predict the test features. scikit-learn is given
float32 features, which it computes with, and as many steps a penalty as its default allows.

python benchmarks/linear_probe.py [--samples 10000] [--channels 384] [--classes 30] [--turns 3]
    [--features FILE.npz]
FILE holds `train`, `labels`, `test` and `truth` of a backbone; without one they are drawn: classes
overlap, and the spectrum falls as that of a vision transformer does.
"""

import argparse
import time
import warnings
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cgeartheye.metrics.probes import PENALTIES, linear_probe

Split = tuple[np.ndarray, np.ndarray]


def draw(samples: int, channels: int, classes: int) -> tuple[Split, Split]:
    """Return training and test features with labels."""
    random = np.random.default_rng(0)
    spectrum = np.exp(-np.arange(channels) / (channels / 6))
    mixing = random.normal(size=(channels, channels)) * spectrum[:, None]
    centers = 0.3 * random.normal(size=(classes, channels))

    def part(count: int) -> Split:
        labels = random.integers(0, classes, count)
        hidden = centers[labels] + random.normal(size=(count, channels))
        features = hidden @ mixing + 0.1 * random.normal(size=(count, channels))
        return features.astype(np.float32), labels

    return part(samples), part(max(samples // 5, 50))


def peer(train: np.ndarray, labels: np.ndarray) -> object:
    """Fit scikit-learn's."""
    split = StratifiedShuffleSplit(1, test_size=0.2, random_state=0)
    folds = list(split.split(train, labels))
    model = LogisticRegressionCV(Cs=np.array(PENALTIES), cv=folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), model).fit(train, labels)


def main() -> None:
    """Run both in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--classes", type=int, default=30)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--features")
    given = parser.parse_args()
    if given.features:
        stored = np.load(given.features)
        train, test = (stored["train"], stored["labels"]), (stored["test"], stored["truth"])
    else:
        train, test = draw(given.samples, given.channels, given.classes)
    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "scikit-learn": []}
    scores = {}
    for _ in range(given.turns):
        for name, fit in (("ours", linear_probe), ("scikit-learn", peer)):
            begin = time.perf_counter(), time.process_time()
            model = fit(*train)
            end = time.perf_counter(), time.process_time()
            seconds[name].append((end[0] - begin[0], end[1] - begin[1]))
            scores[name] = 100 * float((model.predict(test[0]) == test[1]).mean())
    shape = f"{train[0].shape[0]:,} x {train[0].shape[1]} features"
    table = Table(
        "",
        "ours",
        "scikit-learn",
        "ratio",
        title=f"{shape}, {len(np.unique(train[1]))} classes, {len(PENALTIES)} penalties; "
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
    )
    # On a machine that others use too, the CPU time of one thread is what compares.
    for what, place in (("seconds", 0), ("CPU seconds", 1)):
        ours, theirs = (median(s[place] for s in seconds[name]) for name in seconds)
        table.add_row(f"{what}, median", f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}")
    table.add_row(
        "accuracy on test features, %",
        f"{scores['ours']:.2f}",
        f"{scores['scikit-learn']:.2f}",
        "",
    )
    Console().print(table)


if __name__ == "__main__":
    main()
