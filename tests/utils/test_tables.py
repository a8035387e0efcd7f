"""CSV tables: what is written is what is read, and names are no numbers."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgeartheye.utils.tables import csv_text, guard, read_csv, read_rows, unguard, write_csv

STARTS = "=+-@\t\r'＝"
QUADKEYS = ["12022100130213023121", "12022100130213023122"]  # the same as float64


def table(tmp_path: Path, name: str, cells: list[str], names: set[str] = frozenset()) -> pa.Table:
    path = tmp_path / "t.csv"
    path.write_text("\n".join([f"{name},other", *(f"{cell},x" for cell in cells)]))
    return read_csv(path, names)[name]


@pytest.mark.parametrize(
    "cells",
    [
        ["3.1", "3.10"],
        ["007", "7"],
        QUADKEYS,
        ["06", "12"],
        ["NA", "nan", "null", "", "None"],
        ["true", "false"],
        ["2020-01-01", "1e3"],
        ["'s-Hertogenbosch", "0x10"],
    ],
)
def test_names_stay_as_they_are_written(tmp_path, cells):
    assert table(tmp_path, "place", cells, {"place"}).to_pylist() == cells


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-2", "0"], [1, -2, 0]),
        (["1", "", "3"], [1, None, 3]),
        (["1.50", "-2", "3e-3"], [1.5, -2.0, 0.003]),
        (["true", "false"], [True, False]),
        (["007", "7"], ["007", "7"]),
        (QUADKEYS, QUADKEYS),
        (["1", "x"], ["1", "x"]),
        (["", ""], ["", ""]),
        ([".", "-"], [".", "-"]),
        (["e5", "1"], ["e5", "1"]),
        (["NA", "1"], ["NA", "1"]),
    ],
)
def test_other_columns_are_what_all_of_their_cells_are(tmp_path, cells, values):
    assert table(tmp_path, "lon", cells).to_pylist() == values


def test_windows_files_are_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffplace,season\r\n007,06\r\n".encode())
    assert read_csv(path, {"place", "season"}).to_pylist() == [{"place": "007", "season": "06"}]


def test_formulas_are_guarded_as_spreadsheets_expect():
    text = csv_text(["class", "score"], [["=1+1", -0.5], ["-x", 1], ["a-b", 2], ["@SUM(A1)", 3]])
    rows = list(csv.reader(text.splitlines()))
    assert rows[1:] == [["'=1+1", "-0.5"], ["'-x", "1"], ["a-b", "2"], ["'@SUM(A1)", "3"]]


@given(st.text(st.sampled_from([*STARTS, "a", "é", " ", ",", '"', "\n"]), max_size=6))
def test_what_was_guarded_is_read_back(text):
    assert unguard(guard(text)) == text
    assert not guard(text).startswith(tuple(STARTS.replace("'", "")))


def test_a_table_is_read_back(tmp_path):
    path = tmp_path / "t.csv"
    cells = ["=a", "'=a", "+1", "'x", 'q"', "c,d", "two\nlines", "\ttab"]
    write_csv(path, ["image", "problem"], [[cell, "-"] for cell in cells])
    assert [row["image"] for row in read_rows(path)] == cells
    assert read_csv(path, {"image", "problem"})["image"].to_pylist() == cells
