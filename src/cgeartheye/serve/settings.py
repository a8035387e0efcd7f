"""Settings of a server."""

from dataclasses import dataclass
from pathlib import Path

from cgeartheye.apps.registry import Registry


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        folder: where uploads, jobs and, by default, the table of jobs are.
        registry: of the applications.
        scene_folders: of the operator, read only, or addresses (`remote.as_path`); their rasters
            are offered to everybody.
        database: of the jobs; none: SQLite in `folder`.
        token_file: hashes of the tokens; none: everybody may do all, which is for loopback alone.
        max_upload: bytes of a file.
        max_area: km2 of a job.
        max_queued: jobs of an owner that wait or run.
        max_disk: bytes of uploads and results together.
        keep_days: after which results are deleted.
        requests_per_second: of an owner, on average.
        cluster: address of a Ray cluster that makes the maps, or `local`; none: each worker does.
    """

    folder: Path
    registry: Registry
    scene_folders: tuple[Path, ...] = ()
    database: str | None = None
    token_file: Path | None = None
    max_upload: int = 4 * 2**30
    max_area: float = 10_000.0
    max_queued: int = 20
    max_disk: int = 200 * 2**30
    keep_days: float = 30.0
    requests_per_second: float = 50.0
    cluster: str | None = None

    @property
    def jobs(self) -> Path:
        """Folder with a folder for each job."""
        return self.folder / "jobs"

    @property
    def labels(self) -> Path:
        """Folder with a folder for each scene, with a file for each user's labels."""
        return self.folder / "labels"

    @property
    def uploads(self) -> Path:
        """Folder of uploaded scenes."""
        return self.folder / "scenes"

    @property
    def store(self) -> str:
        """Address of the table of jobs."""
        return self.database or str(self.folder / "jobs.sqlite")
