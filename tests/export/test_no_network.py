import subprocess
import sys
from pathlib import Path

import pytest

EXPORT = """
import os, sys, torch
NETWORK = "socket.connect", "socket.getaddrinfo" # of this process, and of those that it forks
sys.addaudithook(lambda event, args: os.write(2, b"NETWORK") if event in NETWORK else None)
from cgeartheye.inference.engines.openvino import openvino
from cgeartheye.export.quantize import quantize_openvino
class Graph(torch.nn.Conv2d):
    def forward(self, x):
        return super().forward(x.float())
images = torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8)
model = openvino.convert_model(Graph(3, 4, 3).eval(), example_input=images)
quantize_openvino(model, images)
assert "openvino_telemetry.main" not in sys.modules
"""


def test_an_export_tells_nobody(tmp_path: Path) -> None:
    """As OpenVINO and NNCF do by default: findings/openvino_reports_conversions.sh."""
    for package in ("openvino", "nncf"):
        pytest.importorskip(package)
    source = Path(__file__).parents[2] / "src"
    # Not on the build servers that these packages know: there they are silent by themselves.
    place = {"HOME": str(tmp_path), "PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", EXPORT], env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "NETWORK" not in done.stderr
    assert not list(tmp_path.rglob("*openvino*"))
