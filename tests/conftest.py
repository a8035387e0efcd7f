import os

# Each of pytest's processes has a core of its own, and what they start inherits it: more threads
# than cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))  # for failing_writes
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # for s3_server

import numpy as np
import pytest
from PIL import Image
from s3_server import make_bucket, s3_server, variables
from tests.quicker import leave_charts_out, shallow_backbone

WITHOUT_CHARTS = {"api", "apps", "cli", "commands", "docs", "export", "pretraining", "serve"}
WITHOUT_CHARTS |= {"test_benchmarks.py"}
LONGEST = "demo", "scale/test_cluster.py", "serve/test_page.py", "jobs/test_worker.py"
CLASSES = ("brick", "field", "water", "wood")


def draw_chip(label: int, seed: int, side: int = 40) -> np.ndarray:
    """A texture whose colour and stripes depend on the class, with noise."""
    random = np.random.default_rng([label, seed])
    color = np.array([(130, 110, 100), (125, 120, 100), (110, 115, 125), (105, 118, 105)][label])
    color = color + random.normal(0, 4, 3)
    stripes = np.sin(np.arange(side) * (label + 1) * 0.6 + random.uniform(0, 6)) * 25
    chip = color + stripes[:, None, None] + random.normal(0, 25, (side, side, 3))
    return chip.clip(0, 255).astype(np.uint8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three processes for two cores: many tests wait for servers, browsers and other processes."""
    return max(1, 3 * (os.cpu_count() or 1) // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests: at the end they would leave the other processes idle."""
    folder = Path(__file__).parent
    items.sort(key=lambda item: not str(item.path.relative_to(folder)).startswith(LONGEST))


@pytest.fixture(autouse=True)
def quick_reports(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave charts out, but in the tests of the reports themselves and of the demo."""
    # Not the fixture of a test, which would then be undone after those that look at what is left.
    with pytest.MonkeyPatch.context() as patch:
        if request.path.relative_to(Path(__file__).parent).parts[0] in WITHOUT_CHARTS:
            leave_charts_out(patch)
        yield


@pytest.fixture
def shallow() -> Iterator[None]:
    """See `shallow_backbone`."""
    with shallow_backbone():
        yield


@pytest.fixture(scope="session")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders with 46 images; 21 of them are tested, which no number divides."""
    root = tmp_path_factory.mktemp("chips")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for seed in range(11 if label else 13):
            Image.fromarray(draw_chip(label, seed)).save(root / name / f"{name}_{seed}.png")
    return root


@pytest.fixture
def config_file(chips: Path, tmp_path: Path) -> Path:
    """A config for these chips that trains in a second."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"""
backbone: {{name: tiny, weights: random}}
data: {{root: {chips}, image_size: 28, batch_size: 8, workers: 0, train_fraction: 0.55}}
training: {{epochs: 3, lr: 1e-2, decoder_lr_mult: 1.0, log_every: 1, device: cpu}}
cache: {{views: 2}}
work_dir: {tmp_path / "run"}
"""
    )
    return path


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """An S3 server of its own process: GDAL waits for it, and Python must not wait for GDAL."""
    pytest.importorskip("moto", reason="needs moto[server]")
    pytest.importorskip("obstore", reason="needs cgeartheye[s3]")
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An empty bucket, and the variables that lead to it."""
    from obstore.store import S3Store

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in variables(s3_address).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_S3_ENDPOINT", "AWS_HTTPS", "AWS_VIRTUAL_HOSTING"):
        monkeypatch.setenv(name, "")  # ours to set, the fixture's to restore
    monkeypatch.delenv("AWS_VIRTUAL_HOSTING")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return S3Store(make_bucket(s3_address), client_options={"allow_http": True})
