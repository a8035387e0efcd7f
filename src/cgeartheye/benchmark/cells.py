"""From a table's file to its cells: what each of them runs."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from cgeartheye.commands.probe import Probe
from cgeartheye.config import (
    BenchmarkData,
    BenchmarkTable,
    Config,
    Pretraining,
    Protocol,
    load,
    make,
    refuse_other_kinds,
)
from cgeartheye.data.published.registry import how_to_get, spelt
from cgeartheye.models.backbone import weights_file
from cgeartheye.tasks.data_identity import identity
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest, json_text

PROBES = ("knn", "linear", "few")
FIGURES = {
    "scene_classification": "top1",
    "semantic_segmentation": "miou",
    "change_detection": "f1",
    "object_detection": "ap50",
}
NEVER = 1_000_000  # epochs


@dataclass(frozen=True)
class BenchmarkCell:
    """A cell of a table.

    Attributes:
        dataset: name of its data set.
        backbone: name of its backbone.
        protocol: name of its protocol.
        seed: of its draws.
        settings: of the protocol.
        config: of the run that it is; `work_dir` is its folder.
        figure: the key of what is compared.
        key: changes with all settings and weights that its figures depend on.
        data: changes with the images and their labels, masks or boxes; empty where they cannot be
            read, as the cell itself then reports.
    """

    dataset: str
    backbone: str
    protocol: str
    seed: int
    settings: Protocol
    config: Config
    figure: str
    key: str
    data: str

    def __str__(self) -> str:
        return f"{self.dataset}, {self.backbone}, {self.protocol}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """The run directory."""
        assert self.config.work_dir is not None
        return self.config.work_dir

    @property
    def stamp(self) -> dict[str, str]:
        """Fields that its record has from the beginning."""
        return {"key": self.key, "data": self.data}

    @property
    def probe(self) -> Probe | None:
        """The probe of a cell without training; none: it trains."""
        settings = self.settings
        if settings.kind == "knn":
            return Probe("knn", settings.k)
        if settings.kind == "linear":
            return Probe("linear")
        if settings.kind == "few":
            return Probe("linear", labels=settings.labels, draws=settings.draws)
        return None


@dataclass(frozen=True)
class Plan:
    """The cells of a table's file, and what is not here.

    Attributes:
        table: the file.
        cells: those that can run, data set by data set and backbone by backbone.
        missing: a sentence for each data set that is not here.
        weights: SHA-256 of each backbone's weights file, or what its random weights come from.
        digest: SHA-256 of the table with its overrides.
    """

    table: BenchmarkTable
    cells: list[BenchmarkCell]
    missing: dict[str, str]
    weights: dict[str, str]
    digest: str


def plan(table: BenchmarkTable, out: Path) -> Plan:
    """Return the cells of a table.

    Args:
        table: the file.
        out: folder of the benchmark.

    Raises:
        UserError: a config that does not validate, or weights that are not there.
    """
    weights = {name: _weights(table, name) for name in table.backbones}
    digests: dict[tuple[str, str], str] = {}  # of data, which many cells share

    def data_digest(config: Config) -> str:
        fields = config.task, config.data.model_dump_json()
        if fields not in digests:
            digests[fields] = _data_digest(config)
        return digests[fields]

    cells: list[BenchmarkCell] = []
    missing = {}
    for dataset, entry in table.datasets.items():
        base = _base(table, dataset, entry)
        if not base.data.root.is_dir():
            missing[dataset] = where_to_get(dataset, base.data.root)
            continue
        for backbone in table.backbones:
            for protocol, settings in table.protocols.items():
                listed = entry.protocols is None or protocol in entry.protocols
                if not listed or not applies(settings, base):
                    continue
                # Nearest neighbours are the same for every seed.
                for seed in table.seeds[:1] if settings.kind == "knn" else table.seeds:
                    config = _config(table, base, backbone, settings, seed)
                    key = _key(config, settings, weights[backbone])
                    content = data_digest(config)
                    place = out / "cells" / dataset / backbone / f"{protocol}-{seed}"
                    own = {"work_dir": place, "cache.folder": out / "features"}
                    config = refuse_other_kinds(make(config, own), "the table")
                    figure = _figure(dataset, entry, config.task)
                    cells.append(
                        BenchmarkCell(
                            *(dataset, backbone, protocol, seed, settings, config, figure),
                            key,
                            content,
                        )
                    )
    return Plan(table, cells, missing, weights, _sha(table.model_dump(mode="json")))


def applies(settings: Protocol, config: Config) -> bool:
    """Whether a protocol can measure a task; probes take scenes alone."""
    return settings.kind not in PROBES or config.task == "scene_classification"


def where_to_get(dataset: str, root: Path) -> str:
    """Return a sentence on a data set that is not here.

    Args:
        dataset: its name in the table.
        root: where it was looked for.
    """
    known = spelt(root)
    if known is not None:
        return how_to_get(known.name, root)
    return f"{dataset} is not here: there is no folder {root}; correct its root, or data_root"


def _base(table: BenchmarkTable, name: str, entry: BenchmarkData) -> Config:
    """Return a data set's config, as one with the table's first backbone."""
    backbone = next(iter(table.backbones.values()))
    given: Config | Pretraining | Mapping[str, Any]
    if entry.config:
        given = refuse_other_kinds(load(entry.config, {"backbone": backbone}), str(entry.config))
    else:
        given = {"task": entry.task, "backbone": backbone, "data": entry.data}
    # What is said of one data set wins over what is said of all.
    config = _made(_made(given, name, table.set), name, entry.set)
    root = (table.data_root or Path()) / config.data.root
    return _made(config, name, {"data.root": root})


def _figure(name: str, entry: BenchmarkData, task: str) -> str:
    """Return the key of what is compared on a data set: the publication's, where it stands beside.

    Raises:
        UserError: the publication has no such data set, or another figure of it.
    """
    if entry.published is None:
        return entry.figure or FIGURES[task]
    if entry.published not in published():
        raise UserError(f"{name}: published={entry.published} is none of {', '.join(published())}")
    figure = str(published()[entry.published]["figure"])
    if entry.figure not in (None, figure):
        raise UserError(
            f"{name}: {figure} of {entry.published} is published, not {entry.figure}: leave out "
            "either published or figure"
        )
    return figure


@cache
def published() -> dict[str, dict[str, Any]]:
    """Return the figures that CGEarthEye publishes, by data set."""
    text = files("cgeartheye.benchmark").joinpath("published.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


def _config(
    table: BenchmarkTable, base: Config, backbone: str, settings: Protocol, seed: int
) -> Config:
    """Return the config of a cell, without the folders of the benchmark."""
    network = table.backbones[backbone]
    overrides: dict[str, Any] = {
        # Random weights are those of one draw: seeds share them, and their features.
        "backbone": network.model_copy(update={"seed": network.seed or 0}),
        "backbone.tuning": "lora" if settings.kind == "lora" else "frozen",
        "training.seed": seed,
    }
    if settings.kind == "light":
        overrides["decoder.kind"] = "light"
        if base.task == "semantic_segmentation":
            overrides["decoder.pixels"] = False  # what the backbones tell is compared
    elif settings.kind in PROBES:  # they learn as much as a linear decoder
        overrides["decoder.kind"] = "linear"
    if settings.kind == "light" and base.task == "change_detection":
        overrides["decoder.side_weights"] = None  # of BAN alone
    if base.data.test in (None, base.data.val):
        # What is tested must choose nothing: neither the epoch nor the end of a training.
        overrides |= {"training.evaluate_every": NEVER, "training.patience": None}
    what = f"{backbone} by {settings.kind}"
    return _made(_made(base, what, settings.set), what, overrides)


def _made(given: Any, what: str, overrides: Mapping[str, Any]) -> Config:
    try:
        return refuse_other_kinds(make(given, overrides), "the table")
    except UserError as error:
        raise UserError(f"{what}: {error}") from error


def _weights(table: BenchmarkTable, name: str) -> str:
    config = table.backbones[name]
    path = weights_file(config)
    if path is None:
        return f"random, seed {config.seed or 0}"
    if not path.is_file():
        raise UserError(f"{name}: no weights file {path}")
    return digest([path])


def _key(config: Config, settings: Protocol, weights: str) -> str:
    facts = config.model_dump(mode="json", exclude={"work_dir": True, "cache": {"folder"}})
    return _sha([facts, settings.model_dump(mode="json"), weights])


def _data_digest(config: Config) -> str:
    try:
        parts = pipeline_for(config).parts
        # Where there is no test part it is the validation part once more.
        each = {id(part): part for part in (parts.train, parts.val, parts.test)}
        return _sha([identity(part) for part in each.values()])
    except UserError:
        return ""


def _sha(value: Any) -> str:
    return hashlib.sha256(json_text(value).encode()).hexdigest()
