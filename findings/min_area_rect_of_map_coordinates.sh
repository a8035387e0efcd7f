#!/usr/bin/env bash
# OpenCV's smallest rectangle around an object in map coordinates has other sides than the object.
#
# Versions: opencv-python-headless 5.0.0.93, shapely 2.2.0.
# One would guess: a ship of 12 m x 3 m in UTM coordinates gives its own rectangle.
# Seen: minAreaRect takes float32 (float64 is refused) and computes in it. At a northing of 4,412,345 m
# neighbouring values are 0.5 m apart, and the rectangle comes out 12.19 m x 3.35 m, 13 % larger than
# the ship, with a corner 0.3 m off; shapely's oriented_envelope is within a millimetre.
# So: subtract an origin near the object first, or use shapely.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 shapely==2.2.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
import shapely

turn = np.deg2rad(30)
rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
ship = np.array([[0, 0], [12, 0], [12, 3], [0, 3]]) @ rotation.T + [500_123.37, 4_412_345.68]


def farthest(corners: np.ndarray) -> float:
    """Return how far the corner that is farthest from all of the ship's is from these, m."""
    return np.linalg.norm(ship[:, None] - corners[None], axis=-1).min(1).max()


def by_opencv(points: np.ndarray) -> np.ndarray:
    return cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32)))


try:
    cv2.minAreaRect(ship)
except cv2.error:
    print("float64 is refused")
else:
    raise SystemExit("float64 is taken")

envelope = shapely.oriented_envelope(shapely.MultiPoint(ship))
exact = farthest(shapely.get_coordinates(envelope))
rough = farthest(by_opencv(ship))
near = farthest(by_opencv(ship - ship[0]) + ship[0])
width, height = sorted(cv2.minAreaRect(ship.astype(np.float32))[1])
print(f"OpenCV: {height:.2f} m x {width:.2f} m")
print(f"corners off by: shapely {exact:.6f} m, OpenCV {rough:.2f} m, near an origin {near:.6f} m")
assert exact < 1e-3 and near < 1e-3 and rough > 0.25
assert width * height > 1.1 * 12 * 3
PYTHON
