"""Maps by actors of Ray: each holds the model and maps the blocks that it is given.

Block ids cross the wire, and pixels never do. The files on the disk, or in a bucket, record what is
finished, so the driver may be lost too.
"""

from pathlib import Path
from typing import Any

from cgeartheye.geo.remote import is_remote
from cgeartheye.scale.actors import connected
from cgeartheye.scale.blocks import BlockMapper
from cgeartheye.utils.console import bar


def map_on_cluster(
    address: str,
    workers: int | None,
    run: Path,
    scenes: list[Path],
    out: Path,
    options: dict[str, Any],
    overrides: list[str],
    resume: bool = False,
    after: list[Path] | None = None,
    engine: str | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Map a scene by many processes; the result has the bytes of `map_scenes`.

    Args:
        address: of a Ray cluster, or `local`: the processes are on this machine.
        workers: processes; none: one for each GPU of the cluster, or for each two cores.
        run: see `map_scenes`; like all paths, it must be there on each machine.
        scenes: of the only or the first date.
        out: a folder that all machines share, or an address of S3: blocks then go there.
        options: fields of `mapping.Options` that are set.
        overrides: `field=value` for the model's config.
        resume: go on with an unfinished map.
        after: of the second date.
        engine: torch, onnx or openvino; see `map_scenes`.
        precision: see `map_scenes`.

    Returns:
        What `map.json` holds; of an address it is in `remote.cache_folder`, not yet there.

    Raises:
        UserError: Ray is not installed, its address does not answer, or a block fails.
    """
    options = {k: _resolved(v) if isinstance(v, Path) else v for k, v in options.items()}
    if options.get("dem") and Path(options["dem"]).is_file():  # else it is a height
        options["dem"] = str(Path(options["dem"]).resolve())
    paths = run.resolve(), [_resolved(path) for path in scenes], _resolved(out)
    second = None if after is None else [_resolved(path) for path in after]
    with connected(address) as cluster:
        driver = BlockMapper(*paths, options, overrides, second, engine, precision)
        # All compute on the driver's kind of device: others would give other bytes.
        device = driver.job.settings["device"]
        on_gpu = device == "cuda"
        overrides = [*overrides, f"training.device={device}"]
        given = *paths, options, overrides, second, engine, precision
        count = cluster.count(workers, on_gpu)
        left = driver.begin(count, resume)
        with bar("mapping", left, "blocks") as progress:
            if left:
                blocks = driver.unfinished()
                count = min(count, left)
                for block in cluster.work(BlockMapper, given, "map_block", blocks, count, on_gpu):
                    driver.take(block)
                    progress.advance()
    return driver.finish()  # all rows are there: what is left is to write the files


def _resolved(path: Path) -> Path:
    return path if is_remote(path) else path.resolve()
