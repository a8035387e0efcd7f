"""Clients of others: GDAL by ranges, and owslib's client of OGC API - Processes."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from cgeartheye.jobs.store import JobStore
from cgeartheye.serve.settings import Settings

READ = """
import json, sys, rasterio
with rasterio.open("/vsicurl/" + sys.argv[1]) as file:
    part = file.read(1, window=((20, 40), (30, 60)))
    print(json.dumps([file.width, file.height, file.crs.to_string(), part.tolist()]))
"""


def test_owslib_runs_a_job_and_gdal_reads_its_map(
    address: str,
    settings: Settings,
    work_off: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    processes = pytest.importorskip("owslib.ogcapi.processes", reason="pip install owslib")
    client = processes.Processes(address)
    assert [one["id"] for one in client.processes()] == ["change", "land", "things"]
    scenes = client._request(path="scenes")["scenes"]
    scene = next(one["id"] for one in scenes if one["label"] == "fine.tif")
    described = client.process("land")
    assert described["inputs"]["scene"]["minOccurs"] == 1
    job = client.execute("land", {"scene": scene}, async_=True)
    work_off()
    store = JobStore(settings.store)
    (done,) = store.find()
    assert done.status == "successful"
    store.close()
    place = f"{address}/jobs/{done.id}/results/map.tif"
    read = subprocess.run([sys.executable, "-c", READ, place], capture_output=True, check=True)
    width, height, crs, part = json.loads(read.stdout)
    assert (width, height, crs) == (168, 112, "EPSG:32650")
    assert {value for row in part for value in row} <= {0, 1, 2}
    assert job is not None
    # Every request and every step of the job is a line of JSON.
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line[:1] == "{"]
    assert {"request", "job begun", "job ended"} <= {line["event"] for line in lines}
    (execution,) = (line for line in lines if line.get("path", "").endswith("/execution"))
    assert (execution["method"], execution["status"]) == ("POST", 201)
