#!/usr/bin/env bash
# Appending to a layer goes by the position of columns and ignores the CRS.
#
# Versions: pyogrio 0.13.0 with the GDAL in its wheel, geopandas 1.2.0.
# One would guess: columns are matched by name, and another CRS is refused.
# Seen: to_file(mode='a') of a frame whose text columns come in another order puts the values into
# each other's columns, in GeoPackage, GeoJSON and FlatGeobuf alike, without an error or a warning:
#   {'kind': ['ship', '0.8'], 'score': ['0.9', 'tank']}
# A frame in EPSG:32631 appended to a layer in EPSG:4326 leaves its metres there as degrees. (A
# column that the layer does not have is an error.)
# So: bring frames together in memory, or order and reproject them before appending.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyogrio==0.13.0 geopandas==1.2.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import geopandas
from shapely.geometry import box

for driver, ending in (("GPKG", "gpkg"), ("GeoJSON", "geojson"), ("FlatGeobuf", "fgb")):
    path = f"order.{ending}"
    first = {"kind": ["ship"], "score": ["0.9"]}
    second = {"score": ["0.8"], "kind": ["tank"]}
    for mode, columns in (("w", first), ("a", second)):
        frame = geopandas.GeoDataFrame(columns, geometry=[box(0, 0, 1, 1)], crs="EPSG:4326")
        frame.to_file(path, driver=driver, mode=mode)
    found = geopandas.read_file(path).drop(columns="geometry").to_dict("list")
    print(driver, found)
    assert found == {"kind": ["ship", "0.8"], "score": ["0.9", "tank"]}

for mode, crs in (("w", "EPSG:4326"), ("a", "EPSG:32631")):
    shape = box(0, 0, 1, 1) if mode == "w" else box(5e5, 0, 5e5 + 1, 1)
    frame = geopandas.GeoDataFrame({"kind": ["ship"]}, geometry=[shape], crs=crs)
    frame.to_file("system.gpkg", mode=mode)
found = geopandas.read_file("system.gpkg")
print(found.crs.to_string(), found.total_bounds.tolist())
assert found.crs.to_string() == "EPSG:4326" and found.total_bounds[2] == 5e5 + 1
PYTHON
