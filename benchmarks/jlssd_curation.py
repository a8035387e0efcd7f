"""Does curation help? Tiny pre-trained on a random and on a curated part of a pool, equal in size.

Nine tenths of the pool are open water, bare ground and fields: random windows, turned and flipped,
of the images in --common, and chips of synthetic worlds. One tenth are the images in --varied.

Which backbone curates is a matter of bootstrapping: the one that has just been pre-trained on the
random part, so that curation knows nothing that the random part does not. Then tiny is pre-trained
anew, from the same random weights and for as many steps, on what curation keeps. Both are measured
by kNN and by a linear probe on labelled scenes that neither has seen; several --seeds, each with a
pool, a random part and a curation of its own, separate the difference from luck.

    python benchmarks/jlssd_curation.py --varied DATA/AID-150 --list train_80per.txt \\
        --common DATA/AID-150/Desert DATA/AID-150/BareLand DATA/AID-150/Farmland \\
        --test DATA/UCMerced --pool 6000 --num-places 900 --steps 1500 --out runs/curation
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from cgeartheye.config import (
    Backbone,
    Curation,
    Heads,
    Network,
    Objective,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Views,
)
from cgeartheye.data import images_below
from cgeartheye.jlssd.curation.curate import curate
from cgeartheye.jlssd.curation.embeddings import encode_chips
from cgeartheye.jlssd.resumable import OK, read_chips, write_table
from cgeartheye.metrics.probes import few_per_class, knn_predict, linear_probe
from cgeartheye.models.backbone import build
from cgeartheye.pretraining.store.items import Settings
from cgeartheye.pretraining.store.pack import pack
from cgeartheye.pretraining.trainer import pretrain
from cgeartheye.synthetic import SCENES, SEASONS, make_world
from cgeartheye.utils.console import bar

SIDE = 128  # pixels of the chips of the pool
COMMON = 0.9  # share of the pool
PLAIN_SCENES = ("lake", "river", "bare land", "farmland", "meadow")
GSD = 0.75


def main() -> None:
    """Print a table, and write it beside the runs."""
    given = _arguments()
    rows = []
    for seed in range(given.seeds):
        folder = given.out / f"seed-{seed}"
        pool = make_pool(given, folder / "pool", seed)
        random = draw_random(pool, folder / "random.parquet", given.num_places, seed)
        first = train(given, random, folder / "random", seed)
        network = Network(name="tiny", gsd=GSD, weights=first)
        settings = Curation(
            backbone=network,
            num_places=given.num_places,
            image_size=98,
            clusters=tuple(given.clusters),
        )
        curate(pool, folder / "curated.parquet", settings, seed, workers=1)
        second = train(given, folder / "curated.parquet", folder / "curated", seed)
        untrained = measure(None, given.test, folder, seed)
        rows += [{"seed": seed, "pre-trained on": "nothing", "varied %": float("nan"), **untrained}]
        for name, weights in (("random", first), ("curated", second)):
            figures = measure(weights, given.test, folder, seed)
            share = varied_share(folder / f"{name}.parquet")
            rows.append({"seed": seed, "pre-trained on": name, "varied %": share, **figures})
    (given.out / "figures.json").write_text(json.dumps(rows, indent=1))
    show(given, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--varied", type=Path, required=True, help="class folders of images")
    parser.add_argument("--list", help="file in it that names the images that may be used")
    parser.add_argument(
        "--common", type=Path, nargs="*", default=[], help="folders of plain images"
    )
    parser.add_argument("--test", type=Path, required=True, help="class folders, not in the pool")
    parser.add_argument("--worlds", type=int, default=2, help="synthetic ones that add plain chips")
    parser.add_argument("--pool", type=int, default=6000, help="chips")
    parser.add_argument("--num-places", type=int, default=900, help="chips of both parts")
    parser.add_argument("--clusters", type=int, nargs="+", default=[300, 30])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/curation"))
    return parser.parse_args()


def make_pool(given: argparse.Namespace, folder: Path, seed: int) -> Path:
    """Write the chips of a pool and their table; return that."""
    path = folder / "chips.parquet"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    allowed = [path.resolve() for path in images_below(given.varied)]
    if given.list:
        lines = (given.varied / given.list).read_text().splitlines()
        allowed = [(given.varied / line.split()[0]).resolve() for line in lines]
    plain = {path.resolve() for root in given.common for path in images_below(root)}
    varied = sorted(set(allowed) - plain)
    # What the list leaves out of its folder is for tests.
    inside = {path.resolve() for path in images_below(given.varied)} - set(allowed)
    plain_files = sorted(plain - inside)
    count = round((1 - COMMON) * given.pool)
    if len(varied) < count:
        raise SystemExit(f"{given.varied} has {len(varied)} images, {count} are needed")
    rows = []
    with bar("pool", given.pool, "chips") as progress:

        def add(kind: str, pixels: np.ndarray) -> None:
            name = f"{len(rows):06d}.jpg"
            Image.fromarray(pixels).save(folder / name, quality=92)
            facts = {"land_cover": kind, "status": OK, "reason": None}
            rows.append({"path": name, "place": name, "season": "one", **facts})
            progress.advance()

        for index in random.permutation(len(varied))[:count]:
            add("varied", window(varied[index], random))
        synthetic = plain_windows(given.worlds, seed)
        for number in range(given.pool - count):
            if plain_files and (number % 2 or not synthetic):
                add("plain, real", window(plain_files[random.integers(len(plain_files))], random))
            else:
                add("plain, synthetic", turned(synthetic[number % len(synthetic)], random))
    write_table(path, pa.Table.from_pylist(rows))
    return path


def plain_windows(worlds: int, seed: int) -> list[np.ndarray]:
    """Return chips of water, bare ground and fields of synthetic worlds, in all seasons."""
    found = []
    for number in range(worlds):
        world = make_world(2048, 1000 * seed + number)
        chips = [c for c in world.chips(SIDE) if SCENES[c[2]] in PLAIN_SCENES]
        for season in SEASONS:
            image = world.image(season)
            found += [image[row : row + SIDE, column : column + SIDE] for row, column, _ in chips]
    return found


def window(path: Path, random: np.random.Generator) -> np.ndarray:
    """Return a random window of an image, turned and flipped; of a larger one, made smaller."""
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    if short > 1.5 * SIDE or short < SIDE:
        scale = 1.2 * SIDE / short
        image = image.resize((round(image.width * scale), round(image.height * scale)))
    left, top = (int(random.integers(length - SIDE + 1)) for length in image.size)
    return turned(np.asarray(image.crop((left, top, left + SIDE, top + SIDE))), random)


def turned(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return pixels turned by a multiple of 90 degrees, and half of the time flipped."""
    pixels = np.rot90(pixels, int(random.integers(4)))
    return np.ascontiguousarray(pixels[:, ::-1] if random.random() < 0.5 else pixels)


