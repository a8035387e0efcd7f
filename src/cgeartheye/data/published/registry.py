"""The published data sets that this package knows: one entry each.

What is written here comes from the data sets' own pages and papers, and from what mmsegmentation,
torchgeo and Hugging Face publish. A licence that none of these states is none stated.
"""

from collections.abc import Mapping
from pathlib import Path

from cgeartheye.config import ChangeData, DetectionData, SceneData, SegmentationData
from cgeartheye.data.index.catalog import CATALOG
from cgeartheye.data.published.data_set import KNOWN, PublishedDataSet
from cgeartheye.utils.errors import UserError, nearest

_LISTS = {"train": "val_20per.txt", "val": "train_80per.txt"}  # a fifth is trained on
_WHOLE = "FOLDER with a folder of images for each class, at any depth"
_LINKED = "the images in class folders"
_DRAWN = (
    "the images in class folders and the two lists: those found in FOLDER, else 20 and 80 % of "
    "each class drawn by a fixed seed"
)
_TORCHGEO = "none stated, as torchgeo lists it"
_DOTA = "academic use only, no commercial use, and Google Earth's terms (DOTA, whose images it has)"

_AID_COUNTS = (360, 310, 220, 400, 360, 260, 240, 350, 410, 300, 370, 250, 390, 280, 290, 340, 350,
               390, 370, 420, 380, 260, 290, 410, 300, 300, 330, 290, 360, 420)  # fmt: skip
