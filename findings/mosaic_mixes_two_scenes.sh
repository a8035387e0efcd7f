#!/usr/bin/env bash
# A mosaic of two RGB scenes has pixels whose red is of one scene and whose green is of the other.
#
# Versions: rasterio 1.4.4 with its GDAL, Python 3.11.
# One would guess: where two scenes overlap, a pixel is of the upper one if it has data there, and
# rasterio's own dataset_mask() says that it has, as only one of its bands equals nodata.
# Seen: with nodata=0, a pixel (0, 90, 90) of the upper scene over (200, 200, 200) of the lower one
# comes out as (200, 90, 90), a color that neither has, in rasterio.merge.merge and in a virtual
# raster of the form that gdalbuildvrt writes: both judge each band by itself.
# An internal mask in place of the nodata value changes nothing in merge, which takes what equals its
# own fill value as empty; in a virtual raster with <UseMaskBand> the pixel is then (0, 90, 90).
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import rasterio
from rasterio.merge import merge
from rasterio.transform import from_origin

SIDE = 4
PROFILE = {
    "driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "nodata": 0,
    "crs": "EPSG:32650", "transform": from_origin(500_000, 4_400_000, 1, 1),
}  # fmt: skip


def write(name, color, **changed):
    with rasterio.open(name, "w", **PROFILE | changed) as file:
        if "nodata" in changed:
            file.write_mask(True)
        file.write(np.broadcast_to(np.array(color, np.uint8)[:, None, None], (3, SIDE, SIDE)))


write("upper.tif", (0, 90, 90))
write("lower.tif", (200, 200, 200))
with rasterio.open("upper.tif") as file:
    whole = bool(file.dataset_mask().all())  # no pixel of it is empty



def of(pixels):
    return tuple(int(value) for value in pixels[:, 0, 0])


merged = of(merge(["upper.tif", "lower.tif"])[0])
write("masked.tif", (0, 90, 90), nodata=None)
masked = of(merge(["masked.tif", "lower.tif"])[0])



def virtual(*sources):
    """Read a pixel of a virtual raster of files, each with what judges its pixels."""
    bands = ""
    for band in (1, 2, 3):
        bands += f'<VRTRasterBand dataType="Byte" band="{band}">'
        for name, judge in sources:
            bands += (
                f'<ComplexSource><SourceFilename relativeToVRT="0">{name}</SourceFilename>'
                f"<SourceBand>{band}</SourceBand>{judge}</ComplexSource>"
            )
        bands += "</VRTRasterBand>"
    size = f'rasterXSize="{SIDE}" rasterYSize="{SIDE}"'
    with rasterio.open(f"<VRTDataset {size}>{bands}</VRTDataset>") as file:
        return of(file.read())


by_value, by_mask = "<NODATA>0</NODATA>", "<UseMaskBand>true</UseMaskBand>"
drawn = virtual(("lower.tif", by_value), ("upper.tif", by_value))
drawn_by_mask = virtual(("lower.tif", by_value), ("masked.tif", by_mask))
print(f"upper scene has data everywhere: {whole}")
print(f"merged {merged}, with a mask {masked}")
print(f"virtual raster {drawn}, with a mask {drawn_by_mask}")
mixed = (200, 90, 90)
sys.exit(not (whole and merged == masked == drawn == mixed and drawn_by_mask == (0, 90, 90)))
PYTHON
