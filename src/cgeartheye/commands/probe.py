"""Quality of a frozen backbone by itself: kNN and linear probe."""

import numpy as np
from rich.table import Table

from cgeartheye.commands.tasks import build
from cgeartheye.config import SceneClassification
from cgeartheye.data import SceneChips, load_parts
from cgeartheye.metrics.probes import few_per_class, knn_predict, linear_probe
from cgeartheye.tasks.scene.module import SceneTask
from cgeartheye.tasks.scene.pipeline import chip_views
from cgeartheye.tasks.sources import SourceFactory
from cgeartheye.training import distributed
from cgeartheye.utils.console import bar, console, log_info
from cgeartheye.utils.io import write_json

NEIGHBORS = (5, 20)
LABELS_A_CLASS = (1, 5, 10)
DRAWS = 5


def probe(config: SceneClassification) -> dict[str, float]:
    """Measure the config's backbone on its data, whatever its tuning; write `probe.json`.

    The features of the training part and of the test part are those of the test view. With few
    labels, the mean over `DRAWS` seeded draws of the labelled images.

    Returns:
        Top-1 accuracies in percent, by protocol.
    """
    assert config.work_dir is not None
    parts = load_parts(config.data)
    with distributed.process_group(config.training.device) as device:
        task, built = build(config, parts.classes, device)
        sources = SourceFactory(config, task, built)
        train, test = (_features(config, task, sources, p) for p in (parts.train, parts.test))
    labels, truth = np.array(parts.train.labels), np.array(parts.test.labels)
    figures = {}
    protocols = [
        *((f"kNN, k = {k}", k, None) for k in NEIGHBORS),
        ("linear", None, None),
        *((f"linear, {count} a class", None, count) for count in LABELS_A_CLASS),
        *((f"kNN, k = 1, {count} a class", 1, count) for count in LABELS_A_CLASS),
    ]
    with bar("probing", len(protocols), "protocols") as progress:
        for name, k, count in protocols:
            scores = []
            for draw in range(DRAWS if count else 1):
                few = few_per_class(labels, count, draw) if count else np.arange(len(labels))
                if k:
                    predicted = knn_predict(train[few], labels[few], test, k, len(parts.classes))
                else:
                    predicted = linear_probe(train[few], labels[few]).predict(test)
                scores.append(100 * float((predicted == truth).mean()))
            figures[name] = float(np.mean(scores))
            progress.advance()
    table = Table("protocol", "top-1 %", title=f"{config.backbone.name} on {config.data.root}")
    table.columns[1].justify = "right"
    for name, figure in figures.items():
        table.add_row(name, f"{figure:.2f}")
    console.print(table)
    write_json(config.work_dir / "probe.json", figures)
    log_info(f"figures: {config.work_dir / 'probe.json'}")
    return figures


def _features(
    config: SceneClassification, task: SceneTask, sources: SourceFactory, chips: SceneChips
) -> np.ndarray:
    """Return float32 `[chips, C]`, encoded anew: half precision would favour some backbones."""
    features = np.empty((len(chips), task.backbone.embed_dim), np.float32)
    task.eval()
    samples = chip_views(config, chips, views=0)
    for indices, tokens in sources.encode(samples, task.encode):
        features[indices] = tokens[:, 0].float().cpu().numpy()
    return features
