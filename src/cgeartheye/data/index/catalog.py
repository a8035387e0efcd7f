"""The published data sets by name: what their files do not contain themselves."""

from dataclasses import dataclass
from pathlib import Path

from cgeartheye.config import Color
from cgeartheye.utils.errors import UserError


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
        classes: names by index; an image's label is the index of its class.
        folders: how the folder of the data set is spelt in the wild, the commonest first.
    """

    classes: tuple[str, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True)
class MaskedDataSet(DataSet):
    """A published data set with a class for every pixel.

    Attributes:
        colors: of the classes, in masks that are pictures and wherever masks are drawn.
        values: of the classes, in masks that hold indices.
        unlabeled: mask values and colors that mean: not labelled.
        images: the folder of a part's images, as in `SegmentationData`.
        masks: the folder of its masks.
        mask_suffix: of a mask's name, behind its image's stem.
    """

    colors: tuple[Color, ...]
    values: tuple[int, ...]
    unlabeled: tuple[int | Color, ...] = (255,)
    images: str = "img_dir/{part}"
    masks: str = "ann_dir/{part}"
    mask_suffix: str = ""


@dataclass(frozen=True)
class BoxedDataSet(DataSet):
    """A published data set with boxes around objects.

    Attributes:
        images: the folder of a part's images, as in `DetectionData`.
        annotations: the folder or file of their annotations; the first that exists.
    """

    images: str
    annotations: tuple[str, ...]


def find_root(root: Path, folders: tuple[str, ...]) -> Path:
    """Return the root of a data set, or the folder beside it with another of its spellings.

    Raises:
        UserError: there is none.
    """
    for candidate in (root, *(root.parent / spelling for spelling in folders)):
        if candidate.is_dir():
            return candidate
    from cgeartheye.data.published.registry import spelt  # which knows the catalog

    known = spelt(root)
    hint = f"; `cgeartheye data where {known.name}` shows where to get it" if known else ""
    raise UserError(f"no folder {root}: correct data.root or put the images there{hint}")


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

ISAID = MaskedDataSet(
    classes=_names(
        "background ship store_tank baseball_diamond tennis_court basketball_court "
        "Ground_Track_Field Bridge Large_Vehicle Small_Vehicle Helicopter Swimming_pool "
        "Roundabout Soccer_ball_field plane Harbor"
    ),
    folders=("ISAID", "iSAID"),
    colors=(
        (0, 0, 0),
        (0, 0, 63),
        (0, 63, 63),
        (0, 63, 0),
        (0, 63, 127),
        (0, 63, 191),
        (0, 63, 255),
        (0, 127, 63),
        (0, 127, 127),
        (0, 0, 127),
        (0, 0, 191),
        (0, 0, 255),
        (0, 191, 127),
        (0, 127, 191),
        (0, 127, 255),
        (0, 100, 155),
    ),
    values=tuple(range(16)),
    mask_suffix="_instance_color_RGB",
)
"""iSAID: 2,806 aerial images, cut into patches of 896 pixels; 15 object classes and background.

Waqas Zamir et al., "iSAID: A large-scale dataset for instance segmentation in aerial images",
CVPR workshops 2019. The colors are those of its masks.
"""

CROPLAND = MaskedDataSet(
    classes=_names("background cropland"),
    folders=("cropland",),
    colors=((0, 0, 0), (255, 211, 0)),
    values=(0, 1),
    images="{part}/Img",
    masks="{part}/Label",
)
"""CGEarthEye's cropland: images of 512 pixels. The colors are ours."""

LOVEDA = MaskedDataSet(
    classes=_names("background building road water barren forest agriculture"),
    folders=("LoveDA", "loveDA"),
    colors=(
        (255, 255, 255),
        (255, 0, 0),
        (255, 255, 0),
        (0, 0, 255),
        (159, 129, 183),
        (0, 255, 0),
        (255, 195, 128),
    ),
    values=tuple(range(1, 8)),
    unlabeled=(0, 255),
)
"""LoveDA: 5,987 images of 1,024 pixels, 0.3 m, urban and rural; in its masks 0 means no data.

Wang et al., "LoveDA: A remote sensing land-cover dataset for domain adaptive semantic
segmentation", NeurIPS datasets and benchmarks 2021. The layout is mmsegmentation's.
"""

