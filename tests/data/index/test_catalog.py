"""The catalog against the published facts."""

import pytest

from cgeartheye.data.index.catalog import CATALOG


@pytest.mark.parametrize(
    ("name", "count", "labels"),
    [
        ("AID", 30, {0: "Airport", 3: "Beach", 11: "Forest", 20: "Port", 29: "Viaduct"}),
        ("RESISC45", 45, {0: "airplane", 9: "cloud", 30: "railway_station", 44: "wetland"}),
    ],
)
def test_published_classes(name, count, labels):
    classes = CATALOG[name].classes
    assert len(classes) == len(set(classes)) == count
    assert list(classes) == sorted(classes)  # both publish their classes in alphabetical order
    assert {label: classes[label] for label in labels} == labels
