"""Embeddings of scenes, and search in them."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import geopandas

from cgeartheye.api.isolation import own_random_state
from cgeartheye.api.messages import python_words
from cgeartheye.commands.embed import WINDOW, embed_scenes
from cgeartheye.embeddings import search as searching
from cgeartheye.utils.console import muted

Place = str | PathLike[str]


def embed_raster(
    scene: Place | Sequence[Place],
    *,
    out: Place,
    backbone: Place = "tiny",
    weights: Place | None = None,
    level: Literal["patch", "cell"] = "patch",
    num_components: int = 64,
    dtype: Literal["int8", "float16"] = "int8",
    window: int = WINDOW,
    overlap: float | None = None,
    gsd: float | None = None,
    aoi: Place | None = None,
    bands: tuple[int, int, int] | None = None,
    stretch: tuple[float, float] | None = None,
    crs: str | None = None,
    input_gsd: float | None = None,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Encode scenes of any size with a frozen backbone; `cgeartheye embed` does the same.

    Args:
        scene: a raster, or several; a folder of rasters is one mosaic.
        out: a folder, in which each scene gets one by its name.
        backbone: what `create_backbone` takes.
        weights: of the backbone, where its name is none of a file.
        level: `patch`: a vector for each patch of 14 px, in a zarr group; `cell`: one for each
            window, as GeoParquet.
        num_components: principal components of a patch's vector that are kept; 0: all.
        dtype: of those.
        window: pixels a side of what the backbone sees at a time.
        overlap: share of a window that its neighbor covers too.
        gsd: m/px that the backbone sees; none: as in its training.
        aoi: a vector file; outside its polygons nothing is encoded.
        bands: which are red, green and blue, counted from 1.
        stretch: values that become 0 and 255, of more than 8 bits.
        crs: of a scene that names none.
        input_gsd: m/px of a scene that is not georeferenced.
        device: to compute on.
        resume: go on with what is unfinished, and leave out what is finished.
        progress: whether bars and lines are shown.

    Returns:
        The folders of the embeddings.

    Raises:
        UserError: a scene that cannot be read or placed, a folder that holds another embedding, a
            backbone without weights, or a full disk.

    Examples:
        >>> import cgeartheye as cge
        >>> (folder,) = cge.embed_raster("scene.tif", out="embeddings", progress=False)
        >>> folder.name
        'scene'
    """
    given: dict[str, Any] = {
        "overlap": overlap,
        "gsd": gsd,
        "aoi": None if aoi is None else Path(aoi),
        "bands": bands,
        "stretch": stretch,
        "crs": crs,
        "input_gsd": input_gsd,
    }
    scenes = [scene] if isinstance(scene, str | PathLike) else list(scene)
    with python_words(), own_random_state(), muted(not progress):
        return embed_scenes(
            [Path(each) for each in scenes],
            Path(out),
            backbone,
            level,
            {name: value for name, value in given.items() if value is not None},
            None if weights is None else Path(weights),
            window,
            num_components,
            dtype,
            device,
            resume,
        )


def search(
    embeddings: Place,
    at: Sequence[tuple[float, float]],
    unlike: Sequence[tuple[float, float]] = (),
    *,
    top: int = 20,
) -> geopandas.GeoDataFrame:
    """Find places that look like some, in the embeddings of one or many scenes.

    Args:
        embeddings: a folder that `embed_raster` has written, or that of one scene in it.
        at: longitude and latitude of places that are looked for; of scenes without CRS column and
            row of their pixels.
        unlike: of places that are not.
        top: places at most; none overlaps another of its scene.

    Returns:
        The best first: rank, score (cosine), scene, date, lon, lat, and the square of a place.

    Raises:
        UserError: a place outside, no embedding, or embeddings of different weights.

    Examples:
        >>> import cgeartheye as cge
        >>> folders = cge.embed_raster("scene.tif", out="embeddings", progress=False)
        >>> cge.search("embeddings", [(117.0005, 39.7496)], top=3)["rank"].tolist()
        [1, 2, 3]
    """
    return searching.search(Path(embeddings), at, unlike, top)
