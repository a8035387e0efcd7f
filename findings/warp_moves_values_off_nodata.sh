#!/usr/bin/env bash
# A warped value that happens to equal nodata is moved by one: the mean of 1 and -1 is -1.
#
# Versions: rasterio 1.4.4 with the GDAL in its wheel.
# One would guess: 'average' of valid pixels 1 and -1 is 0, be it that 0 then reads as no data.
# Seen: with nodata=0 the result is -1 everywhere; without nodata it is 0. GDAL keeps a valid result
# from looking like a hole by taking a neighbouring value. In elevations or differences whose nodata
# is 0 this is a bias at exactly the value that matters, and masks made by comparing with 0 differ
# from those of the same warp without nodata.
# So: give signed data a nodata value outside of their range.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.warp import reproject

source = np.ones((16, 16), np.int16)
source[:, ::2] = -1
found = {}
for nodata in (None, 0, -32768):
    target = np.full((8, 8), 99, np.int16)
    reproject(
        source,
        target,
        src_transform=from_origin(0, 16, 1, 1),
        dst_transform=from_origin(0, 16, 2, 2),
        src_crs="EPSG:32631",
        dst_crs="EPSG:32631",
        resampling=Resampling.average,
        src_nodata=nodata,
        dst_nodata=nodata,
    )
    found[nodata] = np.unique(target).tolist()
    print("nodata", nodata, "-> values", found[nodata])
assert found == {None: [0], 0: [-1], -32768: [0]}
PYTHON
