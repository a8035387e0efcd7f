"""A client that a generator of others makes of `openapi.json` runs a job."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cgeartheye.serve.app import create_app
from cgeartheye.serve.settings import Settings

GENERATOR = shutil.which("openapi-python-client")

pytestmark = pytest.mark.skipif(GENERATOR is None, reason="pipx install openapi-python-client")


def test_a_generated_client_runs_a_job(
    address: str,
    settings: Settings,
    work_off: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(create_app(settings).openapi()))
    command = [GENERATOR, "generate", "--meta", "none", "--output-path", tmp_path / "made"]
    done = subprocess.run(
        [*map(str, command), "--path", str(description)], capture_output=True, text=True, check=True
    )
    assert "WARNING" not in done.stdout + done.stderr  # every operation was understood
    monkeypatch.syspath_prepend(tmp_path)

    def operation(tag: str, name: str) -> Any:
        return importlib.import_module(f"made.api.{tag}.{name}")

    client = importlib.import_module("made").Client(base_url=address)
    models = importlib.import_module("made.models")
    listed = operation("scenes", "scenes_scenes_get").sync_detailed(client=client)
    scenes = json.loads(listed.content)["scenes"]
    scene = next(one["id"] for one in scenes if one["label"] == "fine.tif")
    execute = operation("ogc_api", "execute_processes_process_execution_post")
    body = models.Execution(
        inputs=models.Inputs(
            scene=scene, options=models.MapOptions(vector_format=[], probabilities=True)
        )
    )
    begun = execute.sync_detailed("land", client=client, body=body, prefer="respond-async")
    assert begun.status_code == 201
    job = json.loads(begun.content)["jobID"]
    work_off()
    state = operation("ogc_api", "job_status_jobs_job_get").sync_detailed(job, client=client)
    assert json.loads(state.content)["status"] == "successful"
    results = operation("ogc_api", "job_results_jobs_job_results_get")
    found = json.loads(results.sync_detailed(job, client=client).content)
    assert {"map", "probabilities", "facts"} <= set(found)
    sys.modules.pop("made", None)
