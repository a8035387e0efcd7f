"""Names in letters that the usual fonts lack, with a font of the system that has them or none."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from cgeartheye.boxes import Detections
from cgeartheye.data.checks.contact_sheet import contact_sheet
from cgeartheye.reports.draw_boxes import draw_found
from cgeartheye.utils import fonts as fonts_module

PLANE, SHIP = "飞机", "船"
GRAY = np.full((500, 500, 3), 90, np.uint8)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The fonts of the system, to be filled."""
    fonts: list[str] = []
    monkeypatch.setattr(fonts_module.font_manager, "findSystemFonts", lambda: fonts)
    fonts_module._system_fonts.cache_clear()
    fonts_module._font_with.cache_clear()
    yield fonts
    fonts_module._system_fonts.cache_clear()
    fonts_module._font_with.cache_clear()


def make_font(path: Path, more: str) -> str:
    """A font of full squares, for ASCII and more letters."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap(dict.fromkeys([*range(32, 127), *map(ord, more)], "square"))
    builder.setupGlyf({".notdef": square, "square": square})
    builder.setupHorizontalMetrics({".notdef": (900, 0), "square": (900, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def drawn(name: str) -> np.ndarray:
    found = Detections(torch.tensor([[100.0, 100, 300, 300]]), torch.ones(1), torch.tensor([0]))
    return draw_found(GRAY, found, [name])


def test_without_a_font_a_number_stands_for_the_name(system: list[str]) -> None:
    names = ["plane", PLANE, "Flughäfen", "самолёт", SHIP]
    assert fonts_module.writable(names) == ["plane", "#1", "Flughäfen", "самолёт", "#4"]
    np.testing.assert_array_equal(drawn(PLANE), drawn("#0"))
    assert (drawn("é") != drawn("ö")).any()  # no squares
    row = {"other": [], PLANE: [np.zeros((96, 96, 3), np.uint8)]}
    numbered = {"other": [], "#1": row[PLANE]}
    np.testing.assert_array_equal(contact_sheet(row), contact_sheet(numbered))


def test_a_font_of_the_system_writes_what_it_has(system: list[str], tmp_path: Path) -> None:
    (tmp_path / "A damaged.ttf").write_bytes(b"no font")
    last = make_font(tmp_path / "LastResort.ttf", PLANE + SHIP)  # frames, no letters
    own = make_font(tmp_path / "Own-Regular.ttf", PLANE)
    bold = make_font(tmp_path / "Bold.ttf", PLANE)
    system += [str(tmp_path / "A damaged.ttf"), bold, last, own]
    assert fonts_module.writable(["plane", PLANE, SHIP]) == ["plane", PLANE, "#2"]
    assert fonts_module.font_for(f"{PLANE} 0.93", 20).path == own
    assert fonts_module.font_for("plane 0.93", 20).path == fonts_module._OWN
    assert (drawn(PLANE) != drawn("#0")).any()
