"""The commands that make a pre-training set from maps and mosaics, one a step."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgeartheye.cli.renamed import with_old_options
from cgeartheye.utils.errors import UserError

if TYPE_CHECKING:
    from cgeartheye.config import Jlssd

jlssd_app = typer.Typer(
    help="From maps and mosaics to a pre-training set: design, cut, quality, curate, build.",
    no_args_is_help=True,
)

_WORKERS = 2


@jlssd_app.command("design", cls=with_old_options("jlssd design"))
def design(
    regions: Annotated[Path, typer.Option(help="A vector file of polygons, in any system.")],
    landcover: Annotated[
        list[str],
        typer.Option(
            help="Land cover, classes in one band: a raster, a folder or any path of GDAL. "
            "Repeat: one mosaic."
        ),
    ],
    elevation: Annotated[
        list[str], typer.Option(help="Elevation in metres, given in the same ways.")
    ],
    num_places: Annotated[int, typer.Option(min=1, help="Places wanted in all, M of the formula.")],
    out: Annotated[
        Path, typer.Option(help="The table of places; strata and a report go beside it.")
    ] = Path("design.parquet"),
    cell_size: Annotated[
        int, typer.Option(help="Metres a side of the cells, of equal area.")
    ] = 1000,
    elevation_step: Annotated[float, typer.Option(help="Metres of an elevation band.")] = 200.0,
    region_column: Annotated[
        str | None, typer.Option(help="Names the regions [name, else the rows' numbers].")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="A CSV with columns value and class [WorldCover's to the published 7]."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which cells are drawn.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes.")] = _WORKERS,
) -> None:
    """Draw places so that all regions, land covers and elevations are seen."""
    from cgeartheye.jlssd.sampling.design import Inputs, make_design
    from cgeartheye.jlssd.sampling.result import SamplingPlan

    inputs = Inputs(regions, tuple(landcover), tuple(elevation), region_column, classes)
    make_design(inputs, SamplingPlan(num_places, elevation_step, seed), out, cell_size, workers)


@jlssd_app.command("cut")
def cut(
    mosaic: Annotated[
        list[str],
        typer.Option(
            metavar="SEASON=PATH",
            help="A raster, a folder or any path of GDAL, in any CRS. Repeat for "
            "each season; of one season, for more files.",
        ),
    ],
    design: Annotated[Path, typer.Option(help="The table that jlssd design wrote.")] = Path(
        "design.parquet"
    ),
    out: Annotated[Path, typer.Option(help="A folder for chips.parquet, report and chips.")] = (
        Path("chips")
    ),
    bands: Annotated[
        tuple[int, int, int], typer.Option(help="Which bands are red, green and blue.")
    ] = (1, 2, 3),
    size: Annotated[int, typer.Option(min=14, help="Pixels a side.")] = 1024,
    gsd: Annotated[float, typer.Option(min=0.001, help="GSD in m/px.")] = 0.75,
    max_nodata: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a chip without data, at most.")
    ] = 0.05,
    max_cloud: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a chip below cloud, at most.")
    ] = 0.3,
    workers: Annotated[int, typer.Option(min=0, help="Processes.")] = _WORKERS,
) -> None:
    """Cut a chip of every season at every place, or record why there is none."""
    from cgeartheye.config import ChipCutting
    from cgeartheye.jlssd.chips.cut import cut_chips

    if min(bands) < 1:
        raise UserError(f"--bands {' '.join(map(str, bands))}: bands are counted from 1")
    mosaics: dict[str, tuple[str, ...]] = {}
    for given in mosaic:
        season, _, path = given.partition("=")
        if not season.strip() or not path or "/" in season:
            raise UserError(f"--mosaic {given}: write it as spring=spring.tif")
        mosaics[season] = (*mosaics.get(season, ()), path)
    settings = ChipCutting(
        mosaics=mosaics,
        bands=bands,
        size=size,
        gsd=gsd,
        max_nodata=max_nodata,
        max_cloud=max_cloud,
    )
    cut_chips(design, settings, out / "chips.parquet", workers)


@jlssd_app.command("quality")
def quality(
    chips: Annotated[Path, typer.Argument(help="The table that jlssd cut wrote.")],
    out: Annotated[
        Path, typer.Option(help="The table with measures; a contact sheet goes beside it.")
    ] = Path("quality.parquet"),
    config: Annotated[
        Path | None, typer.Option(help="The config of a build, whose limits hold [the defaults].")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="LIMIT=VALUE", help="E.g. max_cloud=0.1. Repeat."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes.")] = _WORKERS,
) -> None:
    """Measure every chip, and drop what is cloudy, hazy, blurred, flat or damaged."""
    from cgeartheye.config import ChipQuality, section
    from cgeartheye.jlssd.quality.filter import filter_chips

    values = _build(config).quality.model_dump() if config else {}
    limits = section(ChipQuality, values, set_)
    filter_chips(chips, out, limits, workers)
    print(f"{out}, and what each rule drops in {out.with_suffix('.jpg')}")


@jlssd_app.command("curate", cls=with_old_options("jlssd curate"))
def curate(
    chips: Annotated[Path, typer.Argument(help="The table that jlssd quality or cut wrote.")],
    backbone: Annotated[
        Path, typer.Option(help="A config whose backbone it is, weights, or tiny: those that ship.")
    ],
    num_places: Annotated[int, typer.Option(min=1, help="Places; their seasons stay together.")],
    out: Annotated[
        Path, typer.Option(help="The table with clusters; its report goes beside it.")
    ] = Path("curated.parquet"),
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="E.g. clusters=[500,25] or dedup_threshold=0.99. Repeat.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the clusters and of the draw.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read chips.")] = _WORKERS,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Encode by many processes: local, or the address of a Ray cluster whose machines "
            "share the folders. Each has --workers that read."
        ),
    ] = None,
) -> None:
    """Thin what is redundant: as many places of every cluster, and no near-duplicates."""
    from cgeartheye.config import Curation, section
    from cgeartheye.jlssd.curation.backbone import read_network
    from cgeartheye.jlssd.curation.curate import curate

    network = read_network(backbone).model_dump(exclude_unset=True)
    settings = section(Curation, {"backbone": network, "num_places": num_places}, set_)
    spread = None
    if cluster:
        from cgeartheye.scale.features import encode_on_cluster

        spread = encode_on_cluster(cluster, chips, settings, seed, workers)
    if curate(chips, out, settings, seed, workers, spread) is not None:
        print(f"{out}, and clusters and balance in {out.with_suffix('.html')}")


@jlssd_app.command("build")
def build(
    config: Annotated[
        Path,
        typer.Argument(
            help="A config file: .yaml, or .py, which is run as a program, so trust its author.",
            metavar="CONFIG",
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Override a field. Repeat."),
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option(help="Where tables and store go [runs/<config name>].")
    ] = None,
) -> None:
    """Design, cut, quality, curate and pack, each step once; and the data card."""
    from cgeartheye.jlssd.pipeline import build

    build(_build(config, [*(set_ or []), *([f"work_dir={work_dir}"] if work_dir else [])]))


def _build(path: Path, overrides: list[str] | None = None) -> "Jlssd":
    from cgeartheye.config import Jlssd, load

    config = load(path, overrides or ())
    if not isinstance(config, Jlssd):
        raise UserError(f"{path} is no config of a build: set task: jlssd in it")
    return config
