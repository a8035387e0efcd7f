#!/usr/bin/env bash
# The UTM zone that geopandas estimates for ground on both sides of the antimeridian is half a world
# away.
#
# Versions: geopandas 1.2.0, pyproj 3.7.2.
# One would guess: zone 60 or 1 for a scene of Fiji, as for either half of it alone.
# Seen: estimate_utm_crs() takes the middle of the total bounds, and those of -179.9 to 179.9 degrees
# have theirs at Greenwich: EPSG:32730. Coordinates there lie beyond the pole: north is down, so that
# a raster warped to it stands on its head, without an error or a warning.
# So: take the zone of one of the shapes, or of the median of their middles on the circle.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check geopandas==1.2.0 pyproj==3.7.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import geopandas
from shapely.geometry import Point, box

west, east = box(179.5, -18, 179.9, -17), box(-179.9, -18, -179.5, -17)
zones = {}
for name, shapes in (("west", [west]), ("east", [east]), ("both", [west, east])):
    frame = geopandas.GeoSeries(shapes, crs="EPSG:4326")
    zones[name] = frame.estimate_utm_crs().to_epsg()
    print(name, zones[name])
assert zones == {"west": 32760, "east": 32701, "both": 32730}

south = geopandas.GeoSeries([Point(179.9, -18)], crs="EPSG:4326")
north = geopandas.GeoSeries([Point(179.9, -17)], crs="EPSG:4326")
for zone in (zones["west"], zones["both"]):
    rise = north.to_crs(zone).y[0] - south.to_crs(zone).y[0]
    print(f"one degree to the north in EPSG:{zone}: {rise / 1e3:+,.0f} km")
    assert (rise > 0) == (zone == zones["west"])
PYTHON
