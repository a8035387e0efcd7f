"""The command that maps scenes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cgeartheye.cli.options import (
    Crs,
    Dem,
    EngineName,
    InputGsd,
    Overlap,
    Overrides,
    Precision,
    RunOrModel,
    Stretch,
)
from cgeartheye.geo.catalog import scenes_of
from cgeartheye.geo.remote import as_path, is_remote, local_folder
from cgeartheye.utils.errors import UserError

Scenes = Annotated[
    list[Path] | None,
    typer.Argument(
        parser=as_path,
        help="Rasters, folders of them, s3://... and https://..., or an index of scenes (STAC "
        "ItemCollection, GeoParquet): one mosaic.",
        metavar="SCENE...",
    ),
]
Order = Annotated[
    str | None,
    typer.Option(
        help="Of a mosaic, which scene is seen where several have data: recent, clear (of clouds), "
        "first [the last that is named]."
    ),
]


def map_command(
    run: RunOrModel,
    out: Annotated[
        Path,
        typer.Option(parser=as_path, metavar="FOLDER", help="For the map alone; or s3://..."),
    ],
    scenes: Scenes = None,
    before: Annotated[
        list[Path] | None,
        typer.Option(
            parser=as_path,
            metavar="SCENE",
            help="For a change model, the scene of the first date. Repeat: one mosaic.",
        ),
    ] = None,
    after: Annotated[
        list[Path] | None,
        typer.Option(
            parser=as_path, metavar="SCENE", help="That of the second date, on any grid of its own."
        ),
    ] = None,
    date_labels: Annotated[
        tuple[str, str] | None,
        typer.Option(help="What to call the two dates [their tag of date, or file name]."),
    ] = None,
    coregister: Annotated[
        bool,
        typer.Option("--coregister", help="Find how the second date is displaced; move it back."),
    ] = False,
    vector_format: Annotated[
        list[str] | None,
        typer.Option(
            help="Polygons too: gpkg, parquet, geojson or fgb; of objects gpkg if "
            "none is named. Repeat for several."
        ),
    ] = None,
    min_area: Annotated[
        float | None,
        typer.Option(
            help="Minimum mapping unit of polygons in square metres: smaller areas go to the "
            "largest one beside them (as in gdal_sieve)."
        ),
    ] = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="Cut the corners of polygons.")] = False,
    transparent: Annotated[
        str | None,
        typer.Option(
            help="A class without polygons, clear in the preview [the first, if it is called "
            "background]."
        ),
    ] = None,
    max_object_size: Annotated[
        float | None,
        typer.Option(
            help="For a detector, metres that the largest object reaches, its diagonal: windows "
            "overlap by as much (as in its training)."
        ),
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(help="For a detector, the least of an object (what its test found, or 0.3)."),
    ] = None,
    gsd: Annotated[
        float | None, typer.Option(help="GSD in m/px that the model sees [as in its training].")
    ] = None,
    aoi: Annotated[
        Path | None, typer.Option(help="A vector file; outside its polygons there is no map.")
    ] = None,
    overlap: Overlap = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write those of every class.")
    ] = False,
    bands: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Which bands are red, green and blue [as in training]."),
    ] = None,
    stretch: Stretch = None,
    crs: Crs = None,
    input_gsd: InputGsd = None,
    dem: Dem = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    set_: Overrides = None,
    engine: EngineName = None,
    precision: Precision = None,
    autotune: Annotated[
        bool,
        typer.Option(
            "--autotune",
            help="Measure first which engine, threads and batch are fastest; kept for later maps.",
        ),
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(help="Map by many processes: local, or the address of a Ray cluster."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of --cluster [one a GPU, or one for two cores].")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="Map a part, K/N or `array` in an array of Slurm or Kubernetes; --resume then "
            "makes one map of the parts."
        ),
    ] = None,
    order: Order = None,
    tiles: Annotated[
        float | None,
        typer.Option(
            metavar="METRES",
            help="Write GeoTIFFs of that size, cut at multiples of it in the scene's CRS, and a "
            "VRT and a STAC Collection of them.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish a map that was interrupted.")
    ] = False,
) -> None:
    """Map a scene of any size, what changed, or objects: GeoTIFF, polygons, a preview page."""
    from cgeartheye.apps.registry import find_run
    from cgeartheye.commands.map import map_scenes
    from cgeartheye.scale.block_store import BlockStore

    if not (scenes or before or after):
        raise UserError("name a scene to map, or two dates with --before and --after")
    if scenes and (before or after):
        raise UserError(f"{scenes[0]} is named beside --before and --after: leave one or the other")
    if bool(before) != bool(after):
        missing = "--after" if before else "--before"
        raise UserError(f"one date is missing: name its scene with {missing}")

    given = {
        "vector_format": tuple(vector_format) if vector_format else None,
        "min_area": min_area,
        "smooth": smooth or None,
        "transparent": transparent,
        "gsd": gsd,
        "aoi": aoi,
        "overlap": overlap,
        "probabilities": probabilities or None,
        "bands": bands,
        "stretch": stretch,
        "crs": crs,
        "input_gsd": input_gsd,
        "dem": dem,
        "date_labels": date_labels,
        "coregister": coregister or None,
        "max_object_size": max_object_size,
        "score_threshold": score_threshold,
        "tiles": tiles,
    }
    options = {name: value for name, value in given.items() if value is not None}
    overrides = [*(set_ or []), *([f"training.device={device}"] if device else [])]
    if autotune and (cluster or part):
        raise UserError("--autotune measures this process: leave it out with --cluster and --part")
    found = find_run(run)
    first = scenes_of(scenes or before or [], order)
    second = scenes_of(after, order) if after else None
    try:
        if part:
            from cgeartheye.scale.blocks import BlockMapper, array_place, map_part

            number = array_place(part)
            one = BlockMapper(found, first, out, options, overrides, second, engine, precision)
            map_part(one, number)
            return
        with local_folder(out) as folder:
            if cluster:
                from cgeartheye.scale.cluster import map_on_cluster

                # Machines may share no folder: their blocks go to the address too.
                asked = found, first, folder if cluster == "local" else out, options, overrides
                map_on_cluster(cluster, workers, *asked, resume, second, engine, precision)
            elif is_remote(out) and BlockStore(out).begun():
                from cgeartheye.scale.blocks import BlockMapper

                one = BlockMapper(found, first, out, options, overrides, second, engine, precision)
                one.begin(1, resume)
                one.finish()
            else:
                asked = found, first, folder, options, overrides
                map_scenes(*asked, resume, second, engine, precision, autotune)
        if is_remote(out):
            BlockStore(out).clear()
    except KeyboardInterrupt:
        print("interrupted: --resume finishes the map", file=sys.stderr)
        raise typer.Exit(130) from None


def plan_command(
    run: RunOrModel,
    scenes: Scenes,
    after: Annotated[
        list[Path] | None,
        typer.Option(
            parser=as_path,
            metavar="SCENE",
            help="For a change model, the scene of the second date.",
        ),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="How many machines like this one finish it in that time?")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Share of a window that its neighbor covers too.")
    ] = None,
    order: Order = None,
    set_: Overrides = None,
) -> None:
    """Estimate what a map will take: hours, disk, machines; from mapping some of its rows."""
    from rich.table import Table

    from cgeartheye.apps.registry import find_run
    from cgeartheye.scale.plan import plan
    from cgeartheye.utils.console import show

    options = {} if overlap is None else {"overlap": overlap}
    second = scenes_of(after, order) if after else None
    first = scenes_of(scenes or [], order)
    made = plan(find_run(run), first, options, set_ or [], hours, second)
    table = Table(show_header=False)
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in made.shares.items())
    for name, value in (
        ("scene", f"{made.square_km:,.3f} km2, {made.windows:,} windows"),
        ("this machine", f"{_time(made.seconds)}: {made.square_km / made.seconds:,.4f} km2/s"),
        ("measured", f"{made.measured_rows} rows of windows from the middle on"),
        ("bound by", f"{made.bound} ({shares})"),
        ("disk while it is made", f"{made.disk_bytes / 1e9:,.2f} GB, and polygons"),
        ("memory", f"{made.memory_bytes / 1e9:,.2f} GB"),
    ):
        table.add_row(name, value)
    if made.machines is not None:
        table.add_row(f"machines for {hours:g} h", f"{made.machines} (at 90 % efficiency)")
    show(table)


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 3600:,.1f} h"
