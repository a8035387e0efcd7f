"""Yes and no, as tools write them."""

import pytest

from cgeartheye.data.formats.flags import flag_of


@pytest.mark.parametrize(
    "value",
    [None, "", " ", "0", 0, 0.0, "0.0", False, "False", "No", "none", "Unspecified", "NULL"],
)
def test_no(value):
    assert flag_of(value) is False


@pytest.mark.parametrize("value", ["1", 1, "1.0", "2", True, "True", "yes", " Difficult\n"])
def test_yes(value):
    assert flag_of(value) is True


@pytest.mark.parametrize("value", ["perhaps", "0,0", "-", [], {}])
def test_neither(value):
    assert flag_of(value) is None
