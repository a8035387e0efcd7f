"""Thins what is redundant: deserts and open water are many, and what is rare is kept.

Curation is by place: its seasons stay together. A place is where its chips' features point on
average, each without the mean of all chips, which every image of the Earth has in common, and of
unit length, so that one season is worth as much as another.

Steps (Vo et al. 2024, Automatic Data Curation for Self-Supervised Learning): class tokens of a
frozen backbone, k-means of two or three levels, near-duplicates out, then a sample in which every
coarse cluster has as many places as every other, and within it every fine one.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from cgeartheye.config import Backbone, Curation
from cgeartheye.jlssd.curation import report
from cgeartheye.jlssd.curation.balanced_sampling import balanced_sample
from cgeartheye.jlssd.curation.deduplicate import find_duplicates
from cgeartheye.jlssd.curation.embeddings import Features, Spread, encode_chips
from cgeartheye.jlssd.curation.hierarchical_kmeans import Hierarchy, cluster
from cgeartheye.jlssd.curation.report import Curated
from cgeartheye.jlssd.resumable import OK, claim, read_chips, rebase_paths, set_column, write_table
from cgeartheye.models.backbone import BackboneBundle, build
from cgeartheye.training import distributed
from cgeartheye.utils.console import bar, log_info, warn

DUPLICATE, REDUNDANT = "duplicate", "redundant"

Array = np.ndarray


@dataclass(frozen=True)
class Pool:
    """Chips to choose from, and the backbone that looks at them.

    Attributes:
        table: of chips, as it was read.
        rows: `[N]` of the table, of chips that are ok, by place and season.
        names: of the places.
        place: `[N]` of each chip, 0..P-1, ascending.
        paths: of the chips.
        built: the backbone.
    """

    table: pa.Table
    rows: Array
    names: list[str]
    place: Array
    paths: list[Path]
    built: BackboneBundle


def open_pool(chips: Path, config: Curation, seed: int) -> Pool:
    """Read a table of chips and build the backbone.

    Args:
        chips: the table.
        config: see `curate`.
        seed: of random weights.

    Raises:
        UserError: see `curate`.
    """
    table = read_chips(chips)
    rows, names, place = _by_place(table)
    paths = [chips.parent / path for path in table["path"].take(pa.array(rows)).to_pylist()]
    return Pool(table, rows, names, place, paths, _frozen(config, seed))


def curate(
    chips: Path,
    out: Path,
    config: Curation,
    seed: int = 0,
    workers: int = 2,
    spread: Spread | None = None,
) -> Curated | None:
    """Choose `config.num_places` places of a table of chips, or all that are no duplicates.

    Features are kept in `<stem>.features` beside the table and used again, by a killed command and
    by one that keeps another number.

    Args:
        chips: the table of `quality` or `cut`; chips whose status is not ok stay as they are.
        out: the Parquet table: its columns, with `cluster_1` (the finest) and on, and a new status
            and reason for what is dropped here.
        config: see there.
        seed: of clusters and draw.
        workers: processes that read.
        spread: encodes on other machines; see `encode_chips`.

    Returns:
        None in all processes but the first.

    Raises:
        UserError: no such table, a chip that cannot be read, or a backbone that cannot be built.
    """
    pool = open_pool(chips, config, seed)
    table, rows, names, place = pool.table, pool.rows, pool.names, pool.place
    with (
        distributed.process_group(config.device) as device,
        claim(out) if distributed.is_main() else nullcontext(),
    ):
        folder = out.with_suffix(".features")
        features = encode_chips(pool.paths, pool.built, config, workers, folder, device, spread)
        if not distributed.is_main():
            return None
        points = place_features(features, place)
        hierarchy = cluster(
            points, config.clusters, config.iterations, config.resamplings, seed, device
        )
        with bar("comparing", len(points), "places") as progress:
            repeats = find_duplicates(
                points, hierarchy.labels[0], config.dedup_threshold, device, progress.advance
            )
        free = repeats < 0
        wanted = min(config.num_places, int(free.sum()))
        if wanted < config.num_places:
            warn(
                f"num_places={config.num_places:,} is more than the {wanted:,} places without "
                "duplicates: all of them are kept"
            )
        kept = balanced_sample(hierarchy.labels[::-1], free, wanted, seed)
        first = rows[np.searchsorted(place, np.arange(len(names)))]
        result = _judged(table, rows, place, names, hierarchy, kept, repeats)
        write_table(out, rebase_paths(result, chips.parent, out.parent))
        curated = Curated(result, names, first, hierarchy, kept, repeats)
        report.write(curated, out, chips.parent)
    report.show(curated)
    return curated


def place_features(features: Features, place: Array) -> Array:
    """Return where the chips of each place point on average, unit vectors float16 `[P, C]`.

    Args:
        features: of chips, those of a place side by side.
        place: of each chip, 0..P-1, ascending.
    """
    mean = sum(piece.sum(0, dtype=np.float64) for _, piece in features.pieces()) / len(features)
    count = int(place[-1]) + 1
    points = np.empty((count, features.width), np.float16)
    last, carried = 0, np.zeros(features.width, np.float32)
    for rows, piece in features.pieces():
        unit = _unit(piece - mean.astype(np.float32))
        here = place[rows]
        starts = np.flatnonzero(np.diff(here, prepend=-1))
        sums = np.add.reduceat(unit, starts, axis=0)
        # The chips of a place may be in two shards.
        if here[0] == last:
            sums[0] += carried
        points[here[starts]] = _unit(sums)
        last, carried = int(here[-1]), sums[-1]
    return points


def _unit(vectors: Array) -> Array:
    """Return vectors of length 1; those of none, as in a pool of copies, point the same way."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    common = np.eye(1, vectors.shape[1], dtype=vectors.dtype)
    return np.where(length > 1e-12, vectors / np.maximum(length, 1e-12), common)


