"""Start a server with its workers, and end them together."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import rasterio
import uvicorn

from cgeartheye.jobs.store import JobStore
from cgeartheye.serve.app import create_app
from cgeartheye.serve.settings import Settings
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.events import log_event

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CACHE = 64 * 2**20  # bytes of decoded blocks; GDAL's own limit is a share of the machine's memory
_RESTART_SECONDS = 2.0  # after the death of a worker


def serve(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serve until interrupted.

    Args:
        settings: of the server.
        host: address to listen at; another than loopback needs a token file.
        port: to listen on; 0: any that is free.
        workers: processes that make maps; 0: others work on the same store.

    Raises:
        UserError: an open server without tokens, a port that is taken, or what `create_app` raises.
    """
    if host not in LOOPBACK and settings.token_file is None:
        raise UserError(
            f"--host {host} can be reached by others: make tokens with cgeartheye serve-token NAME "
            "--token-file FILE, and start with --token-file FILE"
        )
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    try:
        socket = config.bind_socket()
    except SystemExit as error:
        raise UserError(f"port {port} of {host} is taken: name another with --port") from error
    socket.listen(config.backlog)  # whoever reads the address may ask at once
    with rasterio.Env(GDAL_CACHEMAX=_CACHE), _workers(settings, workers):
        shown = f"[{host}]" if ":" in host else host
        log_info(f"CGEarthEye serves at http://{shown}:{socket.getsockname()[1]}/")
        server.run(sockets=[socket])


def work(settings: Settings, until_input_ends: bool = False) -> None:
    """Work on a server's jobs until interrupted.

    Args:
        settings: of the server; its folder and registry are shared with this machine.
        until_input_ends: or until the process that writes to the standard input has ended.

    Raises:
        UserError: the store cannot be opened.
    """
    from cgeartheye.jobs.worker import Worker

    worker = Worker(
        JobStore(settings.store), settings.jobs, settings.registry, cluster=settings.cluster
    )
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda *_: worker.stop())
    if until_input_ends:

        def watch() -> None:
            sys.stdin.read()
            worker.stop()

        threading.Thread(target=watch, daemon=True).start()
    worker.run()


@contextlib.contextmanager
def _workers(settings: Settings, count: int) -> Iterator[None]:
    """Keep so many worker processes alive."""
    command = [sys.executable, "-m", "cgeartheye", "worker"]
    command += ["--folder", str(settings.folder), "--registry", str(settings.registry.folder)]
    command += ["--until-input-ends"]
    command += ["--cluster", settings.cluster] if settings.cluster else []
    # The store may have a password, which arguments would show to everybody on this machine.
    environment = {**os.environ, "CGEARTHEYE_DATABASE": settings.store}

    def start() -> subprocess.Popen[bytes]:
        # Its input ends with this process, however that ends: then the worker ends too.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, env=environment
        )

    ended = threading.Event()
    processes = [start() for _ in range(count)]

    def watch() -> None:
        while not ended.wait(_RESTART_SECONDS):
            for number, process in enumerate(processes):
                if process.poll() is not None:
                    log_event("worker lost", process=process.pid, code=process.returncode)
                    processes[number] = start()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
        for process in processes:
            process.terminate()
        limit = time.monotonic() + 10
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, limit - time.monotonic()))
            process.kill()
