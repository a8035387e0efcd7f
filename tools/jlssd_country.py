"""The construction of a pre-training set from end to end, on a synthetic country.

Writes 60 km x 60 km of land cover, elevation and regions, mosaics of four seasons for the 9 km in
its middle, and two configs; then builds the set and pre-trains on it.

    python tools/jlssd_country.py OUT               # or make country
    cgeartheye jlssd build OUT/jlssd.yaml           # again: every step is done before
"""

import argparse
from pathlib import Path

from cgeartheye.config import Jlssd, Pretraining, load
from cgeartheye.jlssd.pipeline import build
from cgeartheye.pretraining.trainer import pretrain
from cgeartheye.synthetic import SEASONS
from cgeartheye.synthetic.country import Country, write_country
from cgeartheye.utils.console import bar
from cgeartheye.utils.io import write_text

BUILD = """task: jlssd
license: made by code, MIT
work_dir: {out}/set
workers: {workers}
design:
  regions: {out}/regions.gpkg
  landcover: [{out}/landcover.tif]
  elevation: [{out}/elevation.tif]
  cell_size: {cells}
  num_places: {total}
cut:
  size: {size}
  mosaics: {{{mosaics}}}
curation:
  backbone: {{name: tiny, weights: random, gsd: 0.75, layer_scale: 1.0}}
  num_places: {keep}
  image_size: 112
  clusters: [40, 8]
  dedup_threshold: 0.9999           # of a random backbone: all its features are alike
"""

PRETRAIN = """task: pretraining
work_dir: {out}/run
backbone: {{name: tiny, weights: random, gsd: 0.75, layer_scale: 1.0}}
data: {{store: {out}/set/store, batch_size: 16, workers: 1}}
views: {{global_size: 70, local_size: 28, local_crops: 4, season_crops: 2}}
heads: {{prototypes: 1024, hidden: 256}}
training: {{steps: {steps}, lr: 1.0e-3, base_batch_size: null, checkpoint_every: 50}}
"""


def write_configs(out: Path, **values: object) -> None:
    """Write `jlssd.yaml` and `pretrain.yaml` beside a country."""
    mosaics = ", ".join(f"{season}: [{out}/mosaics/{season}]" for season in SEASONS)
    write_text(out / "jlssd.yaml", BUILD.format(out=out, mosaics=mosaics, **values))
    write_text(out / "pretrain.yaml", PRETRAIN.format(out=out, **values))


def main() -> None:
    """Write, build, pre-train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kilometers", type=float, default=60.0)
    parser.add_argument("--tiles", type=int, default=6, help="worlds of 1.5 km a side")
    parser.add_argument("--num-places", type=int, default=3000, help="places wanted")
    parser.add_argument("--num-kept", type=int, default=50, help="places kept")
    parser.add_argument("--size", type=int, default=1024, help="pixels of a chip")
    parser.add_argument("--steps", type=int, default=100, help="of pre-training")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    out = given.out.resolve()
    with bar("drawing", given.tiles**2, "worlds") as progress:
        write_country(Country(given.kilometers, given.tiles), out, progress.advance)
    write_configs(
        out,
        cells=1000,
        total=given.num_places,
        size=given.size,
        keep=given.num_kept,
        steps=given.steps,
        workers=given.workers,
    )
    plan, training = load(out / "jlssd.yaml"), load(out / "pretrain.yaml")
    assert isinstance(plan, Jlssd)
    assert isinstance(training, Pretraining)
    build(plan)
    pretrain(training, resume=True)


if __name__ == "__main__":
    main()