def draw_random(pool: Path, out: Path, keep: int, seed: int) -> Path:
    """Write the table of a pool with `keep` chips that are ok."""
    table = pq.read_table(pool)
    chosen = np.random.default_rng(seed + 1).permutation(len(table))[:keep]
    status = np.full(len(table), "not drawn", object)
    status[chosen] = OK
    index = table.column_names.index("status")
    paths = pa.array([f"{pool.parent.name}/{path}" for path in table["path"].to_pylist()])
    table = table.set_column(index, "status", pa.array(status, pa.string()))
    write_table(out, table.set_column(0, "path", paths))
    return out


def kept_chips(table: Path) -> pa.Table:
    """Return the chips of a table that are ok, as they are packed."""
    chips = read_chips(table)
    chips = chips.filter(pc.equal(chips["status"], OK))
    chips = chips.select(["path", "place", "season", "land_cover"])
    return chips.append_column("gsd", pa.array([GSD] * len(chips), pa.float64()))


def varied_share(table: Path) -> float:
    """Return percent of the chips that are ok that are varied ones."""
    kinds = Counter(kept_chips(table)["land_cover"].to_pylist())
    return 100 * kinds["varied"] / kinds.total()


def train(given: argparse.Namespace, table: Path, folder: Path, seed: int) -> Path:
    """Pre-train tiny on the chips of a table that are ok; return its weights."""
    weights = folder / "model.safetensors"
    if (folder / "report.html").exists():
        return weights
    packed, store = folder / "packed.parquet", folder / "store"
    chips = kept_chips(table)
    paths = [str((table.parent / path).resolve()) for path in chips["path"].to_pylist()]
    folder.mkdir(parents=True, exist_ok=True)
    write_table(packed, chips.set_column(0, "path", pa.array(paths)))
    pack(packed, store, Settings(), workers=0)
    schedule = PretrainingSchedule(
        steps=given.steps,
        lr=1e-3,
        base_batch_size=512,
        layer_decay=1.0,
        patch_embed_lr_mult=1.0,
        checkpoint_every=max(1, given.steps // 2),
        seed=seed,
    )
    config = Pretraining(
        backbone=Network(name="tiny", gsd=GSD, layer_scale=1.0),
        data=PretrainingData(store=store, batch_size=given.batch, workers=1, preload="memory"),
        views=Views(global_size=70, local_size=28, local_crops=4, seasons="off"),
        heads=Heads(prototypes=2048, hidden=512),
        objective=Objective(koleo_weight=0.1, momentum=0.99, momentum_end=1.0),
        training=schedule,
        work_dir=folder,
    )
    pretrain(config, resume=(folder / "checkpoints").exists())
    return weights


def measure(weights: Path | None, test: Path, folder: Path, seed: int) -> dict[str, float]:
    """Return top-1 percent of frozen features on labelled scenes, 80 % of which are known."""
    torch.manual_seed(seed)
    built = build(Backbone(name="tiny", gsd=GSD, weights=weights or "random", layer_scale=1.0), 98)
    paths = images_below(test)
    names = sorted({path.parent.name for path in paths})
    labels = np.array([names.index(path.parent.name) for path in paths])
    settings = Curation(backbone=Network(name="tiny"), num_places=1, image_size=98)
    encoded = encode_chips(paths, built, settings, 1, folder / "test.features", torch.device("cpu"))
    features = np.concatenate([piece for _, piece in encoded.pieces()])
    scores: dict[str, list[float]] = {"kNN, k = 5": [], "kNN, k = 20": [], "linear": []}
    for split in range(3):
        known = np.zeros(len(labels), bool)
        # An equal number of each class; the smallest decides.
        known[few_per_class(labels, int(0.8 * np.bincount(labels).min()), split)] = True
        truth = labels[~known]
        train_features, train_labels = features[known], labels[known]
        for k in (5, 20):
            found = knn_predict(train_features, train_labels, features[~known], k, len(names))
            scores[f"kNN, k = {k}"].append(100 * float((found == truth).mean()))
        found = linear_probe(train_features, train_labels).predict(features[~known])
        scores["linear"].append(100 * float((found == truth).mean()))
    return {name: float(np.mean(values)) for name, values in scores.items()}


def show(given: argparse.Namespace, rows: list[dict[str, object]]) -> None:
    """Print means over the seeds, and their range."""
    title = (
        f"tiny on {given.num_places:,} of {given.pool:,} chips, {given.steps:,} steps of "
        f"{given.batch}, {given.seeds} seeds; top-1 % on {given.test.name}"
    )
    figures = [name for name in rows[0] if name not in ("seed", "pre-trained on")]
    table = Table("pre-trained on", *figures, title=title)
    for name in ("nothing", "random", "curated"):
        of_name = [row for row in rows if row["pre-trained on"] == name]
        cells = []
        for figure in figures:
            values = np.array([row[figure] for row in of_name], float)
            spread = f" ({values.min():.1f} to {values.max():.1f})" if len(values) > 1 else ""
            cells.append("" if np.isnan(values).any() else f"{values.mean():.1f}{spread}")
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
