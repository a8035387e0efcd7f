"""Objects in GeoJSON: xView's one file in pixels, SpaceNet's file for each image on the map."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError

from cgeartheye.data.formats.coco import CocoFile
from cgeartheye.data.formats.flags import flag_of
from cgeartheye.data.formats.outlines import corners_around
from cgeartheye.data.formats.voc_dota_yolo import Annotation, Faults, Id, Written, corners_of_sides
from cgeartheye.geo.georeference import place_of
from cgeartheye.utils.errors import UserError

BUILDING = "building"
"""The class of SpaceNet's outlines, which do not name it."""

_CLASS = ("class", "class_name", "label", "category", "type_name")
_PIXELS = "bounds_imcoords"  # xView's property: two or four corners in pixels of its image

# Parts of a file's name in which SpaceNet's image and its outlines differ.
_KINDS = frozenset(
    {"rgb-pansharpen", "mul-pansharpen", "pan", "mul", "rgb", "ps-rgb", "ps-ms", "ps-rgbnir"}
    | {"rgbnir", "sar-intensity", "buildings", "geo", "geojson", "3band", "8band"}
)

XVIEW = {
    11: "Fixed-wing Aircraft", 12: "Small Aircraft", 13: "Cargo Plane", 15: "Helicopter",
    17: "Passenger Vehicle", 18: "Small Car", 19: "Bus", 20: "Pickup Truck", 21: "Utility Truck",
    23: "Truck", 24: "Cargo Truck", 25: "Truck w/Box", 26: "Truck Tractor", 27: "Trailer",
    28: "Truck w/Flatbed", 29: "Truck w/Liquid", 32: "Crane Truck", 33: "Railway Vehicle",
    34: "Passenger Car", 35: "Cargo Car", 36: "Flat Car", 37: "Tank car", 38: "Locomotive",
    40: "Maritime Vessel", 41: "Motorboat", 42: "Sailboat", 44: "Tugboat", 45: "Barge",
    47: "Fishing Vessel", 49: "Ferry", 50: "Yacht", 51: "Container Ship", 52: "Oil Tanker",
    53: "Engineering Vehicle", 54: "Tower crane", 55: "Container Crane", 56: "Reach Stacker",
    57: "Straddle Carrier", 59: "Mobile Crane", 60: "Dump Truck", 61: "Haul Truck",
    62: "Scraper/Tractor", 63: "Front loader/Bulldozer", 64: "Excavator", 65: "Cement Mixer",
    66: "Ground Grader", 71: "Hut/Tent", 72: "Shed", 73: "Building", 74: "Aircraft Hangar",
    76: "Damaged Building", 77: "Facility", 79: "Construction Site", 83: "Vehicle Lot",
    84: "Helipad", 86: "Storage Tank", 89: "Shipping container lot", 91: "Shipping Container",
    93: "Pylon", 94: "Tower",
}  # fmt: skip
"""xView's 60 classes by `type_id` (Lam et al., "xView: objects in context in overhead imagery",
2018)."""

_XVIEW_UNNAMED = {75, 82}  # ids of a few boxes in xView's file that its list of classes lacks
_XVIEW_LOST = "1395.tif"  # named in xView's file, and in none of its archives


def core_name(name: str) -> str:
    """Return the part of a path that SpaceNet's images and outlines have in common.

    `RGB-PanSharpen_AOI_2_Vegas_img1` and `buildings_AOI_2_Vegas_img1` both give
    `AOI_2_Vegas_img1`.
    """
    folder, slash, stem = name.rpartition("/")
    kept = [part for part in stem.split("_") if part.casefold() not in _KINDS]
    return f"{folder}{slash}{'_'.join(kept)}" if kept else name


def read_pixel_geojson(path: Path, faults: Faults) -> CocoFile:
    """Read a GeoJSON file of all images, with boxes in pixels, as xView's.

    Args:
        path: the file.
        faults: takes the mistakes of single features.

    Returns:
        Its annotations in the form of a COCO file.

    Raises:
        UserError: it is missing or no such file.
    """
    images: dict[str, Written] = {}
    categories: dict[str, Id] = {}
    for number, feature in enumerate(_features(path), start=1):
        about = _properties(feature)
        image, place = str(about.get("image_id")), f"{path}: feature {number}"
        kind = about.get("type_id")
        if image == _XVIEW_LOST or kind in _XVIEW_UNNAMED:
            continue
        name = _class_of(about) or XVIEW.get(kind if isinstance(kind, int) else -1)
        corners = _pixel_corners(about.get(_PIXELS))
        if "image_id" not in about or name is None or corners is None:
            faults.add(
                place,
                f"needs the properties image_id, type_id of xView or a class, and {_PIXELS}, as in "
                "xView's file: correct or delete it",
            )
            continue
        categories.setdefault(name, kind if isinstance(kind, int) else name)
        images.setdefault(image, []).append((place, Annotation(name, corners)))
    if not images:
        raise UserError(
            f"{path} has no feature with image_id and {_PIXELS}, as xView's file: name another in "
            "data.annotations"
        )
    if set(categories) <= set(XVIEW.values()):
        categories = {name: number for number, name in XVIEW.items() if name in categories}
    return CocoFile(categories, images, dict(zip(images, images, strict=True)))


