"""`jlssd build`: design, cut, quality, curate and pack, each step once, and the data card.

    WORK_DIR/design.parquet     places, with design.strata.parquet and design.html beside it
    WORK_DIR/chips.parquet      a row for each place and season, whether it could be cut or not
    WORK_DIR/quality.parquet    the same rows with measures; quality.jpg shows what each rule drops
    WORK_DIR/curated.parquet    the same rows with clusters; curated.html shows them
    WORK_DIR/packed.parquet     the rows that stay, as the store has them
    WORK_DIR/store              what `cgeartheye pretrain` reads
    WORK_DIR/card.html, .json   the data card

Killed at any moment, the same command goes on. A finished step is not done again as long as its
settings and the tables that it was made from are the same; of rasters size and time count. Chips
that were deleted are cut again.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cgeartheye.config import Jlssd, to_yaml
from cgeartheye.geo.vrt import file_signature
from cgeartheye.jlssd import data_card
from cgeartheye.jlssd.chips.cut import cut_chips, has_all_chips
from cgeartheye.jlssd.chips.worker import UNREADABLE
from cgeartheye.jlssd.curation import curate
from cgeartheye.jlssd.quality import filter as quality_filter
from cgeartheye.jlssd.resumable import (
    OK,
    Ledger,
    digest_of,
    key_of,
    read_chips,
    read_part,
    write_table,
)
from cgeartheye.jlssd.sampling.design import STRATA, Inputs, make_design
from cgeartheye.jlssd.sampling.rasters import identity_of
from cgeartheye.jlssd.sampling.result import SamplingPlan
from cgeartheye.models.backbone import weights_file
from cgeartheye.pretraining.store import pack
from cgeartheye.pretraining.store.items import RESERVED, Settings
from cgeartheye.pretraining.store.reader import INDEX
from cgeartheye.pretraining.store.summary import show_packed
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import lock, write_text

DESIGN, CHIPS, QUALITY = "design.parquet", "chips.parquet", "quality.parquet"
CURATED, PACKED, STORE = "curated.parquet", "packed.parquet", "store"
LEFT_OUT = {"status", "reason"}  # columns without meaning for the chips that stay


@dataclass(frozen=True)
class Step:
    """A part of a build.

    Attributes:
        name: of the step.
        facts: returns the settings and inputs that it depends on; JSON values.
        work: does it; returns whether there is nothing in it that is worth another try.
        files: that it leaves, below the work directory.
        is_whole: whether what it leaves beside them is there still.
    """

    name: str
    facts: Callable[[], Mapping[str, object]]
    work: Callable[[], bool]
    files: list[str]
    is_whole: Callable[[], bool] = lambda: True


def build(config: Jlssd) -> None:
    """Make a store for pre-training from maps and mosaics.

    Raises:
        UserError: another build of the same work directory is running, or what the steps raise.
    """
    folder = config.work_dir
    assert folder is not None
    try:
        held = lock(folder / ".lock")
    except BlockingIOError as error:
        raise UserError(f"another build is running in {folder}: wait for it to finish") from error
    with held:
        write_text(folder / "config.yaml", to_yaml(config))
        ledger = Ledger(folder)
        for step in _steps(config, folder):
            key = key_of(step.facts())
            if ledger.is_done(step.name, key) and step.is_whole():
                log_info(f"{step.name}: done before")
                continue
            log_info(f"{step.name}:")
            if step.work():
                ledger.finish(step.name, key, step.files)
        data_card.write(config, folder)
    log_info(f"{folder / STORE}, its data card is {folder / 'card.html'}")


def _steps(config: Jlssd, folder: Path) -> list[Step]:
    seed = config.seed

    def settings(section: str, **more: object) -> dict[str, object]:
        return {"settings": config.model_dump(mode="json")[section], "seed": seed, **more}

    def table(name: str) -> str:
        return digest_of(folder / name)

    def rasters(paths: tuple[str, ...]) -> object:
        return identity_of(paths)

    design, cut, weights = config.design, config.cut, weights_file(config.curation.backbone)
    return [
        Step(
            "design",
            lambda: settings(
                "design",
                regions=file_signature([_present(design.regions)]),
                rasters=[rasters(design.landcover), rasters(design.elevation)],
                classes=design.classes and digest_of(_present(design.classes)),
            ),
            lambda: _design(config, folder),
            [DESIGN, str(Path(DESIGN).with_suffix(STRATA))],
        ),
        Step(
            "cut",
            lambda: settings(
                "cut",
                design=table(DESIGN),
                mosaics={season: rasters(paths) for season, paths in cut.mosaics.items()},
            ),
            lambda: _cut(config, folder),
            [CHIPS],
            lambda: has_all_chips(read_part(folder / CHIPS, ["path"]), folder),
        ),
        Step(
            "quality",
            lambda: settings("quality", chips=table(CHIPS)),
            lambda: _quality(config, folder),
            [QUALITY],
        ),
        Step(
            "curate",
            lambda: settings(
                "curation",
                chips=table(QUALITY),
                weights=weights and digest_of(_present(weights)),
            ),
            lambda: _curate(config, folder),
            [CURATED, "curated.json"],
        ),
        Step(
            "pack",
            lambda: {"chips": table(CURATED), "gsd": cut.gsd},
            lambda: _pack(config, folder),
            [PACKED, f"{STORE}/{INDEX}"],
        ),
    ]


def _present(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"no file {path}: correct the path in the config")
    return path


def _design(config: Jlssd, folder: Path) -> bool:
    design = config.design
    inputs = Inputs(
        design.regions, design.landcover, design.elevation, design.region_column, design.classes
    )
    plan = SamplingPlan(design.num_places, design.elevation_step, config.seed)
    make_design(inputs, plan, folder / DESIGN, design.cell_size, config.workers)
    return True


def _cut(config: Jlssd, folder: Path) -> bool:
    table = cut_chips(folder / DESIGN, config.cut, folder / CHIPS, config.workers)
    return UNREADABLE not in quality_filter.status_counts(table)


def _quality(config: Jlssd, folder: Path) -> bool:
    quality_filter.filter_chips(folder / CHIPS, folder / QUALITY, config.quality, config.workers)
    return True


def _curate(config: Jlssd, folder: Path) -> bool:
    done = curate.curate(
        folder / QUALITY, folder / CURATED, config.curation, config.seed, config.workers
    )
    assert done is not None
    return True


def _pack(config: Jlssd, folder: Path) -> bool:
    """Pack what stays; an existing store of other chips is made anew."""
    chosen = _chosen(folder / CURATED, config.cut.gsd)
    path, store = folder / PACKED, folder / STORE
    if not (path.is_file() and read_part(path).equals(chosen)):
        if store.exists():
            log_info(f"{store} holds other chips: it is made anew")
            shutil.rmtree(store)
        write_table(path, chosen)
    show_packed(store, pack.pack(path, store, Settings(), workers=config.workers))
    return True


def _chosen(path: Path, gsd: float) -> pa.Table:
    """Return the chips of a table that stay, with all that is known of them and their GSD."""
    table = read_chips(path)
    kept = table.filter(pc.equal(table["status"], OK))
    for name in kept.column_names:
        if name in LEFT_OUT | RESERVED or kept[name].null_count == len(kept):
            kept = kept.drop_columns([name])
    if "gsd" not in kept.column_names:
        kept = kept.append_column("gsd", pa.array([gsd] * len(kept), pa.float64()))
    return kept
