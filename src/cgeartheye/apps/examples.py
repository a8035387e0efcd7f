"""Example applications of real imagery: small data sets, the backbone that ships, a light head."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgeartheye.apps.card import Card
from cgeartheye.apps.publish import publish
from cgeartheye.commands import tasks
from cgeartheye.config import make, refuse_other_kinds
from cgeartheye.utils.console import log_info, warn
from cgeartheye.utils.errors import UserError

_WORTH = (
    "An example: learned in minutes by a light head on the frozen backbone tiny, from few images "
    "of one kind. What it is worth is what its test found; try it before it is used elsewhere."
)
_CROPS = {"image_size": 224, "batch_size": 8, "workers": 0}
_STEPS = {"steps": 600, "warmup_steps": 30, "lr": 1e-3, "decoder_lr_mult": 1.0}


@dataclass(frozen=True)
class Example:
    """An application that is learned from a data set.

    Attributes:
        folder: name of the data set's folder.
        title: for people.
        finds: a sentence for its card.
        license: SPDX identifier of what may be done with the data.
        fields: of the config, without folders.
    """

    folder: str
    title: str
    finds: str
    license: str
    fields: Mapping[str, Any]


def _masks(classes: tuple[str, str], gsd: float | None) -> dict[str, Any]:
    return {
        "task": "semantic_segmentation",
        "backbone": {"name": "tiny"},
        "data": {**_CROPS, "classes": classes, "test": "test", "gsd": gsd},
        "decoder": {"kind": "light", "dice": 1.0},
        "cache": {"views": 8},
        "training": {**_STEPS, "evaluate_every": 20},
    }


EXAMPLES = (
    Example(
        "UCMerced",
        "Land use of chips",
        "The land use of a chip of 256 px at 0.3 m.",
        "other",
        {
            "task": "scene_classification",
            "backbone": {"name": "tiny"},
            "data": {**_CROPS, "batch_size": 64, "train_fraction": 0.8, "gsd": 0.3},
            "decoder": {"kind": "light"},
            "cache": {"views": 4},
            # All that is not learned from is tested, so nothing is chosen on it.
            "training": {**_STEPS, "lr": 1e-2, "evaluate_every": 1_000_000},
        },
    ),
    Example(
        "EPFL-roads",
        "Roads",
        "Roads in images of towns in the style of web maps.",
        "other",
        _masks(("other", "road"), None),
    ),
    Example(
        "GSI-solar",
        "Solar panels, 0.2 m",
        "Solar panels in aerial photographs at 0.2 m.",
        "other",
        _masks(("other", "panel"), 0.2),
    ),
    Example(
        "LEVIR-CD-20",
        "New buildings, 0.5 m",
        "Buildings of the second date that the first does not have, at 0.5 m.",
        "other",
        {
            "task": "change_detection",
            "backbone": {"name": "tiny"},
            "data": {**_CROPS, "test": "test", "gsd": 0.5},
            "decoder": {"kind": "light", "dice": 1.0, "side_weights": None},
            "cache": {"views": 8},
            "training": {**_STEPS, "evaluate_every": 20},
        },
    ),
    Example(
        "NWPU-VHR10",
        "Ten kinds of objects",
        "Aeroplanes, ships, tanks, sports grounds, harbors, bridges and vehicles.",
        "other",
        {
            "task": "object_detection",
            "backbone": {"name": "tiny", "gsd": 0.6},
            "data": {
                "boxes": "oriented",
                "annotations": "Annotations/Oriented Bounding Boxes",
                "classes": (
                    *("airplane", "ship", "storage_tank", "baseball_diamond", "tennis_court"),
                    *("basketball_court", "ground_track_field", "harbor", "bridge", "vehicle"),
                ),
                "train": "train",
                "val": "val",
                "test": "test",
                "image_size": 560,
                "scale": (0.7, 1.4),
                "batch_size": 2,
                "workers": 0,
            },
            "decoder": {"kind": "light"},
            "cache": {"views": 4, "batch_size": 8},
            "training": {
                "epochs": 20,
                "lr": 5e-4,
                "decoder_lr_mult": 1.0,
                "weight_decay": 1e-2,
                "clip_norm": 5.0,
                "warmup_epochs": 1,
                "evaluate_every": 10,
            },
        },
    ),
)


def publish_examples(
    data: Path, runs: Path, registry: Path | None = None, replace: bool = False
) -> list[Card]:
    """Train and publish an application of each data set that is there.

    A training that was interrupted is gone on with, and one that was finished is not repeated. A
    data set that is not there, or that cannot be learned from, is noted and left out.

    Args:
        data: folder that has the data sets' folders.
        runs: folder for a run of each.
        registry: the folder of applications; none: the user's own.
        replace: applications of the same ids.

    Raises:
        UserError: `data` is no folder, an id is taken, or the registry cannot be written.
    """
    if not data.is_dir():
        raise UserError(f"--data {data} is no folder: name one that has {EXAMPLES[0].folder}, ...")
    cards = []
    for example in EXAMPLES:
        root, run = data / example.folder, runs / example.folder
        if not root.is_dir():
            log_info(f"{example.folder} is not in {data}: no application of it")
            continue
        try:
            if not (run / "report.html").exists():  # what a training writes last
                places = {"data.root": root.resolve(), "work_dir": run}
                config = refuse_other_kinds(make(example.fields, places), example.folder)
                tasks.train(config, resume=True)
        except UserError as error:
            warn(f"no application of {example.folder}: {error}")
            continue
        text = f"{example.finds} {_WORTH}"
        card = publish(
            run, example.title, text, example.license, registry=registry, replace=replace
        )
        log_info(f"published {card.id} (version {card.version})")
        cards.append(card)
    return cards
