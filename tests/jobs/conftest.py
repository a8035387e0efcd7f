import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cgeartheye.jobs.store import JobStore

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _program(name: str) -> str | None:
    return str(DEBIAN[-1] / name) if DEBIAN else shutil.which(name)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server of the tests' own, from Debian's packages."""
    pytest.importorskip("psycopg", reason="needs cgeartheye[postgres]")
    if _program("initdb") is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    root = tmp_path_factory.mktemp("postgres")
    data, run = root / "data", ["env"]
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        for folder in (root, *root.parents):
            if folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o011)
        shutil.chown(root, "postgres", "postgres")
        run = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    init = [*run, _program("initdb"), "-D", data, "-A", "trust", "-U", "tests", "--no-sync"]
    subprocess.run(init, check=True, capture_output=True, cwd=root)
    options = f"-p {port} -k {root} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*run, _program("pg_ctl"), "-D", data, "-w", "-l", root / "log"]
    subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, cwd=root)
    yield f"postgresql://tests@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], capture_output=True, cwd=root)


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty store."""
    if request.param == "sqlite":
        yield str(tmp_path / "jobs.sqlite")
        return
    import psycopg

    server = request.getfixturevalue("postgres")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS jobs")
    yield server


@pytest.fixture
def open_store(address: str) -> Iterator[Callable[[], JobStore]]:
    """Opens the store, as another process would."""
    made: list[JobStore] = []

    def opened() -> JobStore:
        made.append(JobStore(address))
        return made[-1]

    yield opened
    for store in made:
        store.close()
