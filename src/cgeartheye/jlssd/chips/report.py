"""The report of a cut: how many chips of each season there are, why there are no more, and some."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from cgeartheye.config import ChipCutting
from cgeartheye.geo.crs import METERS_PER_DEGREE
from cgeartheye.jlssd.resumable import OK
from cgeartheye.jlssd.sampling.overview_map import fit
from cgeartheye.reports.html import Cell, Picture, Report

_SHOWN = 8  # places

_WITH_ALL, _WITH_SOME, _WITH_NONE = (0, 114, 178), (230, 159, 0), (213, 94, 0)


def write_report(table: pa.Table, settings: ChipCutting, out: Path) -> None:
    """Write the report beside a table of chips, `chips.html` of `chips.parquet`.

    Args:
        table: of chips, with their status.
        settings: of the cut.
        out: the Parquet file of the table.
    """
    seasons = list(settings.mosaics)
    status = table["status"].to_pylist()
    by_place: dict[str, list[int]] = defaultdict(list)
    for row, (place, word) in enumerate(zip(table["place"].to_pylist(), status, strict=True)):
        by_place[place] += [row] if word == OK else []
    number = Counter(len(rows) for rows in by_place.values())
    report = Report("Chips", f"{settings.size} px at {settings.gsd:g} m, of {len(seasons)} seasons")
    report.figures(
        {
            "chips": f"{status.count(OK):,}",
            "places": f"{len(by_place):,}",
            "with every season": f"{number[len(seasons)]:,}",
            "without any": f"{number[0]:,}",
        }
    )
    _add_seasons(report, table, seasons)
    report.heading("Places by number of seasons")
    rows: list[list[Cell]] = [
        [str(n), number[n], 100 * number[n] / len(by_place)] for n in range(len(seasons), -1, -1)
    ]
    report.table(["seasons", "places", "% of places"], rows, bars=["% of places"])
    _add_map(report, table, by_place, len(seasons))
    _add_chips(report, table, by_place, out.parent)
    report.write(out.with_suffix(".html"))


def _add_seasons(report: Report, table: pa.Table, seasons: list[str]) -> None:
    report.section(
        "Seasons",
        "missing: the mosaic does not reach the place; nodata and cloud: more of the chip than "
        "allowed; unreadable: the file is damaged there. The table gives the reason in each row.",
    )
    pairs = zip(table["season"].to_pylist(), table["status"].to_pylist(), strict=True)
    counts = Counter(pairs)
    words = sorted({word for _, word in counts} - {OK})
    rows: list[list[Cell]] = []
    for season in seasons:
        total = sum(counts[season, word] for word in (OK, *words))
        missed = [counts[season, word] for word in words]
        share = 100 * counts[season, OK] / total
        rows.append([season, counts[season, OK], *missed, share])
    report.table(["season", "chips", *words, "% of places"], rows, bars=["% of places"])


def _add_map(report: Report, table: pa.Table, by_place: dict[str, list[int]], most: int) -> None:
    report.section("Map")
    colors = {
        "every season": _WITH_ALL,
        "some seasons": _WITH_SOME,
        "no season": _WITH_NONE,
    }
    report.legend(colors)
    found = dict(
        zip(
            table["place"].to_pylist(),
            zip(table["lon"].to_pylist(), table["lat"].to_pylist(), strict=True),
            strict=True,
        )
    )
    lon, lat = np.array([found[place] for place in by_place]).T
    kinds = np.array([0 if len(r) == most else 1 if r else 2 for r in by_place.values()])
    # Places of one small area are still apart.
    cell = min(1000 / METERS_PER_DEGREE, max(float(np.ptp(lat)), 1e-3) / 40)
    canvas = fit(lon, lat, cell)
    counts = np.zeros((canvas.height * canvas.width, 3), np.int64)
    np.add.at(counts, (canvas.index(lon, lat), kinds), 1)
    picture = canvas.paint(counts, np.array(list(colors.values()), np.uint8))
    report.pictures([Picture(canvas.enlarged(picture), "Places")], width=520)


def _add_chips(
    report: Report, table: pa.Table, by_place: dict[str, list[int]], folder: Path
) -> None:
    full = sorted(by_place, key=lambda place: -len(by_place[place]))
    step = max(1, len([p for p in full if by_place[p]]) // _SHOWN)
    shown = [place for place in full[::step] if by_place[place]][:_SHOWN]
    if not shown:
        return
    report.section("Some places", "A line is a place in its seasons.")
    for place in shown:
        first = table.slice(by_place[place][0], 1).to_pylist()[0]
        report.heading(f"{first['stratum'] or place}", place)
        pictures = []
        for row in by_place[place]:
            chip = table.slice(row, 1).to_pylist()[0]
            with Image.open(folder / chip["path"]) as image:
                image.draft("RGB", (300, 300))
                pictures.append(Picture(np.asarray(image.convert("RGB")), chip["season"]))
        report.pictures(pictures)
