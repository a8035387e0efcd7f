#!/usr/bin/env bash
# A CRS without an EPSG code is lost in GeoJSON, and metres are read back as degrees.
#
# Versions: pyogrio 0.13.0 with the GDAL in its wheel, geopandas 1.2.0.
# One would guess: an error or a warning when writing, or coordinates reprojected to WGS 84, since
# GeoJSON can name a CRS by its code only (old form) or not at all (RFC 7946).
# Seen: to_file(driver='GeoJSON') of a frame in a transverse Mercator of one's own (PROJ string)
# writes the metres as they are, without a member 'crs', and warns of nothing; read_file then says
# EPSG:4326, with an easting of 500000 as a longitude. A frame in EPSG:32631 gets its member 'crs'.
# So: reproject to EPSG:4326 before writing GeoJSON.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyogrio==0.13.0 geopandas==1.2.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import json
import warnings

import geopandas
import pyproj
from shapely.geometry import box

own = pyproj.CRS.from_proj4(
    "+proj=tmerc +lat_0=10 +lon_0=20 +x_0=500000 +y_0=0 +ellps=GRS80 +units=m"
)
for name, crs in (("own", own), ("utm", "EPSG:32631")):
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[box(5e5, 100, 500010, 110)], crs=crs)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        frame.to_file(f"{name}.geojson", driver="GeoJSON")
    member = json.load(open(f"{name}.geojson")).get("crs")
    again = geopandas.read_file(f"{name}.geojson")
    print(name, "| crs in the file:", member, "| read as", again.crs.to_string(),
          again.total_bounds.tolist(), "| warnings:", len(said))
    if name == "own":
        assert member is None and not said
        assert again.crs.to_string() == "EPSG:4326"
        assert again.total_bounds[0] == 5e5
    else:
        assert again.crs.to_string() == "EPSG:32631"
PYTHON
