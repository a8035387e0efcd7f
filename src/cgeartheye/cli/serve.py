"""The commands of the platform: a server, its workers, and its tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgeartheye.geo.remote import as_path, is_remote
from cgeartheye.utils.errors import UserError

if TYPE_CHECKING:
    from cgeartheye.serve.settings import Settings

Folder = Annotated[
    Path | None, typer.Option(help="Where uploads and jobs are [the user's data folder].")
]
Cluster = Annotated[
    str | None,
    typer.Option(help="Make the maps by Ray: local, or the address of a cluster."),
]
RegistryFolder = Annotated[
    Path | None, typer.Option("--registry", help="Folder of applications [the user's own].")
]


def serve_command(
    registry: RegistryFolder = None,
    folder: Folder = None,
    scenes: Annotated[
        list[Path] | None,
        typer.Option(
            parser=as_path,
            metavar="FOLDER|ADDRESS",
            help="A folder of scenes to offer, read only; s3://BUCKET/PREFIX/, or the https:// "
            "address of one. Repeat.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make maps.")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    database: Annotated[
        str | None,
        typer.Option(envvar="CGEARTHEYE_DATABASE", help="postgresql://... [SQLite in the folder]."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Hashes of the tokens; needed beyond loopback.")
    ] = None,
    max_area: Annotated[float, typer.Option(min=0, help="km2 of a job.")] = 10_000.0,
    max_upload: Annotated[int, typer.Option(min=1, help="MB of a scene.")] = 4096,
    max_disk: Annotated[float, typer.Option(min=0, help="GB of uploads and results.")] = 200.0,
    max_queued: Annotated[int, typer.Option(min=1, help="Jobs of an owner at a time.")] = 20,
    max_requests: Annotated[
        float, typer.Option(min=1, help="Requests a second of an owner, on average.")
    ] = 50.0,
    keep_days: Annotated[float, typer.Option(min=0, help="After which results go.")] = 30.0,
    cluster: Cluster = None,
) -> None:
    """Serve application models: a page, an API (OGC API - Processes) and tiles."""
    with _extra():
        from cgeartheye.serve.run import serve
    settings = _settings(
        folder,
        registry,
        database,
        scene_folders=tuple(_existing(scenes or [])),
        token_file=token_file,
        max_area=max_area,
        max_upload=max_upload * 2**20,
        max_disk=round(max_disk * 2**30),
        max_queued=max_queued,
        requests_per_second=max_requests,
        keep_days=keep_days,
        cluster=cluster,
    )
    serve(settings, host, port, workers)


def worker_command(
    registry: RegistryFolder = None,
    folder: Folder = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="CGEARTHEYE_DATABASE",
            help="Of the jobs: postgresql://... or an SQLite file [that of the folder].",
        ),
    ] = None,
    cluster: Cluster = None,
    until_input_ends: Annotated[bool, typer.Option("--until-input-ends", hidden=True)] = False,
) -> None:
    """Work on the jobs of a server, on its machine or on one that shares its folders."""
    with _extra():
        from cgeartheye.serve.run import work
    work(_settings(folder, registry, store, cluster=cluster), until_input_ends)


def token_command(
    name: Annotated[str, typer.Argument(help="Who gets the token.")],
    token_file: Annotated[Path, typer.Option(help="File of hashes, made if it is not there.")],
    scope: Annotated[str, typer.Option(help="read, run or admin.")] = "run",
) -> None:
    """Make a token for a server and print it, once."""
    with _extra():
        from cgeartheye.serve.auth import add_token
    print(add_token(token_file, name, scope))


def _settings(
    folder: Path | None, registry: Path | None, database: str | None, **others: Any
) -> "Settings":
    from cgeartheye.apps.registry import Registry, user_data
    from cgeartheye.serve.settings import Settings

    return Settings(
        folder=(folder or user_data("serve")).resolve(),
        registry=Registry(registry.resolve() if registry else None),
        database=database,
        **others,
    )


def _existing(folders: list[Path]) -> list[Path]:
    for folder in folders:
        if not is_remote(folder) and not folder.is_dir():
            raise UserError(f"--scenes {folder} is no folder")
    return folders


@contextmanager
def _extra() -> Iterator[None]:
    """Turn a missing extra into a sentence."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"the server needs {error.name}: pip install 'cgeartheye[serve]'"
        ) from error
