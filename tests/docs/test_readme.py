"""The README is short, its translation keeps step with it, and its start on own data works."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml

sys.path.append(str(Path(__file__).parent))

from blocks import DOCS, ROOT, blocks_of, run_block

PAGES = [ROOT / "README.md", ROOT / "README.zh.md"]


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) < 150


def _headings(path: Path) -> list[str]:
    """Return the level of each heading: their words differ."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"^(#+) ", text, re.M)


def _code(path: Path) -> list[tuple[str, list[str]]]:
    """Return language and lines of each block, without comments, which are translated."""
    return [
        (block.language, [re.sub(r"\s*#.*", "", line) for line in block.text.splitlines()])
        for block in blocks_of(path)
    ]


def _links(path: Path) -> set[str]:
    links = set(re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")))
    return links - {page.name for page in PAGES}


def _rows(path: Path) -> int:
    return len(re.findall(r"^\|", path.read_text(encoding="utf-8"), re.M))


@pytest.mark.parametrize("part", [_headings, _code, _links, _rows])
def test_the_translation_keeps_step(part) -> None:
    assert part(PAGES[0]) == part(PAGES[1])


def test_figures_of_the_weights_are_the_same_everywhere() -> None:
    """The box of both pages repeats figures of docs/benchmarks.md."""
    known = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    for page in PAGES:
        figures = re.findall(r"\d+\.\d %", page.read_text(encoding="utf-8"))
        assert len(figures) > 2
        assert [figure for figure in figures if figure not in known] == []


def test_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in (DOCS / "images").iterdir()) < 300_000


def test_the_start_on_own_data_runs(
    chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its config at toy size, its commands and its Python as they are; not `make`'s."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chips").symlink_to(chips)
    shutil.copytree(chips / "water", tmp_path / "new")
    pixels = np.random.default_rng(0).integers(0, 255, (3, 60, 80), dtype=np.uint8)
    place = rasterio.transform.from_origin(500_000, 4_000_000, 0.75, 0.75)
    profile = {"driver": "GTiff", "count": 3, "height": 60, "width": 80, "dtype": "uint8"}
    with rasterio.open("scene.tif", "w", crs="EPSG:32650", transform=place, **profile) as scene:
        scene.write(pixels)
    names: dict[str, object] = {}
    for block in blocks_of(PAGES[0]):
        if block.language == "yaml":
            config = yaml.safe_load(block.text)
            config["data"] |= {"image_size": 28, "gsd": 0.75, "workers": 0}
            config |= {"training": {"epochs": 2}, "cache": {"views": 1}}
            Path("mine.yaml").write_text(yaml.safe_dump(config))
        elif not block.text.startswith("make "):
            run_block(block, PAGES[0], names)
    assert len((tmp_path / "new.csv").read_text().splitlines()) == 1 + 11
    for folder in ("map", "map-notebook"):
        with rasterio.open(f"{folder}/map.tif") as mapped:
            assert mapped.crs.to_epsg() == 32650
            corner = mapped.transform * (0, 0)
            assert corner == (500_000, 4_000_000), "cells begin where the scene does"
    assert {"class", "area_m2"} <= set(names["polygons"].columns)  # type: ignore[attr-defined]
