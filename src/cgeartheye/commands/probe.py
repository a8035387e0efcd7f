"""Quality of a frozen backbone by itself: kNN and linear probe."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from rich.table import Table

from cgeartheye.commands.tasks import build
from cgeartheye.config import SceneClassification, SceneDecoder, to_yaml
from cgeartheye.data import SceneParts, load_parts
from cgeartheye.metrics.classification import ConfusionMatrix
from cgeartheye.metrics.probes import few_per_class, knn_predict, linear_probe
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.reports.scene import probe_report
from cgeartheye.tasks.registry import build_task
from cgeartheye.tasks.scene.pipeline import chip_facts, chip_views
from cgeartheye.tasks.sources import SourceFactory
from cgeartheye.training import distributed
from cgeartheye.training.run_dir import environment
from cgeartheye.utils.console import bar, log_info, show
from cgeartheye.utils.io import write_json

DRAWS = 5


@dataclass(frozen=True)
class Probe:
    """A way to classify features.

    Attributes:
        method: by nearest neighbours, or by logistic regression.
        k: neighbours.
        labels: of each class that are known, the mean over draws of which is the figure; none: all.
        draws: of the known labels.
    """

    method: Literal["knn", "linear"]
    k: int = 20
    labels: int | None = None
    draws: int = DRAWS

    @property
    def name(self) -> str:
        """In tables and in `probe.json`."""
        name = f"kNN, k = {self.k}" if self.method == "knn" else "linear"
        return f"{name}, {self.labels} a class" if self.labels else name


PROBES = (
    *(Probe("knn", k) for k in (5, 20)),
    Probe("linear"),
    *(Probe("linear", labels=count) for count in (1, 5, 10)),
    *(Probe("knn", 1, count) for count in (1, 5, 10)),
)


@dataclass(frozen=True)
class Probed:
    """Results of the probes of a backbone.

    Attributes:
        figures: top-1 accuracies in percent, by the names of probes.
        outcomes: of each probe, the share of its draws in which a tested image was right `[M]`.
        fingerprint: of the backbone's weights.
    """

    figures: dict[str, float]
    outcomes: dict[str, np.ndarray]
    fingerprint: str


def probe(config: SceneClassification, probes: Sequence[Probe] = PROBES) -> Probed:
    """Measure the class tokens of the config's backbone on its data, whatever tuning and decoder.

    Writes `probe.json` and `probe.html`, beside the report of a training in the same folder. The
    features of the training part and of the test part are those of the test view, in float32: half
    precision would favour some backbones. The penalty of a linear probe is chosen on a part of the
    training features; `training.seed` draws that part, and the known labels where there are few.
    """
    assert config.work_dir is not None
    started = time.monotonic()
    parts = load_parts(config.data)
    with distributed.process_group(config.training.device) as device:
        built = build(config, parts.classes, device)[1]
        train, test = encode_parts(config, parts, built, device)
    labels, truth = np.array(parts.train.labels), np.array(parts.test.labels)
    figures, outcomes, confusions = {}, {}, {}
    with bar("probing", len(probes), "protocols") as progress:
        for one in probes:
            predictions = _predict(one, train, labels, test, len(parts.classes), config)
            scores = [100 * float((predicted == truth).mean()) for predicted in predictions]
            figures[one.name] = float(np.mean(scores))
            outcomes[one.name] = np.mean([predicted == truth for predicted in predictions], 0)
            confusions[one.name] = ConfusionMatrix(len(parts.classes))
            for predicted in predictions:
                confusions[one.name].update(torch.from_numpy(predicted), torch.from_numpy(truth))
            progress.advance()
    if distributed.is_main():
        table = Table("protocol", "top-1 %", title=f"{config.backbone.name} on {config.data.root}")
        table.columns[1].justify = "right"
        for name, figure in figures.items():
            table.add_row(name, f"{figure:.2f}")
        show(table)
        write_json(config.work_dir / "probe.json", figures)
        facts = {**environment(device), "time": f"{time.monotonic() - started:.1f} s"}
        report = config.work_dir / "probe.html"
        title = config.work_dir.name
        probe_report(report, title, figures, confusions, parts.classes, facts, to_yaml(config))
        log_info(f"figures: {config.work_dir / 'probe.json'}, report: {report}")
    return Probed(figures, outcomes, built.fingerprint)


def encode_parts(
    config: SceneClassification, parts: SceneParts, built: BackboneBundle, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class tokens of the training and of the test part, float32 `[chips, C]`.

    Args:
        config: of the run.
        parts: of its data.
        built: its backbone.
        device: to compute on.
    """
    # The light decoder's features begin with them, and its trainings find these stored.
    light = config.model_copy(update={"decoder": SceneDecoder(kind="light")})
    task = build_task(light, built, parts.classes, tta=False).to(device)
    sources = SourceFactory(light, task, built)
    train, test = (
        sources.exact_features(
            chip_views(config, chips, views=0), chip_facts(config.data, chips, augmented=False)
        )[:, : built.module.embed_dim]
        for chips in (parts.train, parts.test)
    )
    return train, test


def _predict(
    probe: Probe,
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    classes: int,
    config: SceneClassification,
) -> list[np.ndarray]:
    """Return predictions int `[M]`, for each draw of the known labels."""
    seed = config.training.seed
    if probe.labels is None:
        known = [np.arange(len(labels))]
    else:
        first = seed * probe.draws
        known = [few_per_class(labels, probe.labels, first + n) for n in range(probe.draws)]
    if probe.method == "knn":
        return [knn_predict(train[few], labels[few], test, probe.k, classes) for few in known]
    return [linear_probe(train[few], labels[few], seed).predict(test) for few in known]