POTSDAM = MaskedDataSet(
    classes=_names("impervious_surface building low_vegetation tree car clutter"),
    folders=("Potsdam", "potsdam"),
    colors=((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)),
    values=tuple(range(1, 7)),
    unlabeled=(0, 255, (0, 0, 0)),
)
"""ISPRS Potsdam: 38 tiles of 6,000 pixels, 0.05 m; in masks of mmsegmentation's layout, 0, and in
the published pictures black, marks the boundaries that do not count.

Rottensteiner et al., "The ISPRS benchmark on urban object classification and 3D building
reconstruction", ISPRS Annals I-3, 2012.
"""

MASKED = {"iSAID": ISAID, "cropland": CROPLAND, "LoveDA": LOVEDA, "Potsdam": POTSDAM}

LEVIR_CD = DataSet(classes=_names("unchanged changed"), folders=("LEVIR-CD", "LEVIR_CD", "LEVIR"))
"""LEVIR-CD: 637 pairs of 1,024 pixels, 0.5 m, 5 to 14 years apart; buildings that came or went.

Chen and Shi, "A spatial-temporal attention-based method and a new dataset for remote sensing image
change detection", Remote Sensing 12(10), 2020.
"""

SYSU_CD = DataSet(classes=_names("unchanged changed"), folders=("SYSU-CD", "SYSU_CD", "SYSU"))
"""SYSU-CD: 20,000 pairs of 256 pixels, 0.5 m, Hong Kong 2007 to 2014; change of many kinds.

Shi et al., "A deeply supervised attention metric-based network and an open aerial image dataset
for remote sensing change detection", IEEE TGRS 60, 2022.
"""

CDD = DataSet(classes=_names("unchanged changed"), folders=("CDD",))
"""CDD: 16,000 pairs of 256 pixels, 0.03 to 1 m, of different seasons; its masks are JPEGs.

Lebedev et al., "Change detection in remote sensing images using conditional adversarial networks",
ISPRS Archives XLII-2, 2018.
"""

CHANGES = {"LEVIR-CD": LEVIR_CD, "SYSU-CD": SYSU_CD, "CDD": CDD}

_DIOR = _names(
    "airplane airport baseballfield basketballcourt bridge chimney expressway-service-area "
    "expressway-toll-station dam golffield groundtrackfield harbor overpass ship stadium "
    "storagetank tenniscourt trainstation vehicle windmill"
)

DIOR = BoxedDataSet(
    classes=_DIOR,
    folders=("DIOR",),
    images="images/{part}",
    annotations=("Annotations/{part}.json", "Annotations/Horizontal Bounding Boxes"),
)
"""DIOR: 23,463 images of 800 pixels, 0.5 to 30 m, 192,472 objects of 20 classes.

Li et al., "Object detection in optical remote sensing images: a survey and a new benchmark", ISPRS
Journal 159, 2020. It is trained on `trainval` and tested on `test`.
"""

DIOR_R = BoxedDataSet(
    classes=_DIOR,
    folders=("DIOR-R", "DIORR", "DIOR_R"),
    images="images/{part}",
    annotations=("Annotations/Oriented Bounding Boxes",),
)
"""DIOR-R: the images of DIOR with oriented boxes.

Cheng et al., "Anchor-free oriented proposal generator for object detection", IEEE TGRS 60, 2022.
"""

DOTA = BoxedDataSet(
    classes=_names(
        "plane baseball-diamond bridge ground-track-field small-vehicle large-vehicle ship "
        "tennis-court basketball-court storage-tank soccer-ball-field roundabout harbor "
        "swimming-pool helicopter"
    ),
    folders=("DOTA", "DOTA-v1.0", "DOTAv1"),
    images="{part}/images",
    annotations=(
        "{part}/labelTxt",
        "{part}/labelTxt-v1.0",
        "{part}/labelTxt-v1.0/labelTxt",
        "{part}/annfiles",
    ),
)
"""DOTA 1.0: 2,806 images of 800 to 4,000 pixels a side, 188,282 oriented boxes of 15 classes.

Xia et al., "DOTA: A large-scale dataset for object detection in aerial images", CVPR 2018.
"""

BOXED = {"DIOR": DIOR, "DIOR-R": DIOR_R, "DOTA": DOTA}
