"""XML files of many tools: what is meant is read, the rest is named with its line."""

import math
from pathlib import Path

import pytest
import shapely

from cgeartheye.data.formats.annotation_xml import DEEPEST, read_xml
from cgeartheye.data.formats.voc_dota_yolo import Faults

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>4</ymax></bndbox>"
CORNERS = [1, 2, 5, 2, 5, 4, 1, 4]


def element(inside: str) -> str:
    return f"<object><name>ship</name>{inside}</object>"


def read(tmp_path: Path, text: str | bytes) -> tuple[list, list[str]]:
    """The objects of a file, and the sentences on its faults."""
    path = tmp_path / "a.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    faults = Faults()
    found = [one for _, one in read_xml(path, faults)]
    return found, [problem.sentence for problem in faults.problems()]


def one(tmp_path: Path, inside: str):
    found, faults = read(tmp_path, f"<annotation>{element(inside)}</annotation>")
    assert faults == []
    (only,) = found
    return only


@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0, -0.7, 3.4])
def test_rolabelimg_is_read(tmp_path, angle):
    cx, cy, w, h = 30.0, 20.0, 16.0, 6.0
    inside = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in zip(("cx", "cy", "w", "h", "angle"), (cx, cy, w, h, angle), strict=True)
    )
    found = one(tmp_path, f"<type>robndbox</type><robndbox>{inside}</robndbox>")
    # Radians, clockwise where y points down: shapely's turn with these axes taken as they are.
    upright = shapely.box(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    truth = shapely.affinity.rotate(upright, angle, use_radians=True)
    box = shapely.Polygon([found.corners[n : n + 2] for n in (0, 2, 4, 6)])
    assert box.symmetric_difference(truth).area < 1e-6


def test_a_file_may_mix_both_boxes_without_saying_their_type(tmp_path):
    turned = "<robndbox><cx>9</cx><cy>8</cy><w>4</w><h>2</h><angle>0.0</angle></robndbox>"
    text = f"<annotation>{element(BOX)}{element(turned)}{element(BOX)}</annotation>"
    found, faults = read(tmp_path, text)
    assert faults == []
    assert [list(one.corners) for one in found] == [CORNERS, [7, 7, 11, 7, 11, 9, 7, 9], CORNERS]


def test_an_empty_robndbox_leaves_the_other(tmp_path):
    assert list(one(tmp_path, f"<robndbox/>{BOX}").corners) == CORNERS


def test_hrsc2016_is_read(tmp_path):
    turned = {"mbox_cx": 9, "mbox_cy": 8, "mbox_w": 4, "mbox_h": 2, "mbox_ang": math.pi / 2}
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in turned.items())
    text = (
        "<HRSC_Image><HRSC_Objects><HRSC_Object><Class_ID>100000013</Class_ID>"
        f"<difficult>1</difficult><box_xmin>0</box_xmin>{inside}"
        "</HRSC_Object></HRSC_Objects></HRSC_Image>"
    )
    ((found,), faults) = read(tmp_path, text)
    assert faults == []
    assert (found.name, found.ignored) == ("ship", True)
    assert found.corners == pytest.approx([10, 6, 10, 10, 8, 10, 8, 6])


def test_fair1m_is_read(tmp_path):
    points = "".join(f"<point>{x},{y}</point>" for x, y in [(1, 2), (5, 2), (5, 4), (1, 4), (1, 2)])
    text = (
        "<annotation><objects><object><coordinate>pixel</coordinate><type>rectangle</type>"
        "<description>None</description><possibleresult><name>Boeing737</name></possibleresult>"
        f"<points>{points}</points></object></objects></annotation>"
    )
    ((found,), faults) = read(tmp_path, text)
    assert faults == []
    assert (found.name, list(found.corners)) == ("Boeing737", CORNERS)


@pytest.mark.parametrize("word", ["Unspecified", "False", "No", "none", "0.0", "", " 0\n"])
def test_words_that_mean_not_difficult(tmp_path, word):
    assert not one(tmp_path, f"<difficult>{word}</difficult>{BOX}").ignored


@pytest.mark.parametrize("word", ["1", "True", "yes", "1.0"])
def test_words_that_mean_difficult(tmp_path, word):
    assert one(tmp_path, f"<difficult>{word}</difficult>{BOX}").ignored


@pytest.mark.parametrize("head", ["", "<?xml version='1.0' encoding='latin-1'?>\n"])
def test_another_word_is_named_with_its_line(tmp_path, head):
    objects = "\n".join([element(BOX), element(f"\n<difficult>perhaps</difficult>{BOX}")])
    found, (sentence,) = read(tmp_path, f"{head}<annotation>\n{objects}</annotation>")
    assert len(found) == 1
    line = 4 + bool(head)
    assert f"a.xml:{line}: <difficult>perhaps</difficult> is neither yes nor no" in sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation>" * DEEPEST * 2, "nested deeper"),
        ('<!DOCTYPE a [<!ENTITY e "x">]><annotation>&e;</annotation>', "defines the entity e"),
        ("<annotation><object></annotation>", "mismatched tag"),
        (b"\x00\xff", "cannot be read as XML"),
        ("<kml/>", "whose root is <kml>"),
    ],
)
def test_what_is_no_annotation_is_named(tmp_path, text, words):
    found, (sentence,) = read(tmp_path, text)
    assert not found
    assert words in sentence