def read_map_geojson(path: Path, image: Path, oriented: bool, faults: Faults) -> Written:
    """Read a GeoJSON file of one image's objects, as SpaceNet's, in map coordinates.

    Args:
        path: the file; its CRS is WGS 84, or what its member `crs` names.
        image: georeferenced too.
        oriented: whether a polygon becomes the smallest rectangle around it, or the box along the
            axes of the image.
        faults: takes the mistakes.

    Returns:
        Where each object is written, and what it is. One without a class is a `building`.
    """
    try:
        content = _load(path)
        features = _features_of(content, path)
    except UserError as error:
        faults.add(str(error).partition(":")[0], "restore the file or take it out")
        return []
    outlines: list[tuple[str, str, np.ndarray, bool]] = []
    for number, feature in enumerate(features, start=1):
        place, about = f"{path}: feature {number}", _properties(feature)
        geometry = feature.get("geometry")
        difficult = flag_of(about.get("difficult"))
        try:
            shape = shapely.geometry.shape(geometry) if geometry else shapely.Polygon()
            points = shapely.get_coordinates(shape)
        except (AttributeError, KeyError, TypeError, ValueError, shapely.GEOSException):
            difficult = None
        if difficult is None:
            faults.add(place, "has a geometry or flag that cannot be read: correct or delete it")
        elif len(points):  # SpaceNet marks an image without buildings by an empty polygon
            outlines.append((place, _class_of(about) or BUILDING, points, difficult))
    if not outlines:
        return []
    to_pixels = _to_pixels(_crs_of(content), image)
    if to_pixels is None:
        faults.add(
            f"{path} and {image}",
            "cannot be laid over each other: the image needs a CRS and a transform",
        )
        return []
    boxes = corners_around([to_pixels(points) for _, _, points, _ in outlines], oriented)
    return [
        (place, Annotation(name, corners, difficult))
        for (place, name, _, difficult), corners in zip(outlines, boxes, strict=True)
        if corners is not None
    ]


def _to_pixels(crs: str, image: Path) -> Any:
    """Return what turns points on the map, `[n, 2]`, into pixels; none: there is no way."""
    place = place_of(image)
    if place is None or place.crs is None:
        return None
    try:
        to_image = Transformer.from_crs(crs, place.crs.to_wkt(), always_xy=True)
    except (ProjError, RasterioError):
        return None
    back = ~place.transform

    def apply(points: np.ndarray) -> np.ndarray:
        x, y = back @ to_image.transform(points[:, 0], points[:, 1])
        return np.stack([x, y], axis=1)

    return apply


def _class_of(about: Mapping[str, Any]) -> str | None:
    names = (about.get(field) for field in _CLASS)
    return next((name.strip() for name in names if isinstance(name, str) and name.strip()), None)


def _pixel_corners(text: Any) -> tuple[float, ...] | None:
    """Return corners written as `x0,y0,x1,y1`, or as four of them."""
    try:
        numbers = tuple(map(float, text.split(",") if isinstance(text, str) else text))
    except (TypeError, ValueError, OverflowError):
        return None
    if len(numbers) == 4:
        return corners_of_sides(*numbers)
    return numbers if len(numbers) == 8 else None


def _crs_of(content: Mapping[str, Any]) -> str:
    """Return the CRS that old GeoJSON names; WGS 84 where it does not."""
    try:
        return str(content["crs"]["properties"]["name"])
    except (KeyError, TypeError):
        return "OGC:CRS84"


def _properties(feature: Mapping[str, Any]) -> dict[str, Any]:
    about = feature.get("properties")
    return about if isinstance(about, dict) else {}


def _features(path: Path) -> list[dict[str, Any]]:
    return _features_of(_load(path), path)


def _features_of(content: Any, path: Path) -> list[dict[str, Any]]:
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list) or not all(isinstance(one, dict) for one in features):
        raise UserError(
            f"{path} is no GeoJSON with a list of features: export it again, or name another in "
            "data.annotations"
        )
    return features


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"no annotations {path}: correct data.annotations") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): export the annotations again") from error