def _by_place(table: pa.Table) -> tuple[Array, list[str], Array]:
    """Return the rows that are ok by place and season, the places, and the place of each row."""
    kept = np.flatnonzero(np.array(table["status"].to_pylist()) == OK)
    part = table.select(["place", "season"]).take(pa.array(kept))
    part = part.append_column("row", pa.array(kept))
    part = part.sort_by([("place", "ascending"), ("season", "ascending"), ("row", "ascending")])
    codes = part["place"].combine_chunks().dictionary_encode()
    return part["row"].to_numpy(), codes.dictionary.to_pylist(), codes.indices.to_numpy()


def _frozen(config: Curation, seed: int) -> BackboneBundle:
    # Random weights come from torch's generator.
    torch.manual_seed(seed)
    network = Backbone(**config.backbone.model_dump(exclude_unset=True))
    built = build(network, config.image_size)
    for note in built.notes:
        log_info(f"backbone: {note}")
    return built


def _judged(
    table: pa.Table,
    rows: Array,
    place: Array,
    names: Sequence[str],
    hierarchy: Hierarchy,
    kept: Array,
    repeats: Array,
) -> pa.Table:
    """Return the table with the clusters of each chip, and why it is dropped if it is."""
    for level, labels in enumerate(hierarchy.labels, start=1):
        values = np.full(len(table), -1, np.int32)
        values[rows] = labels[place]
        table = set_column(table, f"cluster_{level}", pa.array(values, mask=values < 0))
    status = np.array(table["status"].to_pylist(), object)
    reason = np.array([None] * len(table), object)
    if "reason" in table.column_names:
        reason = np.array(table["reason"].to_pylist(), object)
    fine = hierarchy.labels[0]
    before = np.bincount(fine, minlength=len(hierarchy.centroids[0]))
    after = np.bincount(fine[kept], minlength=len(before))
    why = np.array([None] * len(names), object)
    word = np.array([OK] * len(names), object)
    for index in np.flatnonzero(~kept):
        if repeats[index] >= 0:
            word[index], why[index] = DUPLICATE, f"looks like {names[repeats[index]]}"
        else:
            word[index] = REDUNDANT
            why[index] = f"{after[fine[index]]:,} of {before[fine[index]]:,} places like it stay"
    dropped = ~kept[place]
    status[rows[dropped]] = word[place[dropped]]
    reason[rows[dropped]] = why[place[dropped]]
    table = set_column(table, "status", pa.array(status, pa.string()))
    return set_column(table, "reason", pa.array(reason, pa.string()))
