"""The pictures of a pre-training: curves, views, features before and after, neighbours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cgeartheye.config import Normalization, Pretraining, to_yaml
from cgeartheye.data.transforms.image import Normalize, eval_transform
from cgeartheye.models.backbone import VisionTransformer
from cgeartheye.models.backbone.block import PATCH
from cgeartheye.pretraining.loader import ViewBatch
from cgeartheye.pretraining.model import evaluating
from cgeartheye.pretraining.views.crops import Images
from cgeartheye.reports import charts
from cgeartheye.reports.html import Picture, Report
from cgeartheye.reports.sections import Record, select_records
from cgeartheye.training.run_dir import environment, read_history
from cgeartheye.utils.console import bar

Array = np.ndarray

SAMPLES = 4  # rows of views
FEATURE_PICTURES = 6
FEATURE_SIDE = 20 * PATCH  # pixels
BANK = 2000  # images among which neighbours are sought
QUERIES, NEIGHBORS = 6, 6
LOSSES = {
    "dino": "DINO",
    "masked": "masked patches",
    "koleo": "KoLeo",
    "distill_class": "distillation of images",
    "distill_patch": "distillation of patches",
}
TILE = 128  # pixels a side in a row of pictures
GAP = 4


def write_report(
    folder: Path,
    config: Pretraining,
    store: Images,
    views: ViewBatch,
    normalization: Normalization,
    before: VisionTransformer,
    after: VisionTransformer,
) -> Path:
    """Write `report.html`.

    Args:
        folder: of the run.
        config: of the run.
        store: the images.
        views: a batch as the network saw it.
        normalization: of the views.
        before: the backbone as it began, on the device.
        after: the teacher's, as it is.

    Returns:
        Path of the report.
    """
    device = views.globals.device
    history = read_history(folder)
    train = select_records(history, "train", "lr", "rank")
    watched = select_records(history, "val", "knn")
    title = f"Pre-training · {config.backbone.name} · {len(store):,} images"
    report = Report(folder.name, title)
    report.figures(_figures(train, watched, config))
    report.section("Training")
    report.charts(_curves(train, watched))

    report.section(
        "Views",
        "What the network sees of an image: two global crops, then the local crops, the patches "
        "that are hidden from the student in grey; other seasons are framed in orange.",
    )
    masked = config.objective.ibot_weight > 0
    report.pictures(map(Picture, _view_rows(views, normalization, masked)), width=900)

    normalize = Normalize(normalization.mean, normalization.std).to(device)
    shown = np.linspace(0, len(store) - 1, min(FEATURE_PICTURES, len(store))).astype(int)
    transform = eval_transform(FEATURE_SIDE, FEATURE_SIDE)
    pictures = torch.stack([transform(store.decode(int(index))) for index in shown])
    report.section(
        "Patch features",
        "An image, then the first three principal components of its patch features as red, green "
        "and blue: before the pre-training and after it.",
    )
    maps = []
    for network in (before, after):
        with evaluating(network):
            _, (last,) = network(normalize(pictures.to(device)), layers=[-1])
        maps.append(charts.patch_features(last.float().cpu().numpy(), FEATURE_SIDE))
    rows = zip(pictures.permute(0, 2, 3, 1).numpy(), *maps, strict=True)
    report.pictures((Picture(_row(list(row))) for row in rows), width=420)

    report.section(
        "Neighbours",
        f"The first image of each row, then those of {min(BANK, len(store)):,} whose class tokens "
        "are most like its own, other pictures of the same place left out.",
    )
    rows_of_neighbors = _neighbors(store, after, normalize, config, device)
    report.pictures((Picture(row) for row in rows_of_neighbors), width=900)

    report.section("Run")
    report.facts(environment(device))
    report.code("config.yaml", to_yaml(config))
    path = folder / "report.html"
    report.write(path)
    return path


def _figures(
    train: Sequence[Record], watched: Sequence[Record], config: Pretraining
) -> dict[str, str]:
    figures = {"steps": f"{train[-1]['step']:,}"} if train else {}
    if train:
        last = train[-1]
        named = {name: label for name, label in LOSSES.items() if name in last}
        figures |= {f"{label}, loss": f"{last[name]:.3f}" for name, label in named.items()}
        figures["effective rank"] = f"{last['rank']:.0f}"
    if watched:
        figures["kNN at first"] = f"{watched[0]['knn']:.1f} %"
        figures["kNN at last"] = f"{watched[-1]['knn']:.1f} %"
    return figures


def _curves(train: Sequence[Record], watched: Sequence[Record]) -> dict[str, str]:
    def draw(records: Sequence[Record], smooth: bool, **names: str) -> str:
        lines = {
            label: (
                [r["step"] for r in records if name in r],
                [r[name] for r in records if name in r],
            )
            for name, label in names.items()
        }
        return charts.curves({k: v for k, v in lines.items() if v[0]}, "step", smooth)

    drawn = {}
    if train:
        drawn["Losses"] = draw(train, True, **LOSSES)
        if "entropy" in train[0]:
            drawn["Teacher: entropy of a target, and of the mean target, as shares of ln K"] = draw(
                train, True, entropy="of a target", mean_entropy="of the mean"
            )
        drawn["Effective rank of the class tokens of a batch"] = draw(train, True, rank="rank")
    if watched:
        drawn["kNN top-1 on the labelled set"] = draw(watched, False, knn="top-1 %")
    if train:
        drawn["Learning rate"] = draw(train, False, lr="learning rate")
        drawn["Speed"] = draw(train, True, images_per_s="images/s")
    return drawn


def _view_rows(views: ViewBatch, normalization: Normalization, masked: bool) -> list[Array]:
    samples = len(views.index)
    crops = [views.globals, views.locals]
    if masked:
        crops[0] = _veiled(crops[0], views.masks.flatten(1))
    elif views.kept is not None:
        for number, kept in enumerate(views.kept):
            patches = (crops[number].shape[-1] // PATCH) ** 2
            left_out = torch.ones(len(kept), patches, dtype=torch.bool, device=kept.device)
            crops[number] = _veiled(crops[number], left_out.scatter(1, kept, False))
    large, small = (_pixels(part, normalization) for part in crops)
    seasonal = views.seasonal.cpu().numpy()
    rows = []
    for sample in range(min(SAMPLES, samples)):
        tiles = list(large[sample::samples])
        for tile, other in zip(small[sample::samples], seasonal[sample::samples], strict=True):
            tiles.append(_framed(tile) if other else tile)
        rows.append(_row(tiles))
    return rows


def _neighbors(
    store: Images,
    network: VisionTransformer,
    normalize: Normalize,
    config: Pretraining,
    device: torch.device,
) -> list[Array]:
    bank = np.linspace(0, len(store) - 1, min(BANK, len(store))).astype(int)
    side = config.views.global_size
    transform = eval_transform(side, side)
    features = []
    with evaluating(network), bar("encoding", len(bank), "images") as progress:
        for chunk in np.array_split(bank, max(1, len(bank) // 64)):
            images = torch.stack([transform(store.decode(int(index))) for index in chunk])
            features.append(network(normalize(images.to(device)))[0].float().cpu())
            progress.advance(len(chunk))
    # In double precision: the features of a random ViT differ in the fifth digit.
    tokens = F.normalize(torch.cat(features).double(), dim=1)
    place = {int(index): row for row, index in enumerate(bank)}
    rows = []
    for query in np.linspace(0, len(bank) - 1, min(QUERIES, len(bank))).astype(int):
        likeness = tokens @ tokens[query]
        same = [int(bank[query]), *map(int, store.seasons(int(bank[query])))]
        likeness[[place[index] for index in same if index in place]] = -torch.inf
        nearest = likeness.topk(min(NEIGHBORS, len(bank) - 1)).indices.tolist()
        tiles = [store.decode(int(bank[i])).permute(1, 2, 0).numpy() for i in (query, *nearest)]
        rows.append(_row([_framed(tiles[0]), *tiles[1:]]))
    return rows


def _veiled(crops: Tensor, hidden: Tensor) -> Tensor:
    """Show the mean color in place of hidden patches, bool `[N, g * g]`."""
    side = crops.shape[-1] // PATCH
    veil = F.interpolate(hidden.unflatten(1, (side, side))[:, None].float(), crops.shape[-2:])
    return crops.masked_fill(veil.bool(), 0.0)


def _pixels(images: Tensor, normalization: Normalization) -> Array:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (normalization.mean, normalization.std))
    pixels = (images.float().cpu() * std + mean).clamp(0, 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def _row(tiles: list[Array]) -> Array:
    """Join pictures side by side, with white between."""
    white = np.full((TILE, GAP, 3), 255, np.uint8)
    parts = [part for tile in tiles for part in (charts.resized(tile, TILE), white)]
    return np.concatenate(parts[:-1], axis=1)


def _framed(tile: Array) -> Array:
    framed = charts.resized(tile, TILE).copy()
    orange = tuple(int(charts.ORANGE[i : i + 2], 16) for i in (1, 3, 5))
    for edge in (framed[:GAP], framed[-GAP:], framed[:, :GAP], framed[:, -GAP:]):
        edge[:] = orange
    return framed
