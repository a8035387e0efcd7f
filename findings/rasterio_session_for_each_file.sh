#!/usr/bin/env bash
# Opening local files with rasterio takes several times as long once boto3 and a key of AWS are there.
#
# Versions: rasterio 1.4.4, boto3 1.44.8 (numpy 2.4.6).
# One would guess: a session of AWS is made for files in buckets, and once.
# Seen: where AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are in the environment and boto3 can be
# imported, `with rasterio.open(path)` makes a new boto3.Session for every file, for local GeoTIFFs
# and /vsis3/ paths too, unless a rasterio.Env is active in the same thread. Each is made in Python
# and parses boto3's configuration anew: here some 20 ms a file, for files that open in 1 or 2 ms. An
# Env of the main thread does not help the threads of a pool. Without boto3, or without the key, there
# is none; GDAL itself reads the key from the environment and needs no session.
# So: open within `with rasterio.Env(session=DummySession())` in each thread.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    rasterio==1.4.4 boto3==1.44.8 numpy==2.4.6
cd "$folder"
export AWS_ACCESS_KEY_ID=anybody AWS_SECRET_ACCESS_KEY=anything AWS_REGION=us-east-1
cat >sessions.py <<'PYTHON'
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import numpy as np
import rasterio
import rasterio.session
from rasterio.session import DummySession
from rasterio.transform import from_origin

FILES = [f"{number}.tif" for number in range(40)]
made = []


class Counted(boto3.Session):
    def __init__(self, *words, **more):
        made.append(words)
        super().__init__(*words, **more)


boto3.Session = Counted


def opened(name):
    with rasterio.open(name) as file:
        return file.width


def opened_in_an_environment(name):
    with rasterio.Env(session=DummySession()):
        return opened(name)


def measure(title, work):
    made.clear()
    begin = time.perf_counter()
    work()
    milliseconds = 1000 * (time.perf_counter() - begin) / len(FILES)
    print(f"{title}: {len(made)} sessions for {len(FILES)} files, {milliseconds:.1f} ms a file")
    return len(made)


def in_threads(look):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(look, FILES))


with rasterio.Env(session=DummySession()):
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8"}
    place = from_origin(500_000, 4_400_000, 1, 1)
    for name in FILES:
        with rasterio.open(name, "w", crs="EPSG:32650", transform=place, **profile) as file:
            file.write(np.ones((1, 8, 8), np.uint8))
    main = measure("threads, an Env in the main thread", lambda: in_threads(opened))
    within = measure("one thread, within an Env", lambda: [opened(name) for name in FILES])
plain = measure("one thread, no Env", lambda: [opened(name) for name in FILES])
own = measure("threads, each file in an Env", lambda: in_threads(opened_in_an_environment))
assert (main, within, plain, own) == (len(FILES), 0, len(FILES), 0)
PYTHON
"$folder/venv/bin/python" sessions.py
