#!/usr/bin/env bash
# Text that looks like a date comes back from GeoJSON as a date, also where it is a name.
#
# Versions: pyogrio 0.13.0 with the GDAL in its wheel, geopandas 1.2.0.
# One would guess: JSON has no dates, so a property that is text stays text; that of '007' does.
# Seen: a column of seasons '2020-06-01' and one of sheet numbers '2020/01/02' are read as datetime64,
# so that str() of a value is another text ('2020-06-01 00:00:00'), and joins with the names of
# files or folders find nothing. In GeoPackage the same columns stay text.
# So: read with the open option DATE_AS_STRING=YES.
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

columns = {
    "season": ["2020-06-01", "2021-06-01"],
    "sheet": ["2020/01/02", "2020/01/03"],
    "place": ["007", "3.10"],
}
frame = geopandas.GeoDataFrame(columns, geometry=[box(0, 0, 1, 1)] * 2, crs="EPSG:4326")
frame.to_file("a.geojson", driver="GeoJSON")
frame.to_file("a.gpkg")
json, package = geopandas.read_file("a.geojson"), geopandas.read_file("a.gpkg")
print("GeoJSON", {name: str(json[name].iloc[0]) for name in columns})
print("GPKG   ", {name: str(package[name].iloc[0]) for name in columns})
assert json["season"].dtype.kind == json["sheet"].dtype.kind == "M"
assert str(json["season"].iloc[0]) == "2020-06-01 00:00:00"
assert json["place"].tolist() == columns["place"]
assert package["season"].tolist() == columns["season"]
option = geopandas.read_file("a.geojson", DATE_AS_STRING="YES")
assert option["season"].tolist() == columns["season"]
PYTHON
