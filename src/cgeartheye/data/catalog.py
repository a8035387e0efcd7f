"""The published data sets by name: what their files do not say themselves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
        classes: names by index; an image's label is the index of its class.
        folders: how the folder of the data set is spelt in the wild, the commonest first.
    """

    classes: tuple[str, ...]
    folders: tuple[str, ...]


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


AID = DataSet(
    classes=_names(
        "Airport BareLand BaseballField Beach Bridge Center Church Commercial DenseResidential "
        "Desert Farmland Forest Industrial Meadow MediumResidential Mountain Park Parking "
        "Playground Pond Port RailwayStation Resort River School SparseResidential Square Stadium "
        "StorageTanks Viaduct"
    ),
    folders=("AID",),
)
"""AID: 10,000 aerial images of 600 pixels, 0.5 to 8 m, 30 scene classes.

Xia et al., "AID: A benchmark data set for performance evaluation of aerial scene classification",
IEEE TGRS 55(7), 2017.
"""

RESISC45 = DataSet(
    classes=_names(
        "airplane airport baseball_diamond basketball_court beach bridge chaparral church "
        "circular_farmland cloud commercial_area dense_residential desert forest freeway "
        "golf_course ground_track_field harbor industrial_area intersection island lake meadow "
        "medium_residential mobile_home_park mountain overpass palace parking_lot railway "
        "railway_station rectangular_farmland river roundabout runway sea_ice ship snowberg "
        "sparse_residential stadium storage_tank tennis_court terrace thermal_power_station "
        "wetland"
    ),
    folders=("NWPU_RESISC45", "NWPU-RESISC45", "RESISC45"),
)
"""NWPU-RESISC45: 31,500 images of 256 pixels, 0.2 to 30 m, 45 scene classes.

Cheng, Han and Lu, "Remote sensing image scene classification: benchmark and state of the art",
Proceedings of the IEEE 105(10), 2017.
"""

CATALOG = {"AID": AID, "RESISC45": RESISC45}
