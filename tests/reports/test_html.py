import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cgeartheye.reports.html import Picture, Report
from cgeartheye.utils.errors import UserError

Write = Callable[[Report], Any]

PIXELS = np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 400, 3))


@pytest.fixture(scope="session")
def write(parse: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write a report and read it again."""
    path = tmp_path_factory.mktemp("page") / "report.html"

    def written(report: Report) -> Any:
        report.write(path)
        return parse(path.read_text(encoding="utf-8"))

    return written


def everything(text: str) -> Report:
    report = Report(text, text)
    report.figures({text: text})
    report.section(text, text)
    report.heading(text, text)
    report.table([text, "x"], [[text, 1.0]])
    report.charts({text: "<svg></svg>"})
    report.pictures([Picture(PIXELS[:4, :4], text, text, True)])
    report.legend({text: (1, 2, 3)})
    report.code(text, text)
    report.facts({text: text})
    return report


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_every_text_is_read_as_it_was_written(write: Write, text: str) -> None:
    text = f"<script>\"'&{text}</div>-->"
    page = write(everything(text))
    plain = write(everything("plain"))
    # Nothing of it became a tag, apart from the breaks that are offered after slashes.
    tags = [tag for tag, _ in page.tags if tag != "wbr"]
    assert tags == [tag for tag, _ in plain.tags]
    for tag in ("title", "h1", "h2", "h3", "dt", "dd", "li", "button", "td", "summary", "pre", "a"):
        assert text in page.texts[tag], tag
    assert "".join(page.texts["small"]) == text
    assert text in page.values("alt")
    assert text in page.values("aria-label")


def test_the_page_needs_no_network_and_allows_none(write: Write) -> None:
    page = write(everything("text"))
    for attribute in ("src", "href", "srcset", "action"):
        for address in page.values(attribute):
            assert address.startswith(("data:", "#")), address
    assert "link" not in [tag for tag, _ in page.tags]
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv", "").startswith("Con")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    style = "".join(page.texts["style"])
    assert "url(" not in style
    assert "@import" not in style


def test_contents_lead_to_their_sections(write: Write) -> None:
    report = Report("title")
    for name in ("first", "second", "first"):
        report.section(name)
    page = write(report)
    assert page.texts["a"] == ["first", "second", "first"]
    ids = page.values("id")
    assert [address[1:] for address in page.values("href")] == ids
    assert len(set(ids)) == 3


def test_cells_say_what_they_are_sorted_by(write: Write) -> None:
    report = Report("title")
    report.table(
        ["class", "images", "accuracy"],
        [["a", 12345, 2 / 3 * 100], ["b", 0, float("nan")]],
        bars=["accuracy"],
    )
    page = write(report)
    assert page.texts["td"] == ["a", "12,345", "66.67", "b", "0", "–"]
    assert page.values("data-value") == ["12345", str(2 / 3 * 100), "0", "nan"]
    assert [s for s in page.values("style") if "share" in s] == ["--share: 0.667"]
    heads = [attributes["class"] for tag, attributes in page.tags if tag == "th"]
    assert heads == ["text", "number", "number"]


def test_pictures_are_kept_small(write: Write) -> None:
    report = Report("title")
    report.pictures([Picture(PIXELS), Picture(PIXELS[:10, :20])], width=100)
    sources = write(report).values("src")
    images = [
        Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))
        for source in sources
    ]
    assert [image.size for image in images] == [(200, 100), (20, 10)]
    # The grey of a row is twice its number, as every second is kept.
    np.testing.assert_allclose(np.asarray(images[0])[10:90, 50, 0], np.arange(20, 180, 2), atol=4)


def test_pictures_are_marked_right_or_wrong(write: Write) -> None:
    report = Report("title")
    report.pictures(Picture(PIXELS[:4, :4], "x", good=good) for good in (True, False, None))
    figures = [attributes for tag, attributes in write(report).tags if tag == "figure"]
    assert figures == [{"class": "right"}, {"class": "wrong"}, {}]


def test_a_folder_that_cannot_be_written_to_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"report\.html"):
        Report("title").write(tmp_path / "file" / "report.html")
