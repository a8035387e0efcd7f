"""Data sets as everyone has them are found without settings."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.warp import transform_geom

from cgeartheye.config import DetectionData
from cgeartheye.data.index.detection import BoxSurvey, survey_boxes
from cgeartheye.utils.errors import UserError

SIZE = (40, 30)
BOX = (4.0, 6.0, 20.0, 12.0)  # x0, y0, x1, y1 of the one object of each image, a ship
CORNERS = [4, 6, 20, 6, 20, 12, 4, 12]
TRAIN, VAL = ("a", "b"), ("c",)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (ord(path.stem[-1]), 9, 9)).save(path)


def voc_xml(path: Path) -> None:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True)
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in sides)
    write(
        path,
        "<annotation>\r\n<object><name>ship</name><pose>Unspecified</pose>"
        f"<difficult>Unspecified</difficult><bndbox>{inside}</bndbox></object></annotation>",
    )


def fair1m_xml(path: Path) -> None:
    points = "".join(f"<point>{CORNERS[n]},{CORNERS[n + 1]}</point>" for n in (0, 2, 4, 6, 0))
    write(
        path,
        "<annotation><objects><object><possibleresult><name>ship</name></possibleresult>"
        f"<points>{points}</points></object></objects></annotation>",
    )


def hrsc_xml(path: Path) -> None:
    values = {"mbox_cx": 12, "mbox_cy": 9, "mbox_w": 16, "mbox_h": 6, "mbox_ang": 0}
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    write(
        path,
        "<HRSC_Image><HRSC_Objects><HRSC_Object><Class_ID>100000001</Class_ID>"
        f"{inside}</HRSC_Object></HRSC_Objects></HRSC_Image>",
    )


def dota_txt(path: Path) -> None:
    write(path, f"imagesource:GoogleEarth\ngsd:0.5\n{' '.join(map(str, CORNERS))} ship 0\n")


def yolo_txt(path: Path) -> None:
    x0, y0, x1, y1 = BOX
    box = (x0 + x1) / 2 / SIZE[0], (y0 + y1) / 2 / SIZE[1], (x1 - x0) / SIZE[0], (y1 - y0) / SIZE[1]
    write(path, f"0 {' '.join(map(str, box))}\n")


def yolo_obb_txt(path: Path) -> None:
    shares = [value / SIZE[place % 2] for place, value in enumerate(CORNERS)]
    write(path, f"0 {' '.join(map(str, shares))}\n")


def labelme_json(path: Path) -> None:
    x0, y0, x1, y1 = BOX
    outline = [[x0, y0], [x1, y0], [x1, y1], [12, y1], [x0, y1]]
    shape = {"label": "ship", "points": outline, "shape_type": "polygon", "flags": {}}
    write(path, json.dumps({"version": "5.0.1", "flags": {}, "shapes": [shape]}))


def coco_json(path: Path, names: tuple[str, ...], prefix: str = "", **category) -> None:
    x0, y0, x1, y1 = BOX
    box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0, "category_id": 1, "segmentation": []}
    content = {
        "images": [{"id": n, "file_name": f"{prefix}{name}.png"} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, **box} for n in range(len(names))],
        "categories": [*([category] if category else []), {"id": 1, "name": "ship",
                       "supercategory": category.get("name", "")}],
    }  # fmt: skip
    write(path, json.dumps(content))


def parts(root: Path, images: str, boxes: str, draw: Callable, names=("train", "val")) -> None:
    """Images and files of annotations in a folder for each part."""
    for part, stems in zip(names, (TRAIN, VAL), strict=True):
        for stem in stems:
            image(root / images.format(part=part) / f"{stem}.png")
            draw(root / boxes.format(part=part) / f"{stem}.{SUFFIX[draw]}")


def listed(root: Path, images: str, boxes: str, lists: str, draw: Callable, names) -> None:
    """Images of all parts together, and lists with the line ends of Windows."""
    for part, stems in zip(names, (TRAIN, VAL), strict=True):
        write(root / lists.format(part=part), "\r\n".join(stems) + "\r\n")
        for stem in stems:
            image(root / images / f"{stem}.png")
            draw(root / boxes / f"{stem}.{SUFFIX[draw]}")


SUFFIX = {
    voc_xml: "xml", fair1m_xml: "xml", hrsc_xml: "xml", dota_txt: "txt", yolo_txt: "txt",
    yolo_obb_txt: "txt", labelme_json: "json",
}  # fmt: skip


def voc(root: Path) -> None:
    main = "ImageSets/Main/{part}.txt"
    listed(root, "JPEGImages", "Annotations", main, voc_xml, ("train", "val"))
    for part, stems in (("trainval", (*TRAIN, *VAL)), ("test", ())):
        write(root / f"ImageSets/Main/{part}.txt", "\r\n".join(stems))


def voc_kit(root: Path) -> None:
    voc(root / "VOCdevkit/VOC2007")


def voc_trainval(root: Path) -> None:
    main = "ImageSets/Main/{part}.txt"
    listed(root, "JPEGImages", "Annotations", main, voc_xml, ("trainval", "test"))


def dior(root: Path) -> None:
    boxes = "Annotations/Horizontal Bounding Boxes"
    parts(root, "JPEGImages-{part}", boxes, voc_xml, ("trainval", "test"))


def dior_lists(root: Path) -> None:
    dior(root)
    for part, stems in (("train", TRAIN), ("val", VAL), ("test", VAL)):
        write(root / f"ImageSets/Main/{part}.txt", "\n".join(stems))


def dota(root: Path) -> None:
    parts(root, "{part}/images", "{part}/labelTxt", dota_txt)


def dota_parts(root: Path) -> None:
    parts(root, "{part}/images/part1/images", "{part}/labelTxt-v1.0/labelTxt", dota_txt)


def dota_split(root: Path) -> None:
    parts(root, "{part}/images", "{part}/annfiles", dota_txt)


def dota_trainval(root: Path) -> None:
    parts(root, "{part}/images", "{part}/annfiles", dota_txt, ("trainval", "val"))
    image(root / "test/images/z.png")  # whose boxes are not published


def hrsc(root: Path) -> None:
    listed(root, "FullDataSet/AllImages", "FullDataSet/Annotations", "ImageSets/{part}.txt",
           hrsc_xml, ("train", "val"))  # fmt: skip


def hrsc_folders(root: Path) -> None:
    parts(root, "{part}/AllImages", "{part}/Annotations", hrsc_xml, ("Train", "Test"))


def fair1m(root: Path) -> None:
    parts(root, "{part}/part1/images", "{part}/part1/labelXml", fair1m_xml)


def yolo(root: Path) -> None:
    parts(root, "images/{part}", "labels/{part}", yolo_txt)
    write(root / "data.yaml", "names: [ship]\n")


def roboflow_yolo(root: Path) -> None:
    parts(root, "{part}/images", "{part}/labels", yolo_obb_txt, ("train", "valid"))
    write(root / "data.yaml", "train: ../train/images\nnames:\n  0: ship\n")
    write(root / "README.roboflow.txt", "exported\n")


def roboflow_coco(root: Path) -> None:
    for part, stems in (("train", TRAIN), ("valid", VAL)):
        for stem in stems:
            image(root / part / f"{stem}.png")
        top = {"id": 0, "name": "ships", "supercategory": "none"}
        coco_json(root / part / "_annotations.coco.json", stems, **top)
    write(root / "README.dataset.txt", "exported\n")


def roboflow_voc(root: Path) -> None:
    parts(root, "{part}", "{part}", voc_xml, ("train", "valid"))
    write(root / "README.dataset.txt", "exported\n")


def coco2017(root: Path) -> None:
    for part, stems in (("train", TRAIN), ("val", VAL)):
        for stem in stems:
            image(root / f"{part}2017/{stem}.png")
        coco_json(root / f"annotations/instances_{part}2017.json", stems)


def cvat_coco(root: Path) -> None:
    for part, stems in (("Train", TRAIN), ("Validation", VAL)):
        for stem in stems:
            image(root / f"images/{part}/{stem}.png")
        coco_json(root / f"annotations/instances_{part}.json", stems)


def labelme_parts(root: Path) -> None:
    parts(root, "{part}", "{part}", labelme_json)


LAYOUTS = [
    voc, voc_kit, voc_trainval, dior, dior_lists, dota, dota_parts, dota_split, dota_trainval, hrsc,
    hrsc_folders, fair1m, yolo, roboflow_yolo, roboflow_coco, roboflow_voc, coco2017, cvat_coco,
    labelme_parts,
]  # fmt: skip


def survey(root: Path, **fields) -> BoxSurvey:
    found = survey_boxes(DetectionData(root=root, **fields))
    assert [problem.sentence for problem in found.problems] == []
    assert found.classes == ("ship",)
    for part in found.parts.values():
        for one in part.values():
            found_corners = sorted(map(tuple, one.corners[0].round(3).tolist()))
            assert found_corners == sorted(zip(CORNERS[::2], CORNERS[1::2], strict=True))
            assert len(one) == 1
            assert not one.ignored.any()
    return found


def stems(found: BoxSurvey, part: str) -> set[str]:
    return {Path(name).stem for name in found.parts[part]}


@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_published_layouts_are_found_without_settings(tmp_path, layout, boxes):
    layout(tmp_path)
    found = survey(tmp_path, boxes=boxes)
    assert (stems(found, "train"), stems(found, "val")) == (set(TRAIN), set(VAL))


# Exports without parts are split


def label_studio_coco(root: Path) -> None:
    for stem in (*TRAIN, *VAL):
        image(root / f"images/1f3-{stem}.png")
    coco_json(root / "result.json", (*TRAIN, *VAL), prefix="images/1f3-")


def label_studio_yolo(root: Path) -> None:
    parts(root, "images", "labels", yolo_txt)
    write(root / "classes.txt", "ship\n")
    write(root / "notes.json", '{"categories": []}')


def label_studio_json(root: Path) -> None:
    """Two images as they were before they were uploaded, one as an export of YOLO gives it."""
    tasks = []
    x0, y0, x1, y1 = BOX
    size = {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0}
    sides = {"x": x0 / SIZE[0] * 100, "y": y0 / SIZE[1] * 100, "rotation": 0,
             "width": (x1 - x0) / SIZE[0] * 100, "height": (y1 - y0) / SIZE[1] * 100}  # fmt: skip
    for number, stem in enumerate((*TRAIN, *VAL), start=7):
        name = f"0a1b2c3d-{stem}.png"
        image(root / f"images/{name if stem == 'a' else f'{stem}.png'}")
        region = {"id": "r", "type": "rectanglelabels", "from_name": "label", "to_name": "image",
                  **size, "value": {**sides, "rectanglelabels": ["ship"]}}  # fmt: skip
        skipped = {"was_cancelled": True, "result": []}
        done = {"was_cancelled": False, "created_at": "2026-01-02", "result": [region]}
        tasks.append({"id": number, "file_upload": name, "annotations": [skipped, done],
                      "data": {"image": f"/data/upload/1/{name}"}})  # fmt: skip
    write(root / "project-1-at-2026-01-02-03-04-0123abcd.json", json.dumps(tasks))


def cvat_coco_whole(root: Path) -> None:
    for stem in (*TRAIN, *VAL):
        image(root / f"images/default/{stem}.png")
    coco_json(root / "annotations/instances_default.json", (*TRAIN, *VAL))


def cvat_yolo(root: Path) -> None:
    parts(root, "obj_train_data", "obj_train_data", yolo_txt)
    write(root / "obj.names", "ship\n")
    write(root / "train.txt", "".join(f"data/obj_train_data/{stem}.png\n" for stem in "abc"))


def labelme(root: Path) -> None:
    parts(root, ".", ".", labelme_json)


def labelme2coco(root: Path) -> None:
    for stem in (*TRAIN, *VAL):
        image(root / f"JPEGImages/{stem}.png")
    mark = {"id": 0, "name": "_background_"}
    coco_json(root / "annotations.json", (*TRAIN, *VAL), prefix="JPEGImages/", **mark)


def only_train(root: Path) -> None:
    parts(root, "train/images", "train/labels", yolo_txt)
    write(root / "data.yaml", "names: [ship]\n")


def voc_without_lists(root: Path) -> None:
    parts(root, "JPEGImages", "Annotations", voc_xml)


def xview(root: Path) -> None:
    features = []
    for stem in (*TRAIN, *VAL):
        image(root / f"train_images/{stem}.png")
        about = {"image_id": f"{stem}.png", "type_id": 40, "type_name": "ship",
                 "bounds_imcoords": ",".join(map(str, BOX))}  # fmt: skip
        features.append({"type": "Feature", "properties": about, "geometry": None})
    odd = [{"image_id": "1395.tif", "type_id": 73, "bounds_imcoords": "1,2,3,4"},
           {"image_id": "a.png", "type_id": 75, "bounds_imcoords": "1,2,3,4"}]  # fmt: skip
    features += [{"type": "Feature", "properties": about, "geometry": None} for about in odd]
    content = {"type": "FeatureCollection", "features": features}
    write(root / "xView_train.geojson", json.dumps(content))


@pytest.mark.parametrize(
    "layout",
    [label_studio_coco, label_studio_json, label_studio_yolo, cvat_coco_whole, cvat_yolo, labelme,
     labelme2coco, only_train, voc_without_lists, xview],
    ids=lambda layout: layout.__name__,
)  # fmt: skip
def test_exports_without_parts_are_split(tmp_path, layout):
    layout(tmp_path)
    found = survey(tmp_path)
    names = [*found.parts["train"], *found.parts["val"]]
    assert sorted(Path(name).stem[-1] for name in names) == ["a", "b", "c"]
    assert set(found.parts) == {"train", "val"}


@pytest.mark.parametrize("declared", [None, "urn:ogc:def:crs:EPSG::32631"])
@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
def test_spacenet_is_found_and_laid_over_its_images(tmp_path, boxes, declared):
    for stem in "abc":
        path = tmp_path / f"AOI_2_Vegas_Train/RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_{stem}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        place = Affine(0.3, 0, 5e5 + ord(stem), 0, -0.3, 5e6)
        with rasterio.open(path, "w", "GTiff", *SIZE, 3, "EPSG:32631", place, "uint16") as file:
            file.write(np.full((3, SIZE[1], SIZE[0]), 300, np.uint16))
        ring = [place @ tuple(CORNERS[n : n + 2]) for n in (0, 2, 4, 6, 0)]
        outline = {"type": "Polygon", "coordinates": [ring]}
        content = {"type": "FeatureCollection", "features": []}
        if declared:
            content["crs"] = {"type": "name", "properties": {"name": declared}}
        else:
            outline = transform_geom("EPSG:32631", "EPSG:4326", outline, precision=12)
        empty = {"type": "Polygon", "coordinates": []}
        content["features"] = [
            {"type": "Feature", "properties": {"label": "ship"}, "geometry": outline},
            {"type": "Feature", "properties": {}, "geometry": empty},
        ]
        name = f"AOI_2_Vegas_Train/geojson/buildings/buildings_AOI_2_Vegas_{stem}.geojson"
        write(tmp_path / name, json.dumps(content))
    found = survey(tmp_path, boxes=boxes)
    assert sum(len(part) for part in found.parts.values()) == 3


def test_turned_boxes_of_cvat_are_turned(tmp_path):
    cvat_coco_whole(tmp_path)
    path = tmp_path / "annotations/instances_default.json"
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        one["attributes"] = {"occluded": False, "rotation": 90.0}
    write(path, json.dumps(content))
    found = survey_boxes(DetectionData(root=tmp_path))
    (one, *_) = found.parts["train"].values()
    # A quarter turn around (12, 9) of 16 x 6.
    assert one.corners.min(axis=(0, 1)) == pytest.approx([9, 1])
    assert one.corners.max(axis=(0, 1)) == pytest.approx([15, 17])


@pytest.mark.parametrize("together", [True, False], ids=["one export", "an export a part"])
def test_label_studio_with_parts(tmp_path, together):
    label_studio_json(tmp_path)
    (whole,) = tmp_path.glob("project-*.json")
    tasks = json.loads(whole.read_text())
    for part, names in (("train", TRAIN), ("val", VAL)):
        (tmp_path / "images" / part).mkdir()
        of_part = [task for task in tasks if task["file_upload"][-5] in names]
        if not together:
            write(tmp_path / f"annotations/{part}.json", json.dumps(of_part))
        for path in [path for path in tmp_path.glob("images/*.png") if path.stem[-1] in names]:
            path.rename(path.parent / part / path.name)
    if not together:
        whole.unlink()
    found = survey(tmp_path)
    assert {part: {stem[-1] for stem in stems(found, part)} for part in found.parts} == {
        "train": set(TRAIN), "val": set(VAL),
    }  # fmt: skip


def test_of_several_exports_one_has_to_be_named(tmp_path):
    label_studio_json(tmp_path)
    (first,) = tmp_path.glob("project-*.json")
    second = shutil.copy(first, tmp_path / "project-1-at-2026-02-02-03-04-0123abcd.json")
    (problem, *_) = survey_boxes(DetectionData(root=tmp_path)).problems
    assert problem.sentence.endswith(
        f"has several exports ({first.name}, {second.name}): name one in data.annotations"
    )
    survey(tmp_path, annotations=second.name)


# What is chosen is stated, and what is not found is described


def test_other_names_of_parts_are_stated(tmp_path):
    roboflow_voc(tmp_path)
    notes = survey(tmp_path).notes
    assert any("the part 'valid' is taken for data.val" in note for note in notes)


def test_what_the_config_names_is_not_looked_for(tmp_path):
    dota(tmp_path)
    roboflow_yolo(tmp_path / "other")
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(UserError, match="no annotations of the part 'trian'"):
        survey_boxes(DetectionData(root=tmp_path, train="trian"))
    found = survey_boxes(DetectionData(root=tmp_path, val="vla"))
    assert any("vla" in problem.sentence for problem in found.problems)


def test_the_usual_names_need_no_note(tmp_path):
    yolo(tmp_path)
    assert survey(tmp_path, classes=("ship",)).notes == []


def test_other_content_of_the_folder_is_listed(tmp_path):
    image(tmp_path / "Bilder/a.png")
    write(tmp_path / "Tabellen/a.csv", "x")
    write(tmp_path / "liste.xlsx", "x")
    with pytest.raises(UserError) as caught:
        survey_boxes(DetectionData(root=tmp_path))
    sentence = str(caught.value)
    for words in ("looked for", "Bilder/ (1 .png)", "Tabellen/ (1 .csv)", "1 .xlsx"):
        assert words in sentence
    assert "\n" not in sentence
