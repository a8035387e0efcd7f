"""The data card of a build: what is in the store, where, and what was dropped on the way, and why.

After Gebru et al. 2021, Datasheets for Datasets: composition, collection, cleaning. The page and
the JSON beside it have the same content.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from cgeartheye.config import Jlssd, to_yaml
from cgeartheye.geo.crs import METERS_PER_DEGREE
from cgeartheye.jlssd.chips.worker import CLOUD, MISSING, NODATA, UNREADABLE
from cgeartheye.jlssd.curation.curate import DUPLICATE, REDUNDANT
from cgeartheye.jlssd.quality.filter import rules_of
from cgeartheye.jlssd.resumable import OK
from cgeartheye.jlssd.sampling.overview_map import fit
from cgeartheye.jlssd.sampling.report import colors_of
from cgeartheye.pretraining.store.reader import Store
from cgeartheye.reports.html import Cell, Picture, Report
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import json_text, write_text
from cgeartheye.utils.state import json_object

KINDS = ("region", "land_cover", "band", "season")  # columns by which places are counted
MAP_SIDE = 800  # pixels, at least, of the longer side of the map
ROWS = 500  # of a table on the page; the JSON has all

Array = np.ndarray


@dataclass(frozen=True)
class Dropped:
    """Chips that a step drops for one reason.

    Attributes:
        step: design, cut, quality, curate or pack.
        status: what such chips are called in the step's table.
        why: in words.
        chips: how many.
        places: with such a chip.
        example: the reason of the first of them.
    """

    step: str
    status: str
    why: str
    chips: int
    places: int
    example: str


def write(config: Jlssd, folder: Path) -> None:
    """Write `card.json` and `card.html` of a finished build.

    Args:
        config: of the build.
        folder: its work directory.
    """
    store = Store(folder / "store")
    design = pq.read_table(folder / "design.parquet")
    dropped = losses(config, folder, store)
    facts = facts_of(config, store, design, dropped)
    balance = _balance(folder / "curated.json")
    text = json_text(facts | {"balance": balance}, indent=1)
    write_text(folder / "card.json", text)
    _write_page(config, store, design, dropped, facts, balance, folder)


def _balance(path: Path) -> Any:
    try:
        return json_object(path.read_bytes())["balance"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is damaged or missing: delete it and run the same command again, which "
            "repeats the curation"
        ) from error


def facts_of(
    config: Jlssd, store: Store, design: pa.Table, dropped: list[Dropped]
) -> dict[str, object]:
    """Return the facts of a store, JSON values.

    Args:
        config: of the build.
        store: of the images.
        design: table of the places.
        dropped: chips that the steps dropped.
    """
    table = store.table
    places = table.take(pc.unique(table["place_first"]))
    west, south, east, north = (
        float(np.min(column) if lower else np.max(column))
        for lower in (True, False)
        for column in (places["lon"].to_numpy(), places["lat"].to_numpy())
    )
    seasons = Counter(places["place_count"].to_pylist())
    return {
        "licence": config.license,
        "chips": len(table),
        "places": len(places),
        "designed places": len(design),
        "places by number of seasons": {str(n): seasons[n] for n in sorted(seasons)},
        "bytes": int(pc.sum(table["bytes"]).as_py()),
        "pixels a side": sorted(set(table["height"].to_pylist()) | set(table["width"].to_pylist())),
        "GSD in m/px": config.cut.gsd,
        "longitude and latitude": {"from": [west, south], "to": [east, north]},
        "columns": table.column_names,
        "fingerprint": store.fingerprint,
        "counts": {name: _counts(table, places, design, name) for name in KINDS},
        "dropped": [asdict(one) for one in dropped],
        "settings": config.model_dump(mode="json"),
    }


def losses(config: Jlssd, folder: Path, store: Store) -> list[Dropped]:
    """Return the chips that each step drops, by reason, the most frequent of a step first.

    Args:
        config: of the build.
        folder: of the build's tables.
        store: of the images.
    """
    why = {rule.status: str(rule) for rule in rules_of(config.quality)}
    why |= {
        UNREADABLE: "the chip cannot be read",
        DUPLICATE: f"cosine similarity of {config.curation.dedup_threshold:g} or more to another "
        "place",
        REDUNDANT: "its cluster is common and has as many places as its share",
    }
    of_cut = {
        MISSING: "no mosaic of the season reaches there",
        NODATA: f"more than {100 * config.cut.max_nodata:g} % of the chip has no data",
        CLOUD: f"more than {100 * config.cut.max_cloud:g} % of the chip is under cloud",
        UNREADABLE: "a mosaic cannot be read there; the next build tries again",
    }
    found, before = [], None
    for step, name in (("cut", "chips"), ("quality", "quality"), ("curate", "curated")):
        table = pq.read_table(folder / f"{name}.parquet", columns=["place", "status", "reason"])
        new = pc.not_equal(table["status"], OK)
        if before is not None:
            new = pc.and_(new, pc.equal(before, OK))
        before = table["status"]
        gone = table.filter(new)
        own = of_cut if step == "cut" else why
        for status, chips in Counter(gone["status"].to_pylist()).most_common():
            part = gone.filter(pc.equal(gone["status"], status))
            example = part["reason"][0].as_py() or ""
            places = len(pc.unique(part["place"]))
            found.append(Dropped(step, status, own.get(status, ""), chips, places, example))
    packed = pq.read_table(folder / "packed.parquet", columns=["path", "place"])
    lost = packed.filter(pc.invert(pc.is_in(packed["path"], store.table["path"])))
    if len(lost):
        places, example = len(pc.unique(lost["place"])), lost["path"][0].as_py()
        same = "the same bytes as another chip"
        found.append(Dropped("pack", "same file", same, len(lost), places, example))
    return found


def _counts(
    table: pa.Table, places: pa.Table, design: pa.Table, name: str
) -> dict[str, dict[str, int]]:
    """Return designed and stored places of each kind; by season, stored chips."""
    if name not in table.column_names:
        return {}
    if name == "season":
        return {str(k): {"stored": n} for k, n in sorted(Counter(table[name].to_pylist()).items())}
    stored, wanted = (Counter(t[name].to_pylist()) for t in (places, design))
    return {
        str(kind): {"designed": wanted[kind], "stored": stored[kind]}
        for kind, _ in wanted.most_common()
    }


def _write_page(
    config: Jlssd,
    store: Store,
    design: pa.Table,
    dropped: list[Dropped],
    facts: dict[str, object],
    balance: dict[str, Any],
    folder: Path,
) -> None:
    places = store.table.take(pc.unique(store.table["place_first"]))
    report = Report(f"Data card: {folder.name}", f"Licence: {config.license}")
    report.figures(
        {
            "chips": f"{len(store):,}",
            "places": f"{len(places):,}",
            "places designed": f"{len(design):,}",
            "seasons": f"{len(pc.unique(store.table['season']))}",
            "on the disk": f"{pc.sum(store.table['bytes']).as_py() / 2**20:,.0f} MiB",
            "a pixel": f"{config.cut.gsd:g} m",
        }
    )
    _add_map(report, config, design, places)
    report.section(
        "What was dropped and why",
        "Chips, and places with such a chip, that each step drops. The table of the step "
        "(chips.parquet, quality.parquet, curated.parquet) names each with its reason; what the "
        "design lacks is in design.html.",
    )
    if dropped:
        columns = ["step", "status", "why", "chips", "places", "example"]
        report.table(
            columns,
            [[d.step, d.status, d.why, d.chips, d.places, d.example] for d in dropped],
        )
    _add_counts(report, facts["counts"])  # type: ignore[arg-type]
    report.section("Balance", "Places that reached curation, and those that it kept.")
    report.table(
        ["by", "kinds", "as varied as, before", "after"],
        [[kind, len(b["places"]), *b["as varied as"].values()] for kind, b in balance.items()],
    )
    for title, name in (("What quality drops", "quality"), ("Clusters", "curated")):
        report.section(title)
        with Image.open(folder / f"{name}.jpg") as sheet:
            report.pictures([Picture(np.asarray(sheet.convert("RGB")))], width=1000)
    report.section("Settings")
    report.facts({"fingerprint of the store": store.fingerprint[:16], "licence": config.license})
    report.code("config.yaml", to_yaml(config))
    report.write(folder / "card.html")


def _add_map(report: Report, config: Jlssd, design: pa.Table, places: pa.Table) -> None:
    """Draw stored places in the color of their land cover, other designed ones in grey."""
    report.section("Map", "Stored places by land cover; grey: designed, and not in the store.")
    colors = colors_of(sorted(pc.unique(design["land_cover"]).to_pylist()))
    where = [design[name].to_numpy() for name in ("lon", "lat")]
    canvas = fit(where[0], where[1], config.design.cell_size / METERS_PER_DEGREE)
    kinds = list(colors)
    counts = np.zeros((canvas.height * canvas.width, len(kinds) + 1), np.int64)
    counts[canvas.index(*where), -1] = 1
    pixel = canvas.index(*(places[name].to_numpy() for name in ("lon", "lat")))
    which = np.array([kinds.index(kind) for kind in places["land_cover"].to_pylist()])
    np.add.at(counts, (pixel, which), 2)
    palette = np.array([*colors.values(), (190, 194, 198)], np.uint8)
    picture = canvas.paint(counts, palette)
    factor = max(1, -(-MAP_SIDE // max(picture.shape[:2])))
    picture = picture.repeat(factor, 0).repeat(factor, 1)
    report.legend(colors | {"designed only": (190, 194, 198)})
    report.pictures([Picture(picture)], width=MAP_SIDE)


def _add_counts(report: Report, counts: dict[str, dict[str, dict[str, int]]]) -> None:
    report.section("Counts", "Places designed and stored; by season, chips.")
    for name, kinds in counts.items():
        if not kinds:
            continue
        title = name.replace("_", " ")
        report.heading(f"By {title}")
        columns = [title, *next(iter(kinds.values()))]
        rows: list[list[Cell]] = [[kind, *numbers.values()] for kind, numbers in kinds.items()]
        report.table(columns, rows[:ROWS])