_UCMERCED = (
    "agricultural airplane baseballdiamond beach buildings chaparral denseresidential forest "
    "freeway golfcourse harbor intersection mediumresidential mobilehomepark overpass parkinglot "
    "river runway sparseresidential storagetanks tenniscourt"
)
_RS19 = (
    "Airport Beach Bridge Commercial Desert Farmland footballField Forest Industrial Meadow "
    "Mountain Park Parking Pond Port railwayStation Residential River Viaduct"
)
_EUROSAT = {
    "AnnualCrop": 3_000,
    "Forest": 3_000,
    "HerbaceousVegetation": 3_000,
    "Highway": 2_500,
    "Industrial": 2_500,
    "Pasture": 2_000,
    "PermanentCrop": 2_500,
    "Residential": 3_000,
    "River": 2_500,
    "SeaLake": 3_000,
}
_VHR10 = (
    "airplane ship storage_tank baseball_diamond tennis_court basketball_court ground_track_field "
    "harbor bridge vehicle"
)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_SETS = (
    PublishedDataSet(
        name="AID",
        data=SceneData(root=Path("datasets/SceneClassification/AID"), catalog="AID", **_LISTS),
        summary="aerial scenes of 600 px, 0.5 to 8 m, from Google Earth",
        page="https://captain-whu.github.io/AID/",
        paper="Xia et al., IEEE TGRS 55(7), 2017, https://arxiv.org/abs/1608.05167",
        license="none stated",
        images={"train": 2_000, "val": 8_000},
        download=_WHOLE,
        conversion=_DRAWN,
        per_class=dict(zip(CATALOG["AID"].classes, _AID_COUNTS, strict=True)),
        first_number=1,
        side=600,
        stems=r"[a-z]+_\d+",
        checksums={
            "train_80per.txt": "00c659c81b26e4d7c03473fde40d7f3255e2914df467243e31d389bc14eaab6c",
            "val_20per.txt": "c7e0e1863645ea07bd2af45ea2a998a95c3b4854a19041a5e2a3d98bdd3d1cd4",
        },
        config="config/SceneClassification/CGEarthEye-Giant-518-AID.py",
    ),
    PublishedDataSet(
        name="RESISC45",
        data=SceneData(
            root=Path("datasets/SceneClassification/NWPU_RESISC45"), catalog="RESISC45", **_LISTS
        ),
        summary="scenes of 256 px, 0.2 to 30 m, from Google Earth",
        page="https://gcheng-nwpu.github.io/",
        paper="Cheng, Han and Lu, Proceedings of the IEEE 105(10), 2017, "
        "https://arxiv.org/abs/1703.00121",
        license="none stated by the paper; torchgeo's copy on Hugging Face has CC BY-NC 4.0",
        images={"train": 6_300, "val": 25_200},
        download=_WHOLE,
        conversion=_DRAWN,
        per_class=700,
        first_number=1,
        side=256,
        stems=r"[a-z_]+_\d{3}",
        config="config/SceneClassification/CGEarthEye-Giant-518-RESISC45.py",
    ),
    PublishedDataSet(
        name="LoveDA",
        data=SegmentationData(
            root=Path("datasets/SemanticSegmentation/LoveDA"), catalog="LoveDA"
        ),
        summary="land cover of 1,024 px, 0.3 m, urban and rural, from Google Earth",
        page="https://github.com/Junjue-Wang/LoveDA",
        paper="Wang et al., NeurIPS datasets and benchmarks, 2021, "
        "https://arxiv.org/abs/2110.08733",
        license="CC BY-NC-SA 4.0",
        images={"train": 2_522, "val": 1_669},
        download="FOLDER with {Train,Val,Test}/{Urban,Rural}/{images_png,masks_png}/*.png",
        conversion="urban and rural images and masks of a part together; the masks of the test "
        "part are not published",
        side=1_024,
        stems=r"\d+",
        config="config/SemanticSegmentation/CGEarthEye-Giant-518-LoveDA.py",
    ),
    PublishedDataSet(
        name="iSAID",
        data=SegmentationData(root=Path("datasets/SemanticSegmentation/ISAID"), catalog="iSAID"),
        summary="aerial images of DOTA with 15 classes of objects and background",
        page="https://captain-whu.github.io/iSAID/",
        paper="Waqas Zamir et al., CVPR workshops, 2019, https://arxiv.org/abs/1905.12886",
        license=_DOTA,
        images={"train": 33_978, "val": 11_644},
        download="FOLDER with train and val, in which P0000.png (DOTA's images) and "
        "P0000_instance_color_RGB.png (iSAID's semantic masks), at any depth",
        conversion="patches of 896 px that overlap by 384 px, as mmsegmentation cuts them; colors "
        "become class indices, 255 beyond the edge",
        side=896,
        stems=r"P\d{4}_\d+_\d+_\d+_\d+",
        config="config/SemanticSegmentation/CGEarthEye-Giant-518-ISAID.py",
    ),
    PublishedDataSet(
        name="Potsdam",
        data=SegmentationData(
            root=Path("datasets/SemanticSegmentation/Potsdam"), catalog="Potsdam"
        ),
        summary="38 aerial tiles of 6,000 px, 0.05 m, with land cover",
        page="https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/"
        "2d-sem-label-potsdam.aspx",
        paper="Rottensteiner et al., ISPRS Annals I-3, 2012",
        license=_TORCHGEO,
        images={"train": 3_456, "val": 2_016},
        download="FOLDER with top_potsdam_2_10_RGB.tif and top_potsdam_2_10_label_noBoundary.tif "
        "(or _label.tif), and so on, at any depth",
        conversion="patches of 512 px, 144 a tile, as mmsegmentation cuts them: 24 tiles for "
        "train, 14 for val; colors become 1 to 6, 0 is not labelled",
        side=512,
        stems=r"\d_\d+_\d+_\d+_\d+_\d+",
        config="config/SemanticSegmentation/CGEarthEye-Giant-518-Potsdam.py",
    ),
    PublishedDataSet(
        name="LEVIR-CD",
        data=ChangeData(
            root=Path("datasets/ChangeDetection/LEVIR-CD"), catalog="LEVIR-CD", test="test"
        ),
        summary="buildings that came or went in 637 pairs of 1,024 px, 0.5 m, from Google Earth",
        page="https://justchenhao.github.io/LEVIR/",
        paper="Chen and Shi, Remote Sensing 12(10), 2020, https://doi.org/10.3390/rs12101662",
        license=_TORCHGEO,
        images={"train": 445, "val": 64, "test": 128},
        download="FOLDER with {train,val,test}/{A,B,label}/*.png",
        conversion="the same files in the folders Image1, Image2 and Label",
        side=1_024,
        config="config/ChangeDetection/CGEarthEye-Giant-518-levircd.py",
    ),
    PublishedDataSet(
        name="SYSU-CD",
        data=ChangeData(
            root=Path("datasets/ChangeDetection/SYSU-CD"), catalog="SYSU-CD", test="test"
        ),
        summary="change of many kinds in 20,000 pairs of 256 px, 0.5 m, Hong Kong 2007 to 2014",
        page="https://github.com/liumency/SYSU-CD",
        paper="Shi et al., IEEE TGRS 60, 2022, https://doi.org/10.1109/TGRS.2021.3085870",
        license="none stated",
        images={"train": 12_000, "val": 4_000, "test": 4_000},
        download="FOLDER with {train,val,test}/{time1,time2,label}/*.png",
        conversion="the same files in the folders Image1, Image2 and Label",
        side=256,
        config="config/ChangeDetection/CGEarthEye-Giant-224-sysucd.py",
    ),
    PublishedDataSet(
        name="CDD",
        data=ChangeData(root=Path("datasets/ChangeDetection/CDD"), catalog="CDD", test="test"),
        summary="change between seasons in pairs of 256 px, 0.03 to 1 m, from Google Earth; the "
        "paper counts 3,000 for val, the archive has 2,998",
        page="https://drive.google.com/file/d/1GX656JqqOyBi_Ef0w65kDGVto-nHrNs9",
        paper="Lebedev et al., ISPRS Archives XLII-2, 2018, "
        "https://doi.org/10.5194/isprs-archives-XLII-2-565-2018",
        license="none stated",
        images={"train": 10_000, "val": 2_998, "test": 3_000},
        download="FOLDER with ChangeDetectionDataset/Real/subset/{train,val,test}/{A,B,OUT}/*.jpg",
        conversion="the same files in the folders Image1, Image2 and Label",
        side=256,
        config="config/ChangeDetection/CGEarthEye-Giant-224-cdd.py",
    ),
    PublishedDataSet(
        name="DIOR",
        data=DetectionData(
            root=Path("datasets/ObjectDetection/DIOR"),
            catalog="DIOR",
            train="trainval",
            val="test",
        ),
        summary="objects of 20 classes in 23,463 images of 800 px, 0.5 to 30 m, from Google Earth",
        page="https://gcheng-nwpu.github.io/#Datasets",
        paper="Li et al., ISPRS Journal 159, 2020, https://arxiv.org/abs/1909.00133",
        license="none stated by the paper; torchgeo's copy on Hugging Face has CC BY-SA",
        images={"train": 11_725, "val": 11_738},
        download="FOLDER with the images 00001.jpg to 23463.jpg, and 'Horizontal Bounding Boxes' "
        "with 00001.xml and so on, at any depth",
        conversion="images of trainval (up to 11725) and test, and a COCO file of each",
        objects=192_472,
        first_number=1,
        side=800,
        stems=r"\d{5}",
        config="config/ObjectDetection/HBB/CGEarthEye-Giant-784-DIOR.py",
    ),
    PublishedDataSet(
        name="DIOR-R",
        data=DetectionData(
            root=Path("datasets/ObjectDetection/DIORR"),
            catalog="DIOR-R",
            boxes="oriented",
            train="trainval",
            val="test",
        ),
        summary="the images of DIOR with oriented boxes",
        page="https://gcheng-nwpu.github.io/#Datasets",
        paper="Cheng et al., IEEE TGRS 60, 2022, https://arxiv.org/abs/2110.01931",
        license="none stated by the paper; torchgeo's copy of DIOR has CC BY-SA",
        images={"train": 11_725, "val": 11_738},
        download="FOLDER with the images 00001.jpg to 23463.jpg, and 'Oriented Bounding Boxes' "
        "with 00001.xml and so on, at any depth",
        conversion="images of trainval (up to 11725) and test, and the XML files in one folder",
        first_number=1,
        side=800,
        stems=r"\d{5}",
        config="config/ObjectDetection/OBB/CGEarthEye-Giant-784-DIORR.py",
    ),
    PublishedDataSet(
        name="UCMerced",
        data=SceneData(
            root=Path("datasets/SceneClassification/UCMerced"), classes=_names(_UCMERCED)
        ),
        summary="land use of 256 px, 0.3 m, from the USGS National Map",
        page="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
        paper="Yang and Newsam, ACM SIGSPATIAL GIS, 2010, https://doi.org/10.1145/1869790.1869829",
        license="public domain (USGS), as torchgeo lists it",
        images={"all": 2_100},
        download=_WHOLE,
        conversion=_LINKED,
        per_class=100,
        first_number=0,
        side=256,
        stems=r"[a-z]+\d\d",
    ),
    PublishedDataSet(
        name="RSSCN7",
        data=SceneData(
            root=Path("datasets/SceneClassification/RSSCN7"),
            classes=_names("aGrass bField cIndustry dRiverLake eForest fResident gParking"),
        ),
        summary="scenes of 400 px at four scales, from Google Earth",
        page="https://github.com/palewithout/RSSCN7",
        paper="Zou et al., IEEE GRSL 12(11), 2015, https://doi.org/10.1109/LGRS.2015.2475299",
        license="none stated",
        images={"all": 2_800},
        download=_WHOLE,
        conversion=_LINKED,
        per_class=400,
        side=400,
    ),
    PublishedDataSet(
        name="WHU-RS19",
        data=SceneData(root=Path("datasets/SceneClassification/WHU-RS19"), classes=_names(_RS19)),
        summary="scenes of 600 px, up to 0.5 m, from Google Earth",
        page="https://captain-whu.github.io/BED4RS/",
        paper="Xia et al., ISPRS TC VII Symposium, 2010; Dai and Yang, IEEE GRSL 8(1), 2011",
        license="none stated; a copy on Hugging Face has public domain and CC BY 4.0",
        images={"all": 1_005},
        download=_WHOLE,
        conversion=_LINKED,
        side=600,
    ),
    PublishedDataSet(
        name="EuroSAT-RGB",
        data=SceneData(
            root=Path("datasets/SceneClassification/EuroSAT-RGB"), classes=tuple(_EUROSAT)
        ),
        summary="land cover of 64 px, 10 m, from Sentinel-2",
        page="https://github.com/phelber/EuroSAT",
        paper="Helber et al., IEEE JSTARS 12(7), 2019, https://arxiv.org/abs/1709.00029",
        license="MIT, as torchgeo lists it",
        images={"all": 27_000},
        download=_WHOLE,
        conversion=_LINKED,
        per_class=_EUROSAT,
        first_number=1,
        side=64,
        stems=r"[A-Za-z]+_\d+",
    ),
    PublishedDataSet(
        name="EPFL-roads",
        data=SegmentationData(
            root=Path("datasets/SemanticSegmentation/EPFL-roads"),
            classes=("background", "road"),
            test="test",
        ),
        summary="roads in 100 images of 400 px, from Google Maps, of a course at EPFL",
        page="https://www.aicrowd.com/challenges/epfl-ml-road-segmentation",
        paper="none",
        license="none stated",
        images={"train": 64, "val": 12, "test": 24},
        download="FOLDER with training/{images,groundtruth}/satImage_001.png and so on",
        conversion="64, 12 and 24 images drawn by a fixed seed; masks cut at 128",
        side=400,
        stems=r"satImage_\d{3}",
    ),
    PublishedDataSet(
        name="NWPU-VHR-10",
        data=DetectionData(
            root=Path("datasets/ObjectDetection/NWPUVHR10"),
            annotations="Annotations/{part}.json",
            classes=_names(_VHR10),
            train="trainval",
            val="test",
        ),
        summary="objects of 10 classes in 650 images, 0.08 to 2 m, from Google Earth and Vaihingen",
        page="https://gcheng-nwpu.github.io/#Datasets",
        paper="Cheng et al., ISPRS Journal 98, 2014, "
        "https://doi.org/10.1016/j.isprsjprs.2014.10.002",
        license="none stated by the paper; torchgeo's copy on Hugging Face has CC BY-NC 4.0",
        images={"train": 455, "val": 195},
        download="FOLDER with 'positive image set'/001.jpg and 'ground truth'/001.txt and so on",
        conversion="455 images for trainval and 195 for test drawn by a fixed seed, and a COCO "
        "file of each",
        objects=3_775,
        stems=r"\d{3}",
    ),
)  # fmt: skip

