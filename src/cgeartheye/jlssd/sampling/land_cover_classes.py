"""Which value of a land-cover raster means which class."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cgeartheye.utils.errors import UserError

WORLDCOVER = Path(__file__).with_name("worldcover.csv")
"""ESA WorldCover's 11 values and the 7 classes of the published design (v200, Zanaga et al. 2022).

The publication names the 7 and not the way to them: shrubs, bare ground, ice and moss, which none
of the other six names, are `other`; mangroves are a wetland of the Ramsar convention.
"""


_MOST = 127  # classes that fit into 8 bits with a sign


@dataclass(frozen=True)
class ClassTable:
    """The classes of a design.

    Attributes:
        names: of the classes, in the order in which the table first names them. Of two classes
            with as many pixels in a cell, the first has the majority.
        class_of: index into `names` by value of the raster.
    """

    names: tuple[str, ...]
    class_of: Mapping[int, int]


def read_classes(path: Path) -> ClassTable:
    """Read a CSV with columns value and class; others, such as name, are for the reader.

    Raises:
        UserError: no such file, a column missing, a value that is no whole number from 0 to 65,535
            or named twice, no class, or more than 127.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table of classes: {error}") from error
    if not rows or not {"value", "class"} <= rows[0].keys():
        raise UserError(f"{path} needs rows with the columns value and class, like {WORLDCOVER}")
    names: list[str] = []
    class_of: dict[int, int] = {}
    for number, row in enumerate(rows, start=2):
        text, name = (row["value"] or "").strip(), (row["class"] or "").strip()
        if not text.isdecimal() or int(text) > 65_535:
            raise UserError(f"{path}, line {number}: {text!r} is no value from 0 to 65535")
        if not name:
            raise UserError(f"{path}, line {number}: value {text} has no class")
        if int(text) in class_of:
            raise UserError(f"{path}, line {number}: value {text} is named twice")
        if name not in names:
            names.append(name)
        class_of[int(text)] = names.index(name)
    if len(names) > _MOST:
        raise UserError(f"{path} names {len(names)} classes: {_MOST} at most")
    return ClassTable(tuple(names), class_of)
