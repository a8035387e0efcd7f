#!/usr/bin/env bash
# Pillow halves the bits of colour chips and whitens grey ones of 16 bits.
#
# Versions: pillow 13.0.0; the files are written by opencv-python-headless 5.0.0.93.
# One would guess: 16 bits are kept or refused, and convert() brings them to 8 bits by scale.
# Seen: a PNG of three bands and 16 bits opens as mode RGB with the upper 8 bits of each value, and
# nothing states that half of the bits are gone: reflectances below 256 become 0 everywhere. A PNG of
# one band opens as I;16 with all its values, but convert("L") and convert("RGB") cut them off at 255
# instead of scaling them, so that an ordinary chip becomes white.
# So: read chips of 16 bits with rasterio, OpenCV (IMREAD_UNCHANGED) or imageio, and stretch them by
# a rule of your own.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
from PIL import Image

random = np.random.default_rng(0)
color = random.integers(0, 10_000, (32, 32, 3), dtype=np.uint16)
cv2.imwrite("color.png", color[..., ::-1])
opened = Image.open("color.png")
seen = np.asarray(opened)
print("three bands:", opened.mode, seen.dtype, "largest", seen.max(), "of", color.max())
assert opened.mode == "RGB" and seen.dtype == np.uint8 and np.array_equal(seen, color >> 8)

dark = np.full((32, 32, 3), 200, np.uint16)
cv2.imwrite("dark.png", dark)
assert np.asarray(Image.open("dark.png")).max() == 0

grey = random.integers(256, 10_000, (32, 32), dtype=np.uint16)
cv2.imwrite("grey.png", grey)
opened = Image.open("grey.png")
print("one band:", opened.mode, "as RGB:", np.unique(np.asarray(opened.convert("RGB"))))
assert opened.mode == "I;16" and np.array_equal(np.asarray(opened), grey)
for mode in ("L", "RGB"):
    assert (np.asarray(opened.convert(mode)) == 255).all()
PYTHON
