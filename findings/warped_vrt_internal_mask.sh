#!/usr/bin/env bash
# A warped view of a raster with an internal mask says that every pixel is valid.
#
# Versions: rasterio 1.4.4 with the GDAL in its wheel.
# One would guess: WarpedVRT carries the mask along, as it does nodata values and alpha bands.
# Seen: half of the pixels of a GeoTIFF with an internal mask are valid; in its WarpedVRT all are, the
# masked ones with the value 0, even where neither grid nor CRS changes. With
# add_alpha=True the half is right; but of a raster that has an alpha band already this raises
# 'The VRT already has an alpha band', where leaving it out is right.
# So: add_alpha=True exactly where there is a mask and no alpha band.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint8",
           "crs": "EPSG:32631", "transform": from_origin(5e5, 5e6, 10, 10)}
values, mask = np.full((64, 64), 7, np.uint8), np.zeros((64, 64), np.uint8)
mask[:, :32] = 255
with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open("mask.tif", "w", **profile) as file:
    file.write(values, 1)
    file.write_mask(mask)
with rasterio.open("alpha.tif", "w", **profile | {"count": 2}, alpha="yes") as file:
    file.write(np.stack([values, mask]))


def valid(path, **options):
    with rasterio.open(path) as file, WarpedVRT(file, **options) as view:
        return float((view.read_masks(1) > 0).mean())


print("same grid", valid("mask.tif"))
print("warped", valid("mask.tif", crs="EPSG:3857"))
print("warped, add_alpha", valid("mask.tif", crs="EPSG:3857", add_alpha=True))
print("alpha band, warped", valid("alpha.tif", crs="EPSG:3857"))
assert valid("mask.tif") == valid("mask.tif", crs="EPSG:3857") == 1
assert 0.4 < valid("mask.tif", crs="EPSG:3857", add_alpha=True) < 0.6
assert 0.4 < valid("alpha.tif", crs="EPSG:3857") < 0.6
try:
    valid("alpha.tif", crs="EPSG:3857", add_alpha=True)
except (RasterioError, ValueError) as error:
    print("alpha band, warped, add_alpha:", error)
    assert "already has an alpha band" in str(error)
else:
    raise AssertionError("no error")
PYTHON
