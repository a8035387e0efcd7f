#!/usr/bin/env bash
# Overviews of an internal mask say 'valid' wherever any pixel beneath is, whatever the share.
#
# Versions: rasterio 1.4.4 with the GDAL in its wheel.
# One would guess: an overview made with 'average' has its mask by majority, or with degrees between
# 0 and 255; and that 'mode' and 'average' differ little where the data are one value.
# Seen: of a GeoTIFF in which one pixel in 16 is valid, the overview by 4 is valid everywhere with
# 'average' and 'bilinear' (255, no degrees), and nowhere with 'mode'. A thumbnail of a
# scene with scattered clouds or gaps has none of them, or no data at all.
# So: shares of valid pixels are to be counted at full resolution.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import shutil

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin

profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint8",
           "crs": "EPSG:32631", "transform": from_origin(5e5, 5e6, 10, 10)}
mask = np.zeros((64, 64), np.uint8)
mask[::4, ::4] = 255
with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
    with rasterio.open("a.tif", "w", **profile) as file:
        file.write(np.full((1, 64, 64), 7, np.uint8))
        file.write_mask(mask)
    for name in ("average", "bilinear", "mode"):
        shutil.copy("a.tif", f"{name}.tif")
        with rasterio.open(f"{name}.tif", "r+") as file:
            file.build_overviews([4], Resampling[name])
        with rasterio.open(f"{name}.tif") as file:
            seen = file.read_masks(1, out_shape=(16, 16))
        print(f"{name}: valid in the file {(mask > 0).mean():.4f}, in the overview "
              f"{(seen > 0).mean():.4f}, values {np.unique(seen).tolist()}")
        assert np.unique(seen).tolist() == ([0] if name == "mode" else [255])
PYTHON