DATA_SETS: Mapping[str, PublishedDataSet] = {one.name: one for one in _SETS}


def find(name: str) -> PublishedDataSet:
    """Return the data set of a name, in upper or lower case.

    Raises:
        UserError: there is none.
    """
    for known, one in DATA_SETS.items():
        if known.casefold() == name.casefold():
            return one
    raise UserError(
        f"no data set '{name}' is known{nearest(name, list(DATA_SETS))}: `cgeartheye data list` "
        "lists them"
    )


def spelt(folder: Path) -> PublishedDataSet | None:
    """Return the data set whose folder is called so; none: no published one is."""
    for one in _SETS:
        other = KNOWN[one.data.catalog].folders if one.data.catalog else ()
        if folder.name.casefold() in {
            name.casefold() for name in (one.name, one.data.root.name, *other)
        }:
            return one
    return None


def how_to_get(name: str, folder: Path) -> str:
    """Return a sentence on where a data set that is not there is to be had.

    Args:
        name: of the data set.
        folder: where it should be.

    Raises:
        UserError: there is no data set of this name.
    """
    one = find(name)
    return (
        f"{one.name} is not in {folder}: get it from {one.page} (licence: {one.license}); then "
        f"`cgeartheye data convert {one.name} DOWNLOAD {folder}`"
    )
