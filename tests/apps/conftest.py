import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # the toys

import toy_runs


@pytest.fixture(scope="session")
def land_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_runs.train_land(tmp_path_factory.mktemp("land"))


@pytest.fixture(scope="session")
def change_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_runs.train_change(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="session")
def things_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_runs.train_things(tmp_path_factory.mktemp("things"))
