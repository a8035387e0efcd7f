#!/usr/bin/env bash
# The overviews of a class map made into a COG hold classes that the map has not.
#
# Versions: rasterio 1.4.4 with the GDAL in its wheel, driver COG.
# One would guess: 8-bit whole numbers are decimated by taking pixels, as build_overviews and gdaladdo
# do if nothing is said.
# Seen: a map of the classes 1, 5 and 20 has ten values in its first overview, among them 2, 3, 4, 6, 7,
# 18 and 19: the driver's own default is cubic. With a colour table it is nearest, and three
# values are left; so the same map is right with a palette and wrong without one, and only so when
# zoomed out.
# So: copy with OVERVIEW_RESAMPLING=NEAREST or MODE.
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
import rasterio.shutil
from rasterio.transform import from_origin

classes = np.array([1, 5, 20], np.uint8)
values = np.random.default_rng(0).choice(classes, (64, 64)).repeat(16, 0).repeat(16, 1)
profile = {"driver": "GTiff", "width": 1024, "height": 1024, "count": 1, "dtype": "uint8",
           "crs": "EPSG:32631", "transform": from_origin(5e5, 5e6, 10, 10)}


def in_overview(palette, **options):
    with rasterio.open("a.tif", "w", **profile) as file:
        file.write(values, 1)
        if palette:
            file.write_colormap(1, {number: (number, 0, 0, 255) for number in range(256)})
    rasterio.shutil.copy("a.tif", "cog.tif", driver="COG", **options)
    with rasterio.open("cog.tif") as file:
        assert file.overviews(1) == [2]
        return np.unique(file.read(1, out_shape=(512, 512))).tolist()


print("without a palette", in_overview(False))
print("with one", in_overview(True))
print("OVERVIEW_RESAMPLING=NEAREST", in_overview(False, OVERVIEW_RESAMPLING="NEAREST"))
assert set(in_overview(False)) > {1, 5, 20}
assert in_overview(True) == in_overview(False, OVERVIEW_RESAMPLING="NEAREST") == [1, 5, 20]
PYTHON
